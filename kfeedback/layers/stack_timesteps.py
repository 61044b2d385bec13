"""The axis of timesteps."""

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="kfeedback")
class StackTimesteps(keras.layers.Layer):
    """Stacks the outputs of T passes, `(B, ...)` each, to `(B, T, ...)`.

    Args:
        *args, **kwargs: arguments of `keras.layers.Layer`.

    Call arguments:
        outputs: list of T tensors of one shape.

    Returns:
        one tensor `(B, T, ...)`.

    Example:
        >>> p = np.full((2, 10), 0.1, "float32")
        >>> tuple(StackTimesteps()([p, p, p]).shape)
        (2, 3, 10)
    """

    def call(self, outputs):
        """Returns the stacked tensor."""
        return ops.stack(outputs, axis=1)

    def compute_output_shape(self, shapes):
        """`T` times `(B, ...)` to `(B, T, ...)`."""
        batch, *rest = shapes[0]
        return (batch, len(shapes), *rest)
