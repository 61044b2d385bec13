"""The contextual modules of contextual recurrent convolutional networks."""

import numbers

import keras
from keras import ops

from kfeedback.layers._layer import Layer

MODULES = ("proposed", 1, 2, 3)


@keras.saving.register_keras_serializable(package="kfeedback")
class Contextual(Layer):
    """Feeds a higher layer's output back into a lower one.

    With the lower layer's bottom-up output B and the higher layer's output of the
    previous pass, brought to the size of B by nearest-neighbor upsampling and, where
    channels differ, to its channels by a 1×1 convolution, U:

    | module | gate | contextual | output |
    | --- | --- | --- | --- |
    | `"proposed"` | tanh(conv3×3([U, B])) | – | gate ∘ U + B |
    | `1` | tanh(conv1×1(U)) | conv3×3([U, B]) | gate ∘ contextual + B |
    | `2` | tanh(conv1×1([U, B])) | conv3×3([U, B]) | gate ∘ contextual + B |
    | `3` | tanh(conv1×1(U)) | conv3×3([U, B]) | tanh(contextual) ∘ U + gate ∘
    contextual + B |

    The gate's convolution starts at zero, in module 3 the contextual one, and so does
    every bias: at first the output is B.

    Args:
        module: `"proposed"`, 1, 2 or 3.
        kernel_initializer: initializer of the kernels that do not start at zero.
        kernel_regularizer: regularizer of all kernels.
        **kwargs: arguments of `keras.layers.Layer`.

    Call arguments:
        bottom_up: B, `(B, H, W, C)`.
        top_down: `(B, h, w, channels)`. Its pixel (⌊i h / H⌋, ⌊j w / W⌋) goes to pixel
            (i, j); sides may be known at call time only.

    Returns:
        `(B, H, W, C)`.

    Raises:
        ValueError: if there is no such module, or an input is no feature map.

    Departures from the paper: it names neither the interpolation nor the initial
    values; and its sides are all multiples of each other.

    Reference:
        Wang et al., Contextual recurrent convolutional model for robust visual
        learning, 2019, eq. (2) to (5).

    Example:
        >>> bottom_up = np.zeros((2, 8, 8, 4), "float32")
        >>> top_down = np.zeros((2, 4, 4, 6), "float32")
        >>> tuple(Contextual()(bottom_up, top_down).shape)
        (2, 8, 8, 4)
    """

    is_feedback_connection = True

    def __init__(
        self,
        module="proposed",
        kernel_initializer="glorot_uniform",
        kernel_regularizer=None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.module = check_module("module", module)
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.kernel_regularizer = keras.regularizers.get(kernel_regularizer)

    def build(self, bottom_up_shape, top_down_shape):
        """Makes the convolutions that the module has."""
        for name, shape in (
            ("bottom_up", bottom_up_shape),
            ("top_down", top_down_shape),
        ):
            if len(shape) != 4 or 0 in shape or shape[-1] is None:
                raise ValueError(
                    f"{name} must have the shape (B, H, W, C), got {tuple(shape)}."
                )
        channels = bottom_up_shape[-1]
        upsampled = (*bottom_up_shape[:-1], channels)
        both = (*bottom_up_shape[:-1], 2 * channels)
        self.align = None
        if top_down_shape[-1] != channels:
            self.align = self._conv("align", channels, 1, self.kernel_initializer)
            self.align.build(top_down_shape)
        self.gate = self.contextual = None
        zeros, random = "zeros", self.kernel_initializer
        if self.module == "proposed":
            self.gate = self._conv("gate", channels, 3, zeros)
            self.gate.build(both)
            return
        self.gate = self._conv(
            "gate", channels, 1, random if self.module == 3 else zeros
        )
        self.gate.build(both if self.module == 2 else upsampled)
        self.contextual = self._conv(
            "contextual", channels, 3, zeros if self.module == 3 else random
        )
        self.contextual.build(both)

    def _conv(self, name, filters, kernel_size, initializer):
        return keras.layers.Conv2D(
            filters,
            kernel_size,
            padding="same",
            data_format="channels_last",
            kernel_initializer=initializer,
            kernel_regularizer=self.kernel_regularizer,
            dtype=self.dtype_policy,
            name=name,
        )

    def call(self, bottom_up, top_down):
        """Returns the lower layer's output with feedback."""
        # A 1×1 convolution is the same before the upsampling, and cheaper.
        u = top_down if self.align is None else self.align(top_down)
        for axis in (1, 2):
            u = _resized(u, ops.shape(bottom_up)[axis], axis)
        both = ops.concatenate([u, bottom_up], axis=-1)
        if self.module == "proposed":
            return ops.tanh(self.gate(both)) * u + bottom_up
        gate = ops.tanh(self.gate(both if self.module == 2 else u))
        contextual = self.contextual(both)
        result = gate * contextual + bottom_up
        if self.module == 3:
            result = ops.tanh(contextual) * u + result
        return result

    def compute_output_shape(self, bottom_up_shape, top_down_shape):
        """That of B."""
        return bottom_up_shape


def check_module(name, module):
    """Returns `module`; raises a ValueError unless there is such a one.

    NumPy's integers are integers, `True` and `1.0` are not.
    """
    known = isinstance(module, str | numbers.Integral) and not isinstance(module, bool)
    if not known or module not in MODULES:
        raise ValueError(f"{name} must be 'proposed', 1, 2 or 3, got {module!r}.")
    return module if isinstance(module, str) else int(module)


def _resized(x, size, axis):
    """A side brought to a size, that of the nearest pixel: ⌊i h / H⌋ for pixel i."""
    own = ops.shape(x)[axis]
    known = isinstance(own, int) and isinstance(size, int)
    if known and size % own == 0:
        return ops.repeat(x, size // own, axis=axis) if size > own else x
    places = ops.arange(size, dtype="int32") * own // size
    return ops.take(x, places, axis=axis)
