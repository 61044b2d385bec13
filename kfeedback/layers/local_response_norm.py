"""Local response normalization across channels, as in AlexNet, GoogLeNet and RCNN."""

import keras
import numpy as np
from keras import ops

from kfeedback import checks
from kfeedback.layers._layer import Layer


def local_response_normalization(x, size, alpha, beta, k):
    """The function behind the layer; `x` is `(..., C)`, see there for the equation."""
    channels = x.shape[-1]
    # The sum over neighboring channels is one product with a band of ones: a matrix
    # product, where slices and pooling over the last axis would be strided traffic.
    distance = np.abs(np.subtract.outer(np.arange(channels), np.arange(channels)))
    band = ops.convert_to_tensor((distance <= size // 2).astype("float32"))
    # Scaled before it is squared: in float16 the square of 256 is infinite.
    energy = ops.square(x * (alpha / size) ** 0.5)
    denominator = k + ops.matmul(energy, ops.cast(band, x.dtype))
    if beta == 0.75:  # the usual value, and two roots cost far less than a power
        inverse_root = ops.rsqrt(denominator)
        return x * (inverse_root * ops.sqrt(inverse_root))
    return x * ops.power(denominator, -beta)


@keras.saving.register_keras_serializable(package="kfeedback")
class LocalResponseNormalization(Layer):
    """Divides each activation by the energy of its neighbors in channel order.

    `y_i = x_i / (k + α/n · Σ_j x_j²)^β`, j over the n channels around i, fewer at
    the borders. `α` is divided by `n`, as Caffe and its model zoo do; the AlexNet
    paper's own α is `α/n` here.

    Args:
        size: odd int, n, the channels of the window.
        alpha: float, α.
        beta: float, β.
        k: float > 0, k.
        **kwargs: arguments of `keras.layers.Layer`.

    Call arguments:
        x: `(..., C)`, channels last.

    Returns:
        a tensor like `x`.

    Raises:
        ValueError: if `size` is not an odd positive integer, `alpha` or `beta` is
            negative or `k` is not above 0.

    Reference:
        Krizhevsky et al., ImageNet classification with deep convolutional neural
        networks, 2012, section 3.3.

    Example:
        >>> x = np.zeros((2, 8, 8, 4), "float32")
        >>> tuple(LocalResponseNormalization()(x).shape)
        (2, 8, 8, 4)
    """

    def __init__(self, size=5, alpha=1e-4, beta=0.75, k=1.0, **kwargs):
        super().__init__(**kwargs)
        self.size = checks.odd_integer("size", size)
        self.alpha = checks.number("alpha", alpha, least=0)
        self.beta = checks.number("beta", beta, least=0)
        self.k = checks.number("k", k, above=0)

    def call(self, x):
        """Returns the normalized activations."""
        return local_response_normalization(x, self.size, self.alpha, self.beta, self.k)

    def compute_output_shape(self, input_shape):
        """The shape of `x`."""
        return input_shape
