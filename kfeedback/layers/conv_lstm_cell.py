"""The cell of feedback ConvLSTM networks."""

import keras
from keras import ops

from kfeedback import checks
from kfeedback.layers._layer import Layer
from kfeedback.layers.conv_lstm_gates import (
    GATES,
    ConvLSTMGates,
    OldNames,
    conv,
    strided,
)


@keras.saving.register_keras_serializable(package="kfeedback")
class ConvLSTMCell(OldNames, Layer):
    """One timestep of a convolutional LSTM, a pure function of `(X, (H, C))`.

        i = σ(W_xi(X) + W_hi(H)),   f = σ(W_xf(X) + W_hf(H)),
        g = tanh(W_xg(X) + W_hg(H)),   o = σ(W_xo(X) + W_ho(H)),
        C' = f ∘ C + i ∘ g,   H' = o ∘ tanh(C').

    Each W is a convolution with bias, followed by batch norm if wanted; those of one
    source are one `ConvLSTMGates`. The cell holds no state: it takes one and returns
    the next.

    Where no batch norm takes the statistics of the batch, it is part of the kernel, and
    at stride 1 X and H go through one convolution together. Without a state nothing is
    convolved with its zeros: W_h(0) is one vector, the bias, or with batch norm, which
    takes a constant away, its β.

    Args:
        filters: int ≥ 1, F, channels of H and C.
        kernel_size: odd int, side of all kernels.
        strides: int ≥ 1, of the convolution of X.
        batch_norm: bool, batch norm after both convolutions; γ and β are shared by
            all timesteps.
        timesteps: int ≥ 1, how many have moving statistics of their own; later ones
            use those of the last of these.
        convolve_input: bool; `False` for a cell whose inputs are `W_x(X)` already,
            `(B, H, W, 4F)`, of a `ConvLSTMGates` that is called once for all timesteps.
        momentum: of the moving means and variances.
        epsilon: added to the variances.
        kernel_initializer: initializer of the kernel of each gate for X.
        recurrent_initializer: the same for H.
        kernel_regularizer: regularizer of all kernels.
        **kwargs: arguments of `keras.layers.Layer`.

    Call arguments:
        inputs: X, `(B, H, W, channels)`.
        state: `None` for zeros, or the pair (H, C), each `(B, H/strides, W/strides,
            F)`; height and width need not be known when the layer is built.
        timestep: int ≥ 0, which one this is; of use with batch norm only.
        is_last: bool, in training the statistics of later timesteps move, too.
        training: bool, statistics of the batch unless the layer is frozen.

    Returns:
        the pair (H', C'); H' is the output of the cell.

    Raises:
        ValueError: if a number is out of its range, `strides` does not divide a known
            height or width, or the state is no such pair.

    The padding is the published one, half the kernel on both sides, also where strides
    > 1; `keras.layers.ConvLSTM2D` then pads an even side at its end only.

    Departures from the published code: moving statistics are those of a timestep, not
    of all together, which none has in training. The bias of the forget gate for X
    starts at 1, as published; in training a batch norm takes it away again.

    Reference:
        Shi et al., Convolutional LSTM network, 2015, eq. (3) without peepholes; Zamir
        et al., Feedback networks, 2017, section 3.

    Example:
        >>> x = np.zeros((2, 8, 8, 4), "float32")
        >>> cell = ConvLSTMCell(6)
        >>> state = cell(x)
        >>> hidden, memory = cell(x, state, timestep=1)
        >>> tuple(hidden.shape)
        (2, 8, 8, 6)
    """

    def __init__(
        self,
        filters,
        kernel_size=3,
        strides=1,
        batch_norm=False,
        timesteps=1,
        convolve_input=True,
        momentum=0.9,
        epsilon=1e-5,
        kernel_initializer="glorot_uniform",
        recurrent_initializer="orthogonal",
        kernel_regularizer=None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.filters = checks.integer("filters", filters)
        self.convolve_input = checks.boolean("convolve_input", convolve_input)
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.recurrent_initializer = keras.initializers.get(recurrent_initializer)
        self.strides = checks.integer("strides", strides)
        if not convolve_input and strides > 1:
            raise ValueError(
                f"strides must be 1 with convolve_input=False, got {strides}."
            )
        self.kernel_size, self.timesteps = kernel_size, timesteps
        self.batch_norm, self.momentum, self.epsilon = batch_norm, momentum, epsilon
        self.kernel_regularizer = keras.regularizers.get(kernel_regularizer)
        common = {
            "kernel_size": kernel_size,
            "batch_norm": batch_norm,
            "timesteps": timesteps,
            "momentum": momentum,
            "epsilon": epsilon,
            "kernel_regularizer": self.kernel_regularizer,
            "dtype": self.dtype_policy,
        }
        self.input_gates = None
        if convolve_input:
            self.input_gates = ConvLSTMGates(
                filters,
                strides=strides,
                forget_bias=1.0,
                kernel_initializer=self.kernel_initializer,
                name="input_gates",
                **common,
            )
        self.recurrent_gates = ConvLSTMGates(
            filters,
            kernel_initializer=self.recurrent_initializer,
            name="recurrent_gates",
            **common,
        )

    def build(self, inputs_shape, state_shape=None):
        """Builds the gates of X and H."""
        if self.input_gates is not None:
            self.input_gates.build(inputs_shape)
        elif inputs_shape[-1] != GATES * self.filters:
            raise ValueError(
                f"inputs must have {GATES * self.filters} channels, 4 times the "
                f"filters, with convolve_input=False, got {inputs_shape[-1]}."
            )
        self.recurrent_gates.build(self.compute_output_shape(inputs_shape))

    def call(self, inputs, state=None, timestep=0, is_last=False, training=None):
        """Returns the next (H, C)."""
        self._check_state(inputs, state)
        checks.integer("timestep", timestep, least=0)
        gates = self._gates(inputs, state, timestep, is_last, training)
        i, f, g, o = ops.split(gates, GATES, axis=-1)
        memory = ops.sigmoid(i) * ops.tanh(g)
        if state is not None:
            memory = ops.sigmoid(f) * state[1] + memory
        return ops.sigmoid(o) * ops.tanh(memory), memory

    def _gates(self, x, state, timestep, is_last, training):
        """`W_x(X) + W_h(H)`, `(B, h, w, 4F)`."""
        for_input, for_state = self.input_gates, self.recurrent_gates
        together = for_input is not None and self.strides == 1 and state is not None
        by_batch = [
            g.uses_batch_statistics(training) for g in (for_input, for_state) if g
        ]
        if together and not any(by_batch):
            (kernel, shift), (recurrent_kernel, recurrent_shift) = (
                gates.folded(timestep) for gates in (for_input, for_state)
            )
            gates = conv(
                ops.concatenate([x, state[0]], axis=-1),
                ops.concatenate([kernel, recurrent_kernel], axis=2),
            )
            return gates + ops.cast(shift + recurrent_shift, gates.dtype)
        time = {"timestep": timestep, "is_last": is_last, "training": training}
        if for_input is not None:
            x = for_input(x, **time)
        if state is None:
            return x + ops.cast(for_state.gates_of_zero_state(), x.dtype)
        return x + for_state(state[0], **time)

    def _check_state(self, inputs, state):
        if state is None:
            return
        wanted = self.compute_output_shape(inputs.shape)
        found = type(state).__name__
        if isinstance(state, tuple | list):
            found = [tuple(getattr(x, "shape", ())) for x in state]
            if len(found) == 2 and all(_fits(shape, wanted) for shape in found):
                return
        raise ValueError(
            f"state must be None or a pair of tensors of shape {wanted}, got {found}."
        )

    def compute_output_spec(
        self, inputs, state=None, timestep=0, is_last=False, training=None
    ):
        """Shapes and dtype of (H', C')."""
        self._check_state(inputs, state)
        shape = self.compute_output_shape(inputs.shape)
        return tuple(
            keras.KerasTensor(shape, dtype=self.compute_dtype) for _ in range(2)
        )

    def compute_output_shape(self, inputs_shape, *_):
        """`(B, H, W, channels)` to the `(B, H/strides, W/strides, F)` of H'."""
        return strided(inputs_shape, self.strides, self.filters)


def _fits(shape, wanted):
    if len(shape) != len(wanted):
        return False
    pairs = zip(shape, wanted, strict=True)
    return all(a is None or b is None or a == b for a, b in pairs)
