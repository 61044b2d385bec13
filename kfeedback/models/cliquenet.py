"""CliqueNet: blocks whose layers are alternately updated from all the others."""

import keras

from kfeedback import checks
from kfeedback.layers import (
    AttentionalTransition,
    CliqueBlock,
    FusedBatchNormalization,
)
from kfeedback.models.factory import family
from kfeedback.preprocessing import decode_predictions, preprocess_input

__all__ = [
    "CliqueNet",
    "CliqueNetS0",
    "CliqueNetS1",
    "CliqueNetS2",
    "CliqueNetS3",
    "decode_predictions",
    "preprocess_input",
]

_BLOCKS = 3  # of CliqueNet for 32-pixel images
_EPSILON = 1e-3  # of every batch norm, as in the published code
_IMAGENET_EPSILON = 1e-5  # the published code for ImageNet is another one


@family("cliquenet", default_shape=(32, 32, 3), least_size=8)
def CliqueNet(
    build,
    include_top=True,
    weights=None,
    input_tensor=None,
    input_shape=None,
    pooling=None,
    classes=10,
    classifier_activation="softmax",
    name="cliquenet",
    *,
    filters=36,
    layers=12,
    attentional_transition=False,
    bottleneck=False,
    compression=False,
    block_feature="II",
    transition_feature="II",
    stages=2,
    updates=None,
    dropout=0.2,
):
    """CliqueNet for images of about 32 pixels, "CliqueNet (k, T)" of the paper.

    conv3-64, then blocks of alternately updated layers (`kfeedback.layers.CliqueBlock`)
    with a transition between two blocks: batch norm, ReLU, 1×1 convolution, dropout,
    attention if wanted, average pooling 2×2. A block's feature is its input and its
    layers; each goes through batch norm, ReLU and global average pooling, and one
    dense layer classifies them all together. 935,994 parameters by default.

    The layer `block<b>` gives the list of its stages, `block<b>_stage2` is the stage
    that the net uses, `block<b>_feature` the block's feature, `features` the vector
    before the dense layer. An odd height or width loses its last row or column at each
    average pooling.

    Args:
        include_top: bool, with the dense layer.
        weights: `None`, a tag of `kfeedback.list_weights()`, or the path of a file that
            `kfeedback.weights.load` takes.
        input_tensor: `None` or a symbolic image to start from.
        input_shape: `None` for (32, 32, 3), or `(H, W, C)`, at least 8×8 (and
            at least 2^(blocks - 1), of which nothing is left otherwise).
        pooling: without the top: `None` for the last block's feature after its batch
            norm and ReLU, `(B, h, w, c)`, `"avg"` or `"max"`.
        classes: int ≥ 1.
        classifier_activation: activation of the dense layer, `None` for logits.
        name: name of the model.
        filters: k, filters of every layer; or a list, one for each block.
        layers: T, layers of three blocks together, a multiple of 3; with the bottleneck
            it counts both convolutions, a multiple of 6. Or a list with the layers of
            each block.
        attentional_transition: bool, option A: channel-wise attention between blocks.
        bottleneck: bool, option B: 1×1 convolutions followed by a 3×3 one.
        compression: bool, option C: a 1×1 convolution halves each block's feature.
        block_feature: `"I"` or `"II"`, the stage that a block's feature is made of.
        transition_feature: `"I"` or `"II"`, the stage that the next block starts from.
        stages: int ≥ 1, stage I and those after it; `"II"` means the last of them.
        updates: `None` for all n layers, or X from 0 to n: only the first X layers are
            updated in the last stage. Without effect where only stage I is.
        dropout: fraction dropped after every convolution of blocks, transitions and
            compressions.

    Returns:
        a functional `keras.Model`, `(B, H, W, C)` to `(B, classes)`.

    Raises:
        TypeError: if a flag is no bool.
        ValueError: if an argument is out of its range, or an option needs half of an
            odd number of channels.

    Reference:
        Yang et al., Convolutional neural networks with alternately updated clique,
        2018, sections 3 and 4.

    Example:
        >>> kfeedback.CliqueNet(filters=12, layers=6, classes=100).output_shape
        (None, 100)
    """
    checks.boolean("bottleneck", bottleneck)
    given = layers
    filters, layers = _per_block(filters, layers, bottleneck)
    if isinstance(given, int) and layers[0] < 2 <= checks.integer("stages", stages):
        least = 2 * len(layers) * (2 if bottleneck else 1)
        raise ValueError(
            f"layers must be at least {least}, two for each of {len(layers)} blocks"
            f"{', of two convolutions each' if bottleneck else ''}, got {given}."
        )
    build.least_size = max(build.least_size, 2 ** (len(layers) - 1))
    x = _conv(build.input, 64, 3, name="stem_conv")
    return _clique_net(
        build,
        x,
        filters,
        layers,
        attentional_transition=attentional_transition,
        bottleneck=bottleneck,
        compression=compression,
        block_feature=block_feature,
        transition_feature=transition_feature,
        stages=stages,
        updates=updates,
        dropout=dropout,
        epsilon=_EPSILON,
    )


