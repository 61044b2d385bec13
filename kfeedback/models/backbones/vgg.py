"""VGG-small: the thirteen convolutions of VGG16 for images of 32 pixels."""

import keras

from kfeedback import checks
from kfeedback.models.factory import family

_FILTERS = (64, 128, 256, 512, 512)
_BLOCKS = (2, 2, 3, 3, 3)


def convolutions(x, width, batch_norm, blocks=_BLOCKS):
    """The thirteen convolutions in five blocks, each with a max pooling at its end.

    Args:
        x: symbolic image.
        width: factor on the filters.
        batch_norm: bool, a batch norm between convolution and ReLU.
        blocks: how many convolutions each block has.

    Returns:
        what the last pooling gives, and what each block gives before its pooling.
    """
    maps = []
    for block, count in enumerate(blocks, start=1):
        for number in range(1, count + 1):
            x = keras.layers.Conv2D(
                max(1, round(width * _FILTERS[block - 1])),
                3,
                padding="same",
                kernel_initializer="he_normal",
                name=f"block{block}_conv{number}",
            )(x)
            if batch_norm:
                x = keras.layers.BatchNormalization(name=f"block{block}_bn{number}")(x)
            x = keras.layers.ReLU(name=f"block{block}_relu{number}")(x)
        maps.append(x)
        x = keras.layers.MaxPooling2D(2, name=f"block{block}_pool")(x)
    return x, maps


@family("vgg_small", default_shape=(32, 32, 3), least_size=32, is_backbone=True)
def VGGSmall(
    build,
    include_top=True,
    weights=None,
    input_tensor=None,
    input_shape=None,
    pooling=None,
    classes=10,
    classifier_activation="softmax",
    name="vgg_small",
    *,
    width=1.0,
    batch_norm=True,
    dropout=0.0,
    blocks=_BLOCKS,
):
    """VGG16's thirteen 3×3 convolutions in five blocks, and one dense layer.

    Args:
        include_top: bool, with the dense layer.
        weights: `None`, a tag of `kfeedback.list_weights()`, or the path of a file that
            `kfeedback.weights.load` takes.
        input_tensor: `None` or a symbolic image to start from.
        input_shape: `None` for (32, 32, 3), or `(H, W, C)`, at least 32×32.
        pooling: without the top: `None` for `(B, h, w, 512)`, `"avg"` or `"max"`.
        classes: int ≥ 1.
        classifier_activation: activation of the last layer, `None` for logits.
        name: name of the model.
        width: factor > 0 on the filters of every convolution.
        batch_norm: bool, a batch norm between convolution and ReLU.
        dropout: fraction dropped before the dense layer.
        blocks: how many convolutions each block has; up to five numbers ≥ 1, fewer
            for a shallower network.

    Returns:
        a functional `keras.Model`, `(B, H, W, C)` to `(B, classes)`.

    Departures from the paper: it says nothing of batch norm; without one the
    thirteen layers hardly train from random weights, so it is the default.

    Reference:
        Simonyan and Zisserman, Very deep convolutional networks for large-scale
        image recognition, 2015; Wang et al., Contextual recurrent convolutional
        networks, 2019, section 4.1.

    Example:
        >>> kfeedback.models.backbones.VGGSmall(width=0.5).output_shape
        (None, 10)
    """
    checks.boolean("batch_norm", batch_norm)
    checks.number("dropout", dropout, least=0, below=1)
    checks.number("width", width, above=0)
    if not isinstance(blocks, list | tuple) or not 1 <= len(blocks) <= len(_FILTERS):
        raise ValueError(
            f"blocks must be a list of 1 to {len(_FILTERS)} numbers, got {blocks!r}."
        )
    for count in blocks:
        checks.integer("blocks", count)
    x, _ = convolutions(build.input, width, batch_norm, blocks)

    def head(x):
        x = keras.layers.Flatten(name="flatten")(x)
        if dropout:
            x = keras.layers.Dropout(dropout, name="dropout")(x)
        return build.classifier(x)

    return build.finish(x, head)
