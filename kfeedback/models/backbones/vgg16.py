"""VGG16 as Keras has it, the network of the papers on images of ImageNet's size."""

import keras

from kfeedback.models.arguments import make_model
from kfeedback.models.factory import family


@family(
    "vgg16",
    default_shape=(224, 224, 3),
    least_size=32,
    is_backbone=True,
    own_weights=("imagenet",),
)
def VGG16(
    build,
    include_top=True,
    weights=None,
    input_tensor=None,
    input_shape=None,
    pooling=None,
    classes=1000,
    classifier_activation="softmax",
    name="vgg16",
):
    """`keras.applications.VGG16`: 138,357,544 parameters with 1000 classes.

    Args:
        include_top: bool, with the three dense layers.
        weights: `None`; `"imagenet"`, the published weights, which Keras downloads; a
            tag of `kfeedback.list_weights()`, or the path of a file that
            `kfeedback.weights.load` takes.
        input_tensor: `None` or a symbolic image to start from.
        input_shape: `None` for (224, 224, 3), or `(H, W, C)`, at least 32×32.
        pooling: without the top: `None` for `(B, h, w, 512)`, `"avg"` or `"max"`.
        classes: int ≥ 1.
        classifier_activation: activation of the last layer, `None` for logits.
        name: name of the model.

    Returns:
        a functional `keras.Model`, `(B, H, W, C)` to `(B, classes)`.

    Departures from Keras: `weights` are `None` by default, the last layer is in float32
    under every dtype policy, and without a top `input_shape` has the same default.

    Reference:
        Simonyan and Zisserman, Very deep convolutional networks for large-scale
        image recognition, 2015.

    Example:
        >>> kfeedback.models.backbones.VGG16(weights="imagenet").output_shape
        (None, 1000)
    """
    build.require_sides()
    own = {
        "weights": "imagenet" if weights == "imagenet" else None,
        "input_shape": tuple(build.input.shape[1:]),
    }
    model = keras.applications.VGG16(**{**build.given, **own})
    if not include_top:
        return model
    theirs, mine = model.get_layer("predictions"), build.classifier_layer()
    outputs = mine(theirs.input)
    mine.set_weights(theirs.get_weights())
    return make_model(theirs.input, outputs, name)