def _per_block(filters, layers, bottleneck):
    """Filters and layers as lists, one entry a block."""
    blocks = [len(x) for x in (filters, layers) if isinstance(x, list | tuple)]
    if blocks and (min(blocks) != max(blocks) or not min(blocks)):
        raise ValueError(
            "filters and layers must be lists of one length, the number of blocks, got "
            f"{filters!r} and {layers!r}."
        )
    count = blocks[0] if blocks else _BLOCKS
    if not isinstance(layers, list | tuple):
        checks.integer("layers", layers)
        divisor = count * (2 if bottleneck else 1)
        if layers % divisor:
            raise ValueError(
                f"layers must be a multiple of {divisor} for {count} blocks "
                f"{'with' if bottleneck else 'without'} a bottleneck, got {layers}."
            )
        layers = [layers // divisor] * count
    if not isinstance(filters, list | tuple):
        filters = [filters] * count
    for k in filters:
        checks.integer("filters", k)
    return list(filters), list(layers)


def _clique_net(
    build,
    x,
    filters,
    layers,
    *,
    attentional_transition,
    bottleneck,
    compression,
    dropout,
    epsilon,
    block_feature="II",
    transition_feature="II",
    stages=2,
    updates=None,
):
    """The blocks, transitions and head behind a stem."""
    checks.boolean("attentional_transition", attentional_transition)
    checks.boolean("compression", compression)
    checks.integer("stages", stages)
    stage_of = {"I": 1, "II": stages}
    for argument, value in (
        ("block_feature", block_feature),
        ("transition_feature", transition_feature),
    ):
        checks.one_of(argument, value, ("I", "II"))
    for n in layers:
        checks.integer("layers", n, least=2 if stages > 1 else 1)
        if updates is not None and not checks.integer("updates", updates, 0) <= n:
            raise ValueError(
                f"updates must be at most the {n} layers of a block, got {updates}."
            )
    features = []
    for block, (k, n) in enumerate(zip(filters, layers, strict=True), start=1):
        is_last = block == len(layers)
        used = {stage_of[block_feature]}
        used |= set() if is_last else {stage_of[transition_feature]}
        made = CliqueBlock(
            k,
            n,
            stages=max(used),
            updates=updates,
            bottleneck=bottleneck,
            dropout=dropout,
            epsilon=epsilon,
            name=f"block{block}",
        )(x)
        named = {
            stage: keras.layers.Identity(name=f"block{block}_stage{stage}")(
                made[stage - 1]
            )
            for stage in sorted(used)
        }
        feature = keras.layers.Concatenate(name=f"block{block}_feature")(
            [x, named[stage_of[block_feature]]]
        )
        if compression:
            channels = feature.shape[-1]
            _check_even("compression", channels, k, n)
            feature = _norm_relu_conv(
                feature, channels // 2, dropout, epsilon, f"compression{block}"
            )
        features.append(_norm_relu(feature, epsilon, f"head{block}"))
        if not is_last:
            x = named[stage_of[transition_feature]]
            if attentional_transition:
                _check_even("attentional_transition", x.shape[-1], k, n)
            x = _norm_relu_conv(x, x.shape[-1], dropout, epsilon, f"transition{block}")
            if attentional_transition:
                x = AttentionalTransition(name=f"transition{block}_attention")(x)
            x = keras.layers.AveragePooling2D(2, name=f"transition{block}_pool")(x)

    def head(_):
        pooled = [
            keras.layers.GlobalAveragePooling2D(name=f"head{block}_pool")(feature)
            for block, feature in enumerate(features, start=1)
        ]
        if len(pooled) > 1:
            vector = keras.layers.Concatenate(name="features")(pooled)
        else:
            vector = keras.layers.Identity(name="features")(pooled[0])
        return build.classifier(vector)

    return build.finish(features[-1], head)


def _check_even(argument, channels, filters, layers):
    if channels % 2:
        raise ValueError(
            f"{argument} must be False for a block with an odd number of channels, got "
            f"True with {channels} channels of {layers} layers of {filters} filters."
        )


def _conv(x, filters, kernel_size, name, strides=1, padding="same"):
    return keras.layers.Conv2D(
        filters,
        kernel_size,
        strides,
        padding=padding,
        use_bias=False,
        kernel_initializer="he_normal",
        name=name,
    )(x)


def _norm_relu(x, epsilon, name):
    x = FusedBatchNormalization(epsilon=epsilon, name=f"{name}_bn")(x)
    return keras.layers.ReLU(name=f"{name}_relu")(x)


def _norm_relu_conv(x, filters, dropout, epsilon, name):
    x = _conv(_norm_relu(x, epsilon, name), filters, 1, name=f"{name}_conv")
    return keras.layers.Dropout(dropout, name=f"{name}_dropout")(x) if dropout else x


def _imagenet_variant(variant, filters, layers, parameters):
    """The factory of one of the paper's four networks for ImageNet."""
    own_name = f"cliquenet_{variant.lower()}"

    def variant_factory(
        build,
        include_top=True,
        weights=None,
        input_tensor=None,
        input_shape=None,
        pooling=None,
        classes=1000,
        classifier_activation="softmax",
        name=own_name,
        *,
        attentional_transition=False,
    ):
        # The same padding on both sides; Keras' 'same' pads an even side otherwise.
        x = keras.layers.ZeroPadding2D(3, name="stem_pad")(build.input)
        x = _conv(x, 64, 7, name="stem_conv", strides=2, padding="valid")
        x = _norm_relu(x, _IMAGENET_EPSILON, "stem")
        x = keras.layers.ZeroPadding2D(1, name="stem_pool_pad")(x)
        x = keras.layers.MaxPooling2D(3, 2, name="stem_pool")(x)
        return _clique_net(
            build,
            x,
            filters,
            layers,
            attentional_transition=attentional_transition,
            bottleneck=True,
            compression=True,
            dropout=0.0,
            epsilon=_IMAGENET_EPSILON,
        )

    blocks = ", ".join(f"{k}×{n}" for k, n in zip(filters, layers, strict=True))
    variant_factory.__name__ = variant_factory.__qualname__ = f"CliqueNet{variant}"
    variant_factory.__doc__ = _IMAGENET_DOC.format(
        variant=variant, blocks=blocks, parameters=parameters
    )
    enter = family(own_name, default_shape=(224, 224, 3), least_size=32)
    return enter(variant_factory)


_IMAGENET_DOC = """CliqueNet-{variant} for 224-pixel images: {parameters} parameters.

    conv7-64 with stride 2, batch norm, ReLU, maxpool 3/2, then four blocks, {blocks}
    filters × layers, with bottleneck and compression as in `CliqueNet`; no dropout,
    paddings on both sides and batch norm's epsilon of 1e-5, as in the published code.
    The parameters are those with 1000 classes and no attention.
    An odd height or width loses its last row or column at each average pooling.

    Arguments, errors and result, a functional `keras.Model`, `(B, H, W, C)` to `(B,
    classes)`, are those of `CliqueNet`; `input_shape` is `None` for (224, 224, 3), or
    `(H, W, C)`, at least 32×32. A star in the paper stands for a network without
    `attentional_transition`.

    Reference:
        Yang et al., Convolutional neural networks with alternately updated clique,
        2018, tables 3 and 5.
    """

CliqueNetS0 = _imagenet_variant("S0", [36, 64, 100, 80], [5, 6, 6, 6], "5,703,728")
CliqueNetS1 = _imagenet_variant("S1", [36, 80, 120, 100], [5, 6, 6, 6], "7,956,776")
CliqueNetS2 = _imagenet_variant("S2", [36, 80, 150, 120], [5, 5, 6, 6], "10,003,756")
CliqueNetS3 = _imagenet_variant("S3", [40, 80, 160, 160], [6, 6, 6, 6], "13,170,904")
