"""The attention of Jetley et al.: a global feature looks at the places of a map."""

import keras
from keras import ops

from kfeedback import checks
from kfeedback.layers._layer import Layer

COMPATIBILITIES = ("parametrized", "dot")


@keras.saving.register_keras_serializable(package="kfeedback")
class SpatialAttention(Layer):
    """The mean of a map's local features, weighted by what a global feature looks for.

    With local features `l_i` at the places i of a map and a global feature `g`:
    `a = softmax_i(c_i)`, result `Σ_i a_i l_i`, with the compatibility

    - `"parametrized"`: `c_i = ⟨u, l_i + g⟩`, u learned;
    - `"dot"`: `c_i = ⟨l_i, g⟩`.

    Read literally, the parametrized compatibility does not let `g` choose: `⟨u, g⟩` is
    the same at all places, and the softmax over them takes it away. So `g` has no
    effect and gets no gradient, beyond rounding. With the dot product it has and does.

    Args:
        compatibility: `"parametrized"` or `"dot"`.
        kernel_initializer: initializer of u.
        kernel_regularizer: regularizer of u.
        **kwargs: arguments of `keras.layers.Layer`.

    Call arguments:
        local_features: `(B, H, W, C)`.
        global_feature: `(B, C)`.

    Returns:
        `(B, C)`.

    Raises:
        ValueError: if there is no such compatibility, or the shapes do not fit.

    Reference:
        Jetley et al., Learn to pay attention, 2018, section 3.

    Example:
        >>> x = np.zeros((2, 8, 8, 4), "float32")
        >>> tuple(SpatialAttention()(x, np.zeros((2, 4), "float32")).shape)
        (2, 4)
    """

    def __init__(
        self,
        compatibility="parametrized",
        kernel_initializer="glorot_uniform",
        kernel_regularizer=None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.compatibility = checks.one_of(
            "compatibility", compatibility, COMPATIBILITIES
        )
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.kernel_regularizer = keras.regularizers.get(kernel_regularizer)

    def build(self, local_features_shape, global_feature_shape):
        """Makes u, where there is one."""
        local_shape, shape = tuple(local_features_shape), tuple(global_feature_shape)
        if len(local_shape) != 4 or len(shape) != 2 or local_shape[3] != shape[1]:
            raise ValueError(
                "global_feature must have the channels of local_features, (B, C) for "
                f"(B, H, W, C), got {shape} for {local_shape}."
            )
        self.kernel = None
        if self.compatibility == "parametrized":
            self.kernel = self.add_weight(
                name="kernel",
                shape=(shape[1], 1),
                initializer=self.kernel_initializer,
                regularizer=self.kernel_regularizer,
            )

    def call(self, local_features, global_feature):
        """Returns the weighted mean of the local features."""
        channels = local_features.shape[-1]
        places = ops.reshape(
            local_features, (ops.shape(local_features)[0], -1, channels)
        )
        if self.kernel is None:
            scores = ops.matmul(places, ops.expand_dims(global_feature, -1))
        else:
            both = places + ops.expand_dims(global_feature, 1)
            scores = ops.matmul(both, self.kernel)
        weights = ops.softmax(scores, axis=1)  # (B, places, 1)
        return ops.squeeze(
            ops.matmul(ops.transpose(weights, (0, 2, 1)), places), axis=1
        )

    def compute_output_shape(self, local_features_shape, global_feature_shape):
        """That of the global feature."""
        return global_feature_shape
