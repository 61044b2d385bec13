"""AlexNet as the Caffe model zoo has it: `bvlc_alexnet` and CaffeNet."""

import keras

from kfeedback import checks
from kfeedback.layers import (
    CeilMaxPooling2D,
    GroupedConv2D,
    LocalResponseNormalization,
)
from kfeedback.models.factory import family

# Filters, kernel size, groups; the first has stride 4 and no padding.
_CONVOLUTIONS = ((96, 11, 1), (256, 5, 2), (384, 3, 1), (384, 3, 2), (256, 3, 2))
_UNITS = 4096


@family("alexnet", default_shape=(227, 227, 3), least_size=39, is_backbone=True)
def AlexNet(
    build,
    include_top=True,
    weights=None,
    input_tensor=None,
    input_shape=None,
    pooling=None,
    classes=1000,
    classifier_activation="softmax",
    name="alexnet",
    *,
    width=1.0,
    pool_first=False,
    dropout=0.5,
):
    """AlexNet: 60,965,224 parameters with 1000 classes.

    conv11-96 stride 4, conv5-256, conv3-384, conv3-384, conv3-256, dense 4096 twice,
    dense, a ReLU after each but the last. The second, fourth and fifth convolution
    have two groups. Local response normalization and a max pooling 3/2 follow the
    first two convolutions, a pooling the fifth. Poolings are Caffe's, see
    `kfeedback.layers.CeilMaxPooling2D`.

    Images are BGR minus a mean, `kfeedback.preprocessing.preprocess_input(images,
    "caffe")`; `tools.convert_caffe` makes a file of weights from a caffemodel.

    Args:
        include_top: bool, with the three dense layers.
        weights: `None`, a tag of `kfeedback.list_weights()`, or the path of a file that
            `kfeedback.weights.load` takes.
        input_tensor: `None` or a symbolic image to start from.
        input_shape: `None` for (227, 227, 3), or `(H, W, C)`, at least 39×39, H and W
            known if the top is included.
        pooling: without the top: `None` for `(B, h, w, 256)`, `"avg"` or `"max"`.
        classes: int ≥ 1.
        classifier_activation: activation of the last layer, `None` for logits.
        name: name of the model.
        width: factor > 0 on filters and units, each rounded to an even number.
        pool_first: bool, pooling before the normalization, which makes it CaffeNet,
            `bvlc_reference_caffenet`: the same weights, but another network.
        dropout: fraction dropped before the second and third dense layer.

    Returns:
        a functional `keras.Model`, `(B, H, W, C)` to `(B, classes)`.

    Departures from the paper: those of the Caffe model zoo, one tower and an image of
    227 pixels; and He initialization. The published networks subtract a mean image
    (CaffeNet, AlexNet), of which (103.9, 116.8, 123.7) is about the mean.

    Reference:
        Krizhevsky et al., ImageNet classification with deep convolutional neural
        networks, 2012; Jia et al., Caffe: Convolutional architecture for fast feature
        embedding, 2014, models/bvlc_alexnet and models/bvlc_reference_caffenet.

    Example:
        >>> kfeedback.models.backbones.AlexNet(width=0.25, classes=10).output_shape
        (None, 10)
    """
    checks.number("width", width, above=0)
    checks.boolean("pool_first", pool_first)
    checks.number("dropout", dropout, least=0, below=1)
    build.require_sides()

    def even(count):
        return 2 * max(1, round(width * count / 2))

    x = build.input
    for number, (filters, kernel_size, groups) in enumerate(_CONVOLUTIONS, start=1):
        layer_type = GroupedConv2D if groups > 1 else keras.layers.Conv2D
        x = layer_type(
            even(filters),
            kernel_size,
            strides=4 if number == 1 else 1,
            padding="valid" if number == 1 else "same",
            groups=groups,
            kernel_initializer="he_normal",
            name=f"conv{number}",
        )(x)
        x = keras.layers.ReLU(name=f"relu{number}")(x)
        if number in (3, 4):
            continue
        after = [CeilMaxPooling2D(name=f"pool{number}")]
        if number < 5:
            norm = LocalResponseNormalization(name=f"norm{number}")
            after.insert(1 if pool_first else 0, norm)
        for layer in after:
            x = layer(x)

    def head(x):
        x = keras.layers.Flatten(name="flatten")(x)
        for number in (6, 7):
            x = keras.layers.Dense(
                even(_UNITS), kernel_initializer="he_normal", name=f"fc{number}"
            )(x)
            x = keras.layers.ReLU(name=f"relu{number}")(x)
            x = keras.layers.Dropout(dropout, name=f"dropout{number}")(x)
        return build.classifier(x)

    return build.finish(x, head)
