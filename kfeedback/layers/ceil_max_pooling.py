"""Max pooling that keeps the last, incomplete window, as Caffe does."""

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="kfeedback")
class CeilMaxPooling2D(keras.layers.MaxPooling2D):
    """Max pooling whose output has `⌈(n - p) / s⌉ + 1` places, n the side of the image.

    p is the side of the window, s the stride. Where the last window does not fit, what
    hangs over the border is left out. The "valid" of Keras has the floor instead; its
    "same" agrees with the ceiling for some n only (with p = 3 and s = 2, the even).

    Args:
        pool_size: int or two, p.
        strides: int or two, s ≤ p.
        **kwargs: arguments of `keras.layers.MaxPooling2D` but another `padding`.

    Call arguments:
        x: `(B, H, W, C)`, H and W at least `p - s + 1`; or `(B, C, H, W)` with
            `data_format="channels_first"`.

    Returns:
        a tensor like `x`, with other H and W.

    Raises:
        ValueError: if a stride is larger than its window, or `padding` is not "valid".

    Reference:
        Jia et al., Caffe: Convolutional architecture for fast feature embedding, 2014.

    Example:
        >>> x = np.zeros((2, 8, 8, 4), "float32")
        >>> tuple(CeilMaxPooling2D(3, 2)(x).shape)
        (2, 4, 4, 4)
    """

    def __init__(self, pool_size=3, strides=2, **kwargs):
        super().__init__(pool_size, strides, **kwargs)
        if self.padding != "valid":
            raise ValueError(f"padding must be 'valid', got {self.padding!r}.")
        if any(s > p for s, p in zip(self.strides, self.pool_size, strict=True)):
            raise ValueError(
                f"strides must be at most pool_size, {self.pool_size}, got "
                f"{self.strides}."
            )

    def _of_axes(self, rest, sides):
        """What belongs to batch, channels and the two sides, in the order of axes."""
        batch, channels = rest
        if self.data_format == "channels_first":
            return (batch, channels, *sides)
        return (batch, *sides, channels)

    def call(self, x):
        """Returns the pooled maps."""
        # Over s - 1 places more the floor is the ceiling.
        more = self._of_axes([(0, 0)] * 2, [(0, s - 1) for s in self.strides])
        return super().call(ops.pad(x, more, constant_values=-float("inf")))

    def compute_output_shape(self, input_shape):
        """The shape of `x` with the pooled sides."""
        more = self._of_axes((0, 0), [s - 1 for s in self.strides])
        return super().compute_output_shape(
            [n and n + m for n, m in zip(input_shape, more, strict=True)]
        )
