"""GoogLeNet as the Caffe model zoo has it: `bvlc_googlenet`."""

import keras

from kfeedback import checks
from kfeedback.layers import CeilMaxPooling2D, LocalResponseNormalization
from kfeedback.models.factory import family

# Filters of an inception module: 1×1; 1×1 and 3×3; 1×1 and 5×5; 1×1 behind a pooling.
# A pooling precedes the first module of each number.
_INCEPTIONS = {
    "3a": (64, 96, 128, 16, 32, 32),
    "3b": (128, 128, 192, 32, 96, 64),
    "4a": (192, 96, 208, 16, 48, 64),
    "4b": (160, 112, 224, 24, 64, 64),
    "4c": (128, 128, 256, 24, 64, 64),
    "4d": (112, 144, 288, 32, 64, 64),
    "4e": (256, 160, 320, 32, 128, 128),
    "5a": (256, 160, 320, 32, 128, 128),
    "5b": (384, 192, 384, 48, 128, 128),
}


@family("googlenet", default_shape=(224, 224, 3), least_size=32, is_backbone=True)
def GoogLeNet(
    build,
    include_top=True,
    weights=None,
    input_tensor=None,
    input_shape=None,
    pooling=None,
    classes=1000,
    classifier_activation="softmax",
    name="googlenet",
    *,
    width=1.0,
    dropout=0.4,
):
    """GoogLeNet without its auxiliary classifiers: 6,998,552 parameters.

    conv7-64 stride 2, max pooling 3/2, local response normalization, 1×1-64, conv3-192,
    local response normalization, nine inception modules (four branches, concatenated:
    1×1; 1×1 and 3×3; 1×1 and 5×5; max pooling 3/1 and 1×1) with a max pooling 3/2
    before the first, third and eighth, global average pooling, dense. A ReLU follows
    every convolution. Poolings are Caffe's, see `kfeedback.layers.CeilMaxPooling2D`.

    Images are BGR minus a mean, `kfeedback.preprocessing.preprocess_input(images,
    "caffe")`; `tools.convert_caffe` makes a file of weights from a caffemodel.

    Args:
        include_top: bool, with the global pooling and the dense layer.
        weights: `None`, a tag of `kfeedback.list_weights()`, or the path of a file that
            `kfeedback.weights.load` takes.
        input_tensor: `None` or a symbolic image to start from.
        input_shape: `None` for (224, 224, 3), or `(H, W, C)`, at least 32×32.
        pooling: without the top: `None` for `(B, h, w, 1024)`, `"avg"` or `"max"`.
        classes: int ≥ 1.
        classifier_activation: activation of the last layer, `None` for logits.
        name: name of the model.
        width: factor > 0 on the filters of every convolution.
        dropout: fraction dropped before the dense layer.

    Returns:
        a functional `keras.Model`, `(B, H, W, C)` to `(B, classes)`.

    Departures from the paper: no auxiliary classifiers, which only training uses; He
    initialization. The last pooling is global for every size of the image, in Caffe it
    is 7×7, which is the same for 224 pixels. The published network subtracts (104,
    117, 123), which differs from `preprocess_input` by less than one gray level.

    Reference:
        Szegedy et al., Going deeper with convolutions, 2015; Jia et al., Caffe:
        Convolutional architecture for fast feature embedding, 2014,
        models/bvlc_googlenet.

    Example:
        >>> kfeedback.models.backbones.GoogLeNet(width=0.25, classes=10).output_shape
        (None, 10)
    """
    checks.number("width", width, above=0)
    checks.number("dropout", dropout, least=0, below=1)

    def conv_relu(x, filters, kernel_size, stem, suffix, **kwargs):
        x = keras.layers.Conv2D(
            max(1, round(width * filters)),
            kernel_size,
            **{"padding": "same", **kwargs},
            kernel_initializer="he_normal",
            name=f"{stem}_{suffix}",
        )(x)
        return keras.layers.ReLU(name=f"{stem}_relu_{suffix}")(x)

    def inception(x, stem, filters):
        one, three_reduce, three, five_reduce, five, projection = filters
        middle = conv_relu(x, three_reduce, 1, stem, "3x3_reduce")
        large = conv_relu(x, five_reduce, 1, stem, "5x5_reduce")
        pooled = keras.layers.MaxPooling2D(3, 1, padding="same", name=f"{stem}_pool")(x)
        branches = [
            conv_relu(x, one, 1, stem, "1x1"),
            conv_relu(middle, three, 3, stem, "3x3"),
            conv_relu(large, five, 5, stem, "5x5"),
            conv_relu(pooled, projection, 1, stem, "pool_proj"),
        ]
        return keras.layers.Concatenate(name=f"{stem}_output")(branches)

    # Three pixels on each side, where "same" would be two before and three after.
    x = keras.layers.ZeroPadding2D(3, name="conv1_padding")(build.input)
    x = conv_relu(x, 64, 7, "conv1", "7x7", strides=2, padding="valid")
    x = CeilMaxPooling2D(name="pool1")(x)
    x = LocalResponseNormalization(name="norm1")(x)
    x = conv_relu(x, 64, 1, "conv2", "3x3_reduce")
    x = conv_relu(x, 192, 3, "conv2", "3x3")
    x = LocalResponseNormalization(name="norm2")(x)
    for module, filters in _INCEPTIONS.items():
        if module.endswith("a"):
            x = CeilMaxPooling2D(name=f"pool{int(module[0]) - 1}")(x)
        x = inception(x, f"inception_{module}", filters)

    def head(x):
        x = keras.layers.GlobalAveragePooling2D(name="global_pool")(x)
        x = keras.layers.Dropout(dropout, name="dropout")(x)
        return build.classifier(x)

    return build.finish(x, head)
