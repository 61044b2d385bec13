"""LeNet, the baseline of Learning with Rethinking on MNIST-background-image."""

import keras

from kfeedback import checks
from kfeedback.models.factory import family


@family("lenet", default_shape=(28, 28, 1), least_size=16, is_backbone=True)
def LeNet(
    build,
    include_top=True,
    weights=None,
    input_tensor=None,
    input_shape=None,
    pooling=None,
    classes=10,
    classifier_activation="softmax",
    name="lenet",
    *,
    dropout=0.0,
):
    """LeNet as Caffe has it: 431,080 parameters for 28×28×1 and 10 classes.

    conv5-20, maxpool 2, conv5-50, maxpool 2, dense 500, ReLU, dense; 'valid'
    padding, nothing between convolution and pooling.

    Args:
        include_top: bool, with the two dense layers.
        weights: `None`, a tag of `kfeedback.list_weights()`, or the path of a file that
            `kfeedback.weights.load` takes.
        input_tensor: `None` or a symbolic image to start from.
        input_shape: `None` for (28, 28, 1), or `(H, W, C)`, at least 16×16.
        pooling: without the top: `None` for `(B, h, w, 50)`, `"avg"` or `"max"`.
        classes: int ≥ 1.
        classifier_activation: activation of the last layer, `None` for logits.
        name: name of the model.
        dropout: fraction dropped before each dense layer; the paper has none.

    Returns:
        a functional `keras.Model`, `(B, H, W, C)` to `(B, classes)`.

    Reference:
        LeCun et al., Gradient-based learning applied to document recognition, 1998;
        Li et al., Learning with Rethinking, 2017, table 5.

    Example:
        >>> kfeedback.models.backbones.LeNet().output_shape
        (None, 10)
    """
    checks.number("dropout", dropout, least=0, below=1)
    x = build.input
    for block, filters in ((1, 20), (2, 50)):
        x = keras.layers.Conv2D(
            filters, 5, kernel_initializer="he_normal", name=f"conv{block}"
        )(x)
        x = keras.layers.MaxPooling2D(2, name=f"pool{block}")(x)

    def head(x):
        x = keras.layers.Flatten(name="flatten")(x)
        if dropout:
            x = keras.layers.Dropout(dropout, name="dropout1")(x)
        x = keras.layers.Dense(
            500, activation="relu", kernel_initializer="he_normal", name="fc1"
        )(x)
        if dropout:
            x = keras.layers.Dropout(dropout, name="dropout2")(x)
        return build.classifier(x)

    return build.finish(x, head)
