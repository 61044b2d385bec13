"""The emphasis layer of Learning with Rethinking: channels weighted by a vector."""

import keras
from keras import ops

from kfeedback import checks
from kfeedback.layers._layer import Layer


@keras.saving.register_keras_serializable(package="kfeedback")
class Emphasis(Layer):
    """Multiplies every channel of a feature map by its emphasis: `f'_i = a_i f_i`.

    Args:
        data_format: `"channels_last"` or `"channels_first"`; the default is
            `keras.config.image_data_format()`.
        **kwargs: arguments of `keras.layers.Layer`.

    Call arguments:
        features: `(B, H, W, C)`, or `(B, C, H, W)` with channels first.
        emphasis: `(B, C)`, as `Feedback` gives it.

    Returns:
        the emphasized features, in the shape of `features` and the compute dtype.

    Raises:
        ValueError: if `data_format` is unknown.

    Reference:
        Li et al., Learning with Rethinking, 2017, eq. (3).

    Example:
        >>> x = np.zeros((2, 8, 8, 4), "float32")
        >>> tuple(Emphasis()(x, np.ones((2, 4), "float32")).shape)
        (2, 8, 8, 4)
    """

    def __init__(self, data_format=None, **kwargs):
        super().__init__(**kwargs)
        if data_format is None:
            data_format = keras.config.image_data_format()
        known = ("channels_last", "channels_first")
        self.data_format = checks.one_of("data_format", data_format, known)

    def call(self, features, emphasis):
        """Returns `features` weighted by `emphasis`."""
        axes = (1, 2) if self.data_format == "channels_last" else (2, 3)
        return features * ops.expand_dims(ops.cast(emphasis, features.dtype), axes)

    def compute_output_shape(self, features_shape, emphasis_shape):
        """The shape of `features`."""
        return features_shape
