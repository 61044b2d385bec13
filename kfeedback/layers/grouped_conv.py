"""Convolution in groups of channels, as AlexNet has it."""

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="kfeedback")
class GroupedConv2D(keras.layers.Conv2D):
    """`keras.layers.Conv2D` that convolves its groups one after the other.

    With g groups the channels of the input and the filters are cut into g parts each,
    in their order, and filters see the channels of their own part only. Arguments,
    weights and results are those of `Conv2D(groups=g)`, which Keras hands to XLA under
    TensorFlow, where its gradient takes a CPU ten times as long.

    Args:
        *args: arguments of `keras.layers.Conv2D`.
        **kwargs: more of them.

    Call arguments:
        x: `(B, H, W, C)`, or `(B, C, H, W)` with `data_format="channels_first"`.

    Returns:
        what `keras.layers.Conv2D` returns.

    Reference:
        Krizhevsky et al., ImageNet classification with deep convolutional neural
        networks, 2012, section 3.2.

    Example:
        >>> x = np.zeros((2, 8, 8, 4), "float32")
        >>> tuple(GroupedConv2D(6, 3, groups=2)(x).shape)
        (2, 6, 6, 6)
    """

    def convolution_op(self, inputs, kernel):
        """The convolution without its bias.

        Args:
            inputs: the maps, as `call` takes them.
            kernel: `(height, width, C / groups, filters)`.
        """
        axis = 1 if self.data_format == "channels_first" else -1
        # The function of the base class takes the groups from the shapes.
        convolve = super().convolution_op
        parts = zip(
            ops.split(inputs, self.groups, axis=axis),
            ops.split(kernel, self.groups, axis=-1),
            strict=True,
        )
        return ops.concatenate([convolve(x, k) for x, k in parts], axis=axis)
