"""Network in network, the baseline of Learning with Rethinking on CIFAR."""

import keras

from kfeedback import checks
from kfeedback.layers import SameAveragePooling2D
from kfeedback.models.factory import family

# Three blocks of (filters, kernel size); pooling and dropout lie between them.
_BLOCKS = (
    ((192, 5), (160, 1), (96, 1)),
    ((192, 5), (192, 1), (192, 1)),
    ((192, 3), (192, 1)),
)


@family("nin", default_shape=(32, 32, 3), least_size=8, is_backbone=True)
def NIN(
    build,
    include_top=True,
    weights=None,
    input_tensor=None,
    input_shape=None,
    pooling=None,
    classes=10,
    classifier_activation="softmax",
    name="nin",
    *,
    width=1.0,
    negative_slope=0.0,
    dropout=0.5,
):
    """Network in network: 966,986 parameters with 10 classes, 984,356 with 100.

    conv5-192, 1×1-160, 1×1-96, maxpool 3/2, dropout, conv5-192, 1×1-192 twice,
    average pool 3/2, dropout, conv3-192, 1×1-192, 1×1-classes, global average pool;
    'same' padding, a (leaky) ReLU after every convolution, the last one included.

    Args:
        include_top: bool, with the 1×1 convolution to `classes` and the pooling.
        weights: `None`, a tag of `kfeedback.list_weights()`, or the path of a file that
            `kfeedback.weights.load` takes.
        input_tensor: `None` or a symbolic image to start from.
        input_shape: `None` for (32, 32, 3), or `(H, W, C)`, at least 8×8.
        pooling: without the top: `None` for `(B, h, w, 192)`, `"avg"` or `"max"`.
        classes: int ≥ 1.
        classifier_activation: activation of the pooled scores, `None` for logits. With
            `"sigmoid"` the last convolution has no ReLU: by scores ≥ 0 no probability
            would be below a half.
        name: name of the model.
        width: factor > 0 on the filters of every convolution but the last.
        negative_slope: slope of the ReLU below zero.
        dropout: fraction dropped after the first two poolings.

    Returns:
        a functional `keras.Model`, `(B, H, W, C)` to `(B, classes)`.

    Reference:
        Lin et al., Network in network, 2014; Li et al., Learning with Rethinking,
        2017, section 4.2.

    Example:
        >>> kfeedback.models.backbones.NIN(classes=100).output_shape
        (None, 100)
    """
    return _network_in_network(build, width, negative_slope, dropout)


@family("lnin", default_shape=(32, 32, 3), least_size=8, is_backbone=True)
def LNIN(
    build,
    include_top=True,
    weights=None,
    input_tensor=None,
    input_shape=None,
    pooling=None,
    classes=10,
    classifier_activation="softmax",
    name="lnin",
    *,
    width=1.0,
    negative_slope=0.1,
    dropout=0.5,
):
    """`NIN` with leaky ReLUs; arguments and result are those of `NIN`.

    Departures from the paper: it does not print the negative slope; 0.1 is ours.

    Reference:
        Li et al., Learning with Rethinking, 2017, section 4.2.

    Example:
        >>> kfeedback.models.backbones.LNIN(width=0.5).output_shape
        (None, 10)
    """
    return _network_in_network(build, width, negative_slope, dropout)


def _network_in_network(build, width, negative_slope, dropout):
    checks.number("width", width, above=0)
    checks.number("negative_slope", negative_slope, least=0, below=1)
    checks.number("dropout", dropout, least=0, below=1)

    def conv(x, filters, kernel_size, number):
        return keras.layers.Conv2D(
            filters,
            kernel_size,
            padding="same",
            kernel_initializer="he_normal",
            name=f"conv{number}",
        )(x)

    def relu(x, number):
        return keras.layers.ReLU(negative_slope=negative_slope, name=f"relu{number}")(x)

    x = build.input
    number = 0
    for block in range(3):
        for filters, kernel_size in _BLOCKS[block]:
            number += 1
            x = conv(x, max(1, round(width * filters)), kernel_size, number)
            x = relu(x, number)
        if block < 2:
            pool_type = (keras.layers.MaxPooling2D, SameAveragePooling2D)
            x = pool_type[block](3, 2, padding="same", name=f"pool{block + 1}")(x)
            x = keras.layers.Dropout(dropout, name=f"dropout{block + 1}")(x)

    def head(x):
        x = conv(x, build.classes, 1, 9)
        x = x if build.activation is keras.activations.sigmoid else relu(x, 9)
        x = keras.layers.GlobalAveragePooling2D(name="global_pool")(x)
        return keras.layers.Activation(
            build.activation, dtype="float32", name="predictions"
        )(x)

    return build.finish(x, head)
