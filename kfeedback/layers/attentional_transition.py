"""The channel-wise attention of CliqueNet's attentional transition."""

import keras
from keras import ops

from kfeedback.layers._layer import Layer
from kfeedback.layers.initializers import with_seed_offset


@keras.saving.register_keras_serializable(package="kfeedback")
class AttentionalTransition(Layer):
    """Weights each channel by what the whole map says.

    `x · σ(W_2 relu(W_1 x̄ + b_1) + b_2)`, x̄ the mean over height and width; the first
    dense layer has half as many units as there are channels.

    Args:
        kernel_initializer: initializer of `W_1` and `W_2`.
        **kwargs: arguments of `keras.layers.Layer`.

    Call arguments:
        x: `(B, H, W, C)`, C even.

    Returns:
        a tensor like `x`.

    Raises:
        ValueError: if C is odd.

    Reference:
        Yang et al., Convolutional neural networks with alternately updated clique,
        2018, section 3.3.

    Example:
        >>> x = np.zeros((2, 8, 8, 4), "float32")
        >>> tuple(AttentionalTransition()(x).shape)
        (2, 8, 8, 4)
    """

    has_relus_inside = True

    def __init__(self, kernel_initializer="glorot_uniform", **kwargs):
        super().__init__(**kwargs)
        self.kernel_initializer = keras.initializers.get(kernel_initializer)

    def build(self, input_shape):
        """Makes `W_1`, `b_1`, `W_2` and `b_2`."""
        channels = input_shape[-1]
        if channels % 2:
            raise ValueError(f"x must have an even number of channels, got {channels}.")
        half = channels // 2
        self.kernels, self.biases = [], []
        for number, shape in enumerate([(channels, half), (half, channels)], start=1):
            kernel = self.add_weight(
                name=f"kernel_{number}",
                shape=shape,
                initializer=with_seed_offset(self.kernel_initializer, number),
            )
            bias = self.add_weight(
                name=f"bias_{number}", shape=shape[1:], initializer="zeros"
            )
            self.kernels.append(kernel)
            self.biases.append(bias)

    def call(self, x):
        """Returns the weighted channels."""
        mean = ops.mean(x, axis=(1, 2), keepdims=True)
        hidden = ops.relu(ops.matmul(mean, self.kernels[0]) + self.biases[0])
        scores = ops.matmul(hidden, self.kernels[1]) + self.biases[1]
        return x * ops.sigmoid(scores)

    def compute_output_shape(self, input_shape):
        """The shape of `x`."""
        return input_shape
