"""The recurrent convolutional layer (RCL) of Liang and Hu."""

import keras
from keras import ops

from kfeedback import checks
from kfeedback.layers._layer import Layer
from kfeedback.layers.initializers import with_seed_offset
from kfeedback.layers.local_response_norm import local_response_normalization


@keras.saving.register_keras_serializable(package="kfeedback")
class RecurrentConv2D(Layer):
    """A convolution whose output is convolved and added to its input again.

    `x(0) = LRN(g(W_f ∗ u + b))`, then for t = 1 … iterations
    `x(t) = LRN(g(W_f ∗ u + W_r ∗ x(t-1) + b))`, with the same `W_f`, `W_r` and `b`
    at every t. `W_f ∗ u + b` is computed once. Stride 1, 'same' padding, channels
    last.

    Args:
        filters: int > 0, output channels.
        kernel_size: odd int, side of both kernels.
        iterations: int ≥ 0, recurrent iterations after the feedforward one.
        activation: g.
        size: odd int, the window of the local response normalization; `None` is
            the paper's `filters / 8 + 1`, made odd.
        alpha: float, its α, divided by `size`.
        beta: float, its β.
        kernel_initializer: initializer of both kernels.
        kernel_regularizer: regularizer of both kernels.
        **kwargs: arguments of `keras.layers.Layer`.

    Call arguments:
        u: `(B, H, W, C)`.

    Returns:
        `(B, H, W, filters)`.

    Raises:
        ValueError: if `filters`, `kernel_size`, `iterations`, `size`, `alpha` or `beta`
            is out of its range.

    Reference:
        Liang and Hu, Recurrent convolutional neural network for object
        recognition, 2015, eq. (1) to (3), 3 iterations, α = 0.001, β = 0.75.

    Example:
        >>> x = np.zeros((2, 8, 8, 4), "float32")
        >>> tuple(RecurrentConv2D(4)(x).shape)
        (2, 8, 8, 4)
    """

    has_relus_inside = True  # one an iteration

    def __init__(
        self,
        filters,
        kernel_size=3,
        iterations=3,
        activation="relu",
        size=None,
        alpha=1e-3,
        beta=0.75,
        kernel_initializer="he_normal",
        kernel_regularizer=None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.filters = checks.integer("filters", filters)
        self.kernel_size = checks.odd_integer("kernel_size", kernel_size)
        self.iterations = checks.integer("iterations", iterations, least=0)
        self.activation = keras.activations.get(activation)
        size = (filters // 8 + 1) | 1 if size is None else size
        self.size = checks.odd_integer("size", size)
        self.alpha = checks.number("alpha", alpha, least=0)
        self.beta = checks.number("beta", beta, least=0)
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.kernel_regularizer = keras.regularizers.get(kernel_regularizer)

    def build(self, input_shape):
        """Makes `kernel`, W_f, `recurrent_kernel`, W_r, and `bias`, b."""
        side = (self.kernel_size, self.kernel_size)
        kernels = (("kernel", input_shape[-1]), ("recurrent_kernel", self.filters))
        for number, (name, channels) in enumerate(kernels):
            weight = self.add_weight(
                name=name,
                shape=(*side, channels, self.filters),
                initializer=with_seed_offset(self.kernel_initializer, number),
                regularizer=self.kernel_regularizer,
            )
            setattr(self, name, weight)
        self.bias = self.add_weight(
            name="bias", shape=(self.filters,), initializer="zeros"
        )

    def call(self, u):
        """Returns `x(iterations)`."""
        feedforward = self._convolve(u, self.kernel) + self.bias
        x = self._respond(feedforward)
        for _ in range(self.iterations):
            x = self._respond(feedforward + self._convolve(x, self.recurrent_kernel))
        return x

    def _convolve(self, x, kernel):
        return ops.conv(x, kernel, padding="same", data_format="channels_last")

    def _respond(self, x):
        x = self.activation(x)
        return local_response_normalization(x, self.size, self.alpha, self.beta, 1.0)

    def compute_output_shape(self, input_shape):
        """`(B, H, W, C)` to `(B, H, W, filters)`."""
        return (*input_shape[:-1], self.filters)
