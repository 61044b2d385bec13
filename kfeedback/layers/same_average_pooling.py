"""Average pooling with "same" padding that is one thing on every backend."""

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="kfeedback")
class SameAveragePooling2D(keras.layers.AveragePooling2D):
    """Average pooling to `⌈n / s⌉` places, each the mean of the pixels in its window.

    n is the side of the image, s the stride. What hangs over the border is left out of
    the mean. That is Keras' average pooling with `padding="same"` under TensorFlow and
    JAX; under PyTorch, Keras 3.15 repeats the last pixels there instead, where the
    window hangs over one border more than over the other.

    Args:
        pool_size: int or two, the window.
        strides: int or two, s.
        **kwargs: arguments of `keras.layers.AveragePooling2D` but another `padding`.

    Call arguments:
        x: `(B, H, W, C)`, or `(B, C, H, W)` with `data_format="channels_first"`.

    Returns:
        a tensor like `x`, with other H and W.

    Raises:
        ValueError: if `padding` is not "same".

    Example:
        >>> x = np.zeros((2, 8, 8, 4), "float32")
        >>> tuple(SameAveragePooling2D(3, 2)(x).shape)
        (2, 4, 4, 4)
    """

    def __init__(self, pool_size=3, strides=2, padding="same", **kwargs):
        super().__init__(pool_size, strides, padding, **kwargs)
        if self.padding != "same":
            raise ValueError(f"padding must be 'same', got {self.padding!r}.")

    def call(self, x):
        """Returns the pooled maps."""
        if keras.backend.backend() != "torch":
            return super().call(x)
        first = self.data_format == "channels_first"
        sides = x.shape[2:] if first else x.shape[1:3]
        over = [(0, 0)] * 4
        settings = zip(sides, self.pool_size, self.strides, strict=True)
        for axis, (n, p, s) in enumerate(settings, start=2 if first else 1):
            more = max((-(-n // s) - 1) * s + p - n, 0)
            over[axis] = (more // 2, more - more // 2)
        # The mean over a window with zeros, and which share of it is image.
        means, shares = (
            ops.average_pool(
                ops.pad(one, over),
                self.pool_size,
                self.strides,
                "valid",
                self.data_format,
            )
            for one in (x, ops.ones_like(x))
        )
        return means / shares
