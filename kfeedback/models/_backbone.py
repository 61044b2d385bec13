"""The network that a factory gives feedback to: found, checked, on its own input."""

import keras

from kfeedback import checks, graph
from kfeedback import weights as weights_lib
from kfeedback.classifier import Head
from kfeedback.layers import StackTimesteps
from kfeedback.models import _factory
from kfeedback.models.backbones import by_name
from kfeedback.weights import _origin


class Backbone:
    """A functional classifier that is to be run several times with edits.

    Attributes:
        model: the functional model, nothing nested in it.
        head: its `Head`.
        include_top: bool, whether the output of a pass is the prediction.
        image: the symbolic image that the passes start from; this and the following
            are there after `open`.
        name_of: function from a layer's usual name to one that is free.
        pool: the layer that `pooling` asks for, for features without the top.
    """

    def __init__(
        self,
        backbone,
        include_top,
        weights,
        input_tensor,
        input_shape,
        pooling,
        classes,
        classifier_activation,
    ):
        _factory.check_top(include_top, pooling)
        if isinstance(backbone, str):
            backbone, weights = _named(
                backbone,
                weights,
                input_tensor,
                input_shape,
                classes,
                classifier_activation,
            )
        weights_lib.check(weights)
        self._origin = weights_lib.origin(backbone)
        self.include_top = include_top
        self.model = graph.flatten(backbone, "backbone")
        if any(
            getattr(layer, "is_feedback_connection", False)
            for layer in self.model.layers
        ):
            raise ValueError(
                "backbone must be a network without feedback, got "
                f"'{self.model.name}', which has some already."
            )
        self.head = Head(self.model)
        self.head.check(include_top, classes, classifier_activation)
        self._input = (input_tensor, input_shape)
        self._pooling = pooling

    def open(self):
        """Makes the symbolic image; changes nothing of the backbone."""
        self.image = _image(self.model, *self._input)
        self.name_of = _names(self.model, self.image)
        self.pool = _factory.pooling_layer(self._pooling, self.name_of)

    def wanted(self):
        """The symbolic output of one pass: the prediction, or the features."""
        return self.model.outputs[0] if self.include_top else self.head.features[0]

    def finish(self, outputs, return_sequences, name):
        """The model of the outputs of all passes, or of the last."""
        if not self.include_top:
            outputs = [self.pool(x) for x in outputs]
        result = outputs[-1]
        if return_sequences:
            result = StackTimesteps(name=self.name_of("timesteps"), dtype=result.dtype)(
                outputs
            )
        model = _factory.make_model(self.image, result, name)
        if self._origin:
            _origin.note(model, {"backbone": self._origin})
        return model


def _named(name, weights, input_tensor, input_shape, classes, activation):
    """The model of that name, and the weights that are left to load after it."""
    # The backbone is built on an input of its own: the network runs it on the tensor.
    if input_tensor is not None and input_shape is None:
        input_shape = getattr(input_tensor, "shape", (None,))[1:]
    kwargs = {"input_shape": input_shape, "classifier_activation": activation}
    if classes is not None:
        kwargs["classes"] = checks.integer("classes", classes)
    if name == "vgg16":
        _factory.image_input(input_tensor, input_shape, (224, 224, 3), 32)
        _factory.check_activation(activation)
        published = weights == _factory.IMAGENET
        kwargs["weights"] = _factory.IMAGENET if published else None
        weights = None if published else weights
    weights_lib.check(weights)
    return by_name(name)(**kwargs), weights


def _image(backbone, input_tensor, input_shape):
    """The symbolic image that the network starts from."""
    own = tuple(backbone.inputs[0].shape[1:])
    if input_tensor is None and input_shape is None:
        return graph.input_like(backbone)
    image = _factory.image_input(
        input_tensor, input_shape, own, 1, backbone.inputs[0].dtype
    )
    fits = all(n is None or n == m for n, m in zip(own, image.shape[1:], strict=True))
    if not fits:
        raise ValueError(
            f"input_shape must fit backbone '{backbone.name}', {own}, got "
            f"{tuple(image.shape[1:])}."
        )
    return image


def _names(backbone, image):
    """Function from a layer's usual name to one that no other operation has."""
    before = graph.operation_names(keras.utils.get_source_inputs(image), [image])
    inside = graph.operation_names(backbone.inputs, backbone.outputs)
    calls = graph.nodes(backbone.inputs, backbone.outputs)
    twice = before & {node.operation.name for node in calls}
    if twice:
        raise ValueError(
            "input_tensor must come from layers with other names than those of "
            f"'{backbone.name}', got {', '.join(sorted(twice))}."
        )
    return lambda base: graph.free_name(before | inside, base)
