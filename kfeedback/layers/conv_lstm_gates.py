"""The share of one source in the gates of a ConvLSTM cell."""

import keras
import numpy as np
from keras import ops

from kfeedback import checks, renamed
from kfeedback.layers._layer import Layer
from kfeedback.layers.fused_batch_norm import batch_norm, update_moving_average
from kfeedback.layers.initializers import with_seed_offset

GATES = 4


class OldNames:
    """For layers of files of earlier versions, which call a timestep a step."""

    @classmethod
    def from_config(cls, config):
        """The layer of what `get_config` gave."""
        return super().from_config(renamed.current(config, steps="timesteps"))

    def __call__(self, *args, **kwargs):
        """As `keras.layers.Layer`; a saved graph of calls is made of these again."""
        return super().__call__(*args, **renamed.current(kwargs, step="timestep"))


@keras.saving.register_keras_serializable(package="kfeedback")
class ConvLSTMGates(OldNames, Layer):
    """`W(x)` for the gates i, f, g, o of a ConvLSTM cell, as one convolution.

    W is a convolution with bias, padded by half the kernel on both sides, followed by
    batch norm if wanted. A `ConvLSTMCell` has one for its input and one for its state;
    it stands alone where an input is the same at every timestep, so that its share is
    computed once.

    Args:
        filters: int ≥ 1, F, channels of each gate.
        kernel_size: odd int, side of the kernels.
        strides: int ≥ 1.
        batch_norm: bool.
        timesteps: int ≥ 1, how many have moving statistics of their own; later ones
            use those of the last of these. One set for all would predict what no
            timestep does in training (Cooijmans et al., 2017, section 3).
        forget_bias: float ≥ 0, where the bias of the forget gate starts; the others
            start at 0. In training a batch norm takes it away again.
        momentum: of the moving mean and variance of the batch norm.
        epsilon: added to the variance.
        kernel_initializer: initializer of the kernel of each gate.
        kernel_regularizer: regularizer of the kernels.
        **kwargs: arguments of `keras.layers.Layer`.

    Call arguments:
        x: `(B, H, W, C)`.
        timestep: int ≥ 0, which one of the recurrence this is.
        is_last: bool; in training the last one moves the statistics of later ones,
            too, so that they are of use in a longer recurrence.
        training: bool; statistics of the batch instead of the moving ones, unless the
            layer is frozen.

    Returns:
        `(B, H/strides, W/strides, 4F)`, in the order i, f, g, o.

    Raises:
        ValueError: if a number is out of its range, or `strides` does not divide a
            known height or width.

    Example:
        >>> x = np.zeros((2, 8, 8, 4), "float32")
        >>> tuple(ConvLSTMGates(6, strides=2)(x).shape)
        (2, 4, 4, 24)
    """

    def __init__(
        self,
        filters,
        kernel_size=3,
        strides=1,
        batch_norm=False,
        timesteps=1,
        forget_bias=0.0,
        momentum=0.9,
        epsilon=1e-5,
        kernel_initializer="glorot_uniform",
        kernel_regularizer=None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.filters = checks.integer("filters", filters)
        self.kernel_size = checks.odd_integer("kernel_size", kernel_size)
        self.strides = checks.integer("strides", strides)
        self.batch_norm = checks.boolean("batch_norm", batch_norm)
        self.timesteps = checks.integer("timesteps", timesteps)
        self.forget_bias = checks.number("forget_bias", forget_bias, least=0)
        self.momentum = checks.number("momentum", momentum, least=0, below=1)
        self.epsilon = checks.number("epsilon", epsilon, above=0)
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.kernel_regularizer = keras.regularizers.get(kernel_regularizer)

    def build(self, input_shape):
        """Makes kernel and bias, and gamma, beta and moving statistics."""
        _, *sides, channels = input_shape
        if any(side is not None and side % self.strides for side in sides):
            raise ValueError(
                "strides must divide the input's height and width, got "
                f"{self.strides} for {tuple(sides)}."
            )
        self.kernel = self.add_weight(
            name="kernel",
            shape=(self.kernel_size, self.kernel_size, channels, GATES * self.filters),
            initializer=self._initial_kernel,
            regularizer=self.kernel_regularizer,
        )
        self.bias = self._add_vector("bias", self._initial_bias)
        if self.batch_norm:
            self.gamma = self._add_vector("gamma", "ones")
            self.beta = self._add_vector("beta", "zeros")
            self.moving_mean = self._add_moving("moving_mean", "zeros")
            self.moving_variance = self._add_moving("moving_variance", "ones")

    def _initial_kernel(self, shape, dtype=None):
        shape = (*shape[:-1], self.filters)
        draws = [with_seed_offset(self.kernel_initializer, n) for n in range(GATES)]
        return ops.concatenate([draw(shape, dtype=dtype) for draw in draws], axis=-1)

    def _initial_bias(self, shape, dtype=None):
        gates = ops.convert_to_tensor([0.0, self.forget_bias, 0.0, 0.0], dtype)
        return ops.repeat(gates, self.filters)

    def _add_vector(self, name, initializer):
        return self.add_weight(
            name=name,
            shape=(GATES * self.filters,),
            initializer=initializer,
            autocast=False,
        )

    def _add_moving(self, name, initializer):
        return self.add_weight(
            name=name,
            shape=(self.timesteps, GATES * self.filters),
            initializer=initializer,
            trainable=False,
            autocast=False,
        )

    def call(self, x, timestep=0, is_last=False, training=None):
        """Returns `W(x)`."""
        if not self.uses_batch_statistics(training):
            kernel, shift = self.folded(timestep)
            return conv(x, kernel, self.strides) + ops.cast(shift, x.dtype)
        x = conv(x, ops.convert_to_tensor(self.kernel), self.strides)
        gamma = ops.convert_to_tensor(self.gamma)
        # The mean of the batch takes the bias away, so the gradient of that is zero.
        beta = self.beta + 0.0 * self.bias
        x, mean, variance = batch_norm(x, gamma, beta, self.epsilon)
        slot = self._slot(timestep)
        moved = np.zeros((self.timesteps, 1), bool)
        moved[slot : None if is_last else slot + 1] = True
        update_moving_average(self.moving_mean, mean + self.bias, self.momentum, moved)
        update_moving_average(self.moving_variance, variance, self.momentum, moved)
        return x

    def gates_of_zero_state(self):
        """`W(0)`, the same at every place, `(4F,)`: a constant is its own mean."""
        if not self.batch_norm:
            return ops.convert_to_tensor(self.bias)
        return self.beta + 0.0 * self.bias

    def uses_batch_statistics(self, training):
        """Whether `call` normalizes by the statistics of the batch.

        Args:
            training: bool, or `None` for no.
        """
        return self.batch_norm and bool(training) and self.trainable

    def folded(self, timestep=0):
        """`(kernel, shift)` of the convolution that is W with moving statistics.

        Args:
            timestep: int ≥ 0, whose moving statistics.
        """
        kernel, bias = ops.convert_to_tensor(self.kernel), self.bias
        if not self.batch_norm:
            return kernel, ops.convert_to_tensor(bias)
        slot = self._slot(timestep)
        mean, variance = self.moving_mean[slot], self.moving_variance[slot]
        scale = self.gamma * ops.rsqrt(variance + self.epsilon)
        folded = ops.cast(ops.cast(kernel, scale.dtype) * scale, kernel.dtype)
        return folded, self.beta + (bias - mean) * scale

    def _slot(self, timestep):
        return min(checks.integer("timestep", timestep, least=0), self.timesteps - 1)

    def compute_output_shape(self, input_shape):
        """`(B, H, W, C)` to `(B, H/strides, W/strides, 4F)`."""
        return strided(input_shape, self.strides, GATES * self.filters)


def strided(shape, strides, channels):
    """The shape of what a padded convolution makes of a shape `(B, H, W, C)`."""
    batch, *sides, _ = shape
    sides = (side if side is None else -(-side // strides) for side in sides)
    return (batch, *sides, channels)


def conv(x, kernel, strides=1):
    """A convolution, channels last, that pads both sides by half the kernel."""
    padding = "same"
    if strides > 1:
        sides = [(size // 2, size // 2) for size in kernel.shape[:2]]
        x = ops.pad(x, [(0, 0), *sides, (0, 0)])
        padding = "valid"
    return ops.conv(x, kernel, strides, padding=padding, data_format="channels_last")
