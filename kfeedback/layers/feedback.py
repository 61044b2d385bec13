"""The feedback layer of Learning with Rethinking: posterior to emphasis vector."""

import keras
from keras import ops

from kfeedback import checks
from kfeedback.layers._layer import Layer


@keras.saving.register_keras_serializable(package="kfeedback")
class Feedback(Layer):
    r"""Maps the posterior of one pass to the emphasis vector of the next.

    `â = W p + b`, then `a_i = C exp(â_i) / Σ_j exp(â_j)`: positive weights with
    mean 1 over the `C` channels. With `W = 0` and `b = 0`, the initial values,
    every `a_i` is exactly 1, so an inserted layer changes nothing yet. It learns
    all the same: the gradient with respect to `W` does not vanish there.

    The arithmetic is done in the dtype of the weights, also under a mixed policy. (The
    saliency method of that name is `kfeedback.explain.Feedback`.)

    Args:
        channels: int > 0, `C`, the channels of the layer that is emphasized.
        kernel_initializer: initializer of `W`; zeros keep a trained network's
            predictions, large random values diverge in training.
        bias_initializer: initializer of `b`.
        kernel_regularizer: regularizer of `W`.
        **kwargs: arguments of `keras.layers.Layer`.

    Call arguments:
        posterior: `(B, classes)`, one probability a class.

    Returns:
        `(B, channels)`, the emphasis vector.

    Raises:
        ValueError: if `channels` is not a positive integer.

    Reference:
        Li et al., Learning with Rethinking, 2017, eq. (1) and (2).

    Example:
        >>> posterior = np.full((2, 10), 0.1, "float32")
        >>> tuple(Feedback(channels=16)(posterior).shape)
        (2, 16)
    """

    # A weights file marks such layers: a model of one timestep has none of them.
    is_feedback_connection = True

    def __init__(
        self,
        channels,
        kernel_initializer="zeros",
        bias_initializer="zeros",
        kernel_regularizer=None,
        **kwargs,
    ):
        super().__init__(autocast=False, **kwargs)
        self.channels = checks.integer("channels", channels)
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.bias_initializer = keras.initializers.get(bias_initializer)
        self.kernel_regularizer = keras.regularizers.get(kernel_regularizer)

    def build(self, input_shape):
        """Makes `W`, shape `(classes, channels)`, and `b`, shape `(channels,)`."""
        # Keras heeds autocast=False of the layer only within a model's own scope.
        self.kernel = self.add_weight(
            name="kernel",
            shape=(input_shape[-1], self.channels),
            initializer=self.kernel_initializer,
            regularizer=self.kernel_regularizer,
            autocast=False,
        )
        self.bias = self.add_weight(
            name="bias",
            shape=(self.channels,),
            initializer=self.bias_initializer,
            autocast=False,
        )

    def call(self, posterior):
        """Returns the emphasis vector of eq. (2)."""
        posterior = ops.cast(posterior, self.variable_dtype)
        scores = ops.matmul(posterior, self.kernel) + self.bias
        scores = scores - ops.stop_gradient(ops.max(scores, axis=-1, keepdims=True))
        exponentials = ops.exp(scores)
        # channels / sum is exactly 1 for equal scores; softmax times channels is not.
        scale = self.channels / ops.sum(exponentials, axis=-1, keepdims=True)
        return exponentials * scale

    def compute_output_shape(self, input_shape):
        """`(B, classes)` to `(B, channels)`."""
        return (*input_shape[:-1], self.channels)

    def compute_output_spec(self, posterior):
        """As `compute_output_shape`, in the dtype of the weights."""
        return keras.KerasTensor(
            self.compute_output_shape(posterior.shape), dtype=self.variable_dtype
        )
