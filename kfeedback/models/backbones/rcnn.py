"""RCNN, the recurrent convolutional network of Liang and Hu."""

import keras

from kfeedback import checks
from kfeedback.layers import RecurrentConv2D
from kfeedback.models.factory import family


@family("rcnn128", default_shape=(32, 32, 3), least_size=8, is_backbone=True)
def RCNN128(
    build,
    include_top=True,
    weights=None,
    input_tensor=None,
    input_shape=None,
    pooling=None,
    classes=10,
    classifier_activation="softmax",
    name="rcnn128",
    *,
    filters=128,
    iterations=3,
    dropout=0.5,
):
    """RCNN-128: 1,191,178 parameters with 10 classes.

    conv5, ReLU, maxpool 3/2, two recurrent convolutional layers, maxpool 3/2, two
    more, global max pool, dense; all of `filters` channels.

    Args:
        include_top: bool, with the global max pool and the dense layer.
        weights: `None`, a tag of `kfeedback.list_weights()`, or the path of a file that
            `kfeedback.weights.load` takes.
        input_tensor: `None` or a symbolic image to start from.
        input_shape: `None` for (32, 32, 3), or `(H, W, C)`, at least 8×8.
        pooling: without the top: `None` for `(B, h, w, filters)`, `"avg"`, `"max"`.
        classes: int ≥ 1.
        classifier_activation: activation of the last layer, `None` for logits.
        name: name of the model.
        filters: int ≥ 1, channels of every layer.
        iterations: recurrent iterations of every recurrent layer.
        dropout: fraction dropped after each layer and pooling but the last.

    Returns:
        a functional `keras.Model`, `(B, H, W, C)` to `(B, classes)`.

    Reference:
        Liang and Hu, Recurrent convolutional neural network for object
        recognition, 2015, figure 3 and section 4.1; dropout lies behind the pooling
        where a pooling follows.

    Example:
        >>> kfeedback.models.backbones.RCNN128().output_shape
        (None, 10)
    """
    checks.number("dropout", dropout, least=0, below=1)
    checks.integer("filters", filters)

    def drop(x, number):
        return keras.layers.Dropout(dropout, name=f"dropout{number}")(x)

    def recurrent(x, number):
        return RecurrentConv2D(filters, iterations=iterations, name=f"rcl{number}")(x)

    def max_pool(x, number):
        return keras.layers.MaxPooling2D(3, 2, padding="same", name=f"pool{number}")(x)

    x = keras.layers.Conv2D(
        filters, 5, padding="same", kernel_initializer="he_normal", name="conv1"
    )(build.input)
    x = keras.layers.ReLU(name="relu1")(x)
    x = drop(max_pool(x, 1), 1)
    x = drop(recurrent(x, 1), 2)
    x = drop(max_pool(recurrent(x, 2), 2), 3)
    x = drop(recurrent(x, 3), 4)
    x = recurrent(x, 4)

    def head(x):
        return build.classifier(keras.layers.GlobalMaxPooling2D(name="global_pool")(x))

    return build.finish(x, head)
