"""VGG-ATT: VGG-small whose last three blocks are looked at with attention."""

import keras

from kfeedback import checks
from kfeedback.layers.spatial_attention import COMPATIBILITIES, SpatialAttention
from kfeedback.models.backbones.vgg import convolutions
from kfeedback.models.factory import family


@family("vgg_attention", default_shape=(32, 32, 3), least_size=32, is_backbone=True)
def VGGAttention(
    build,
    include_top=True,
    weights=None,
    input_tensor=None,
    input_shape=None,
    pooling=None,
    classes=10,
    classifier_activation="softmax",
    name="vgg_attention",
    *,
    width=1.0,
    batch_norm=True,
    dropout=0.0,
    compatibility="parametrized",
):
    """The convolutions of `VGGSmall`, and attention in place of its head.

    A dense layer with ReLU makes the global feature `g` of the last pooling's output.
    At each of three stages `kfeedback.layers.SpatialAttention` weights the local
    features by their compatibility with `g`; one dense layer classifies the three
    weighted means, concatenated. A 1×1 convolution without a bias brings a stage to the
    channels of `g` where it has others (block 3, 256 to 512).

    The stages are the outputs of blocks 3, 4 and 5 before their pooling: 8×8, 4×4 and
    2×2 places for 32×32 pixels. Earlier ones see too little of
    the image, and behind the pooling of block 5 a single place is left.

    With the defaults 15,142,218 parameters, 410,634 more than the convolutions.

    Args:
        include_top: bool, with attention and dense layers.
        weights: `None`, a tag of `kfeedback.list_weights()`, or the path of a file that
            `kfeedback.weights.load` takes.
        input_tensor: `None` or a symbolic image to start from.
        input_shape: `None` for (32, 32, 3), or `(H, W, C)`, at least 32×32, H and W
            known if the top is included.
        pooling: without the top: `None` for `(B, h, w, 512)`, `"avg"` or `"max"`.
        classes: int ≥ 1.
        classifier_activation: activation of the last layer, `None` for logits.
        name: name of the model.
        width: factor > 0 on the filters of every convolution and on the 512 units of
            `g`.
        batch_norm: bool, a batch norm between convolution and ReLU.
        dropout: fraction dropped before the last dense layer.
        compatibility: `"parametrized"`, `c_i = ⟨u, l_i + g⟩` with u learned per stage,
            or `"dot"`, `c_i = ⟨l_i, g⟩`.

    Returns:
        a functional `keras.Model`, `(B, H, W, C)` to `(B, classes)`.

    Departures from the paper: its networks pool later, so that their stages have more
    places; here the convolutions and poolings are those of VGG-small, the baseline to
    compare with. Under the parametrized compatibility `g` cancels in the softmax, see
    `SpatialAttention`: the places are chosen by u alone, and the dense layer of `g`
    does not learn. With `"dot"`, the paper's other compatibility, it does.

    Reference:
        Jetley et al., Learn to pay attention, 2018; the baseline VGG-ATT of Wang et
        al., Contextual recurrent convolutional model for robust visual learning, 2019.

    Example:
        >>> kfeedback.models.backbones.VGGAttention(width=0.5).output_shape
        (None, 10)
    """
    checks.boolean("batch_norm", batch_norm)
    checks.number("dropout", dropout, least=0, below=1)
    checks.number("width", width, above=0)
    checks.one_of("compatibility", compatibility, COMPATIBILITIES)
    x, maps = convolutions(build.input, width, batch_norm)

    def head(x):
        channels = x.shape[-1]
        x = keras.layers.Flatten(name="flatten")(x)
        g = keras.layers.Dense(
            channels, activation="relu", kernel_initializer="he_normal", name="global"
        )(x)
        attended = []
        for block in (3, 4, 5):
            local = maps[block - 1]
            if local.shape[-1] != channels:
                local = keras.layers.Conv2D(
                    channels, 1, use_bias=False, name=f"align{block}"
                )(local)
            attention = SpatialAttention(compatibility, name=f"attention{block}")
            attended.append(attention(local, g))
        x = keras.layers.Concatenate(name="concatenate")(attended)
        if dropout:
            x = keras.layers.Dropout(dropout, name="dropout")(x)
        return build.classifier(x)

    return build.finish(x, head)
