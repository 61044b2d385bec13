"""The network that a factory gives feedback to: found, checked, on its own input."""

import keras

from kfeedback import checks, graph
from kfeedback import weights as weights_lib
from kfeedback.classifier import Head
from kfeedback.layers import StackTimesteps
from kfeedback.models import registry
from kfeedback.models.arguments import (
    check_top,
    image_input,
    make_model,
    pooling_layer,
)


class Network:
    """A functional classifier that is to be run several times with edits.

    Args:
        arguments: dict of all arguments of the factory: `backbone`, which is a model
            or a name, and the eight.

    Attributes:
        model: the functional model, nothing nested in it.
        head: its `Head`.
        include_top: bool, whether the output of a pass is the prediction.
        weights: what is left to load when the network is made.
        origin: dict of what the model is to note of its backbone.
        image: the symbolic image that the passes start from; this and the following
            are there after `open`.
        name_of: function from a layer's usual name to one that is free.
        pool: the layer that `pooling` asks for, for features without the top.
    """

    def __init__(self, arguments):
        self.include_top = arguments["include_top"]
        check_top(self.include_top, arguments["pooling"])
        backbone, self.weights = arguments["backbone"], arguments["weights"]
        if isinstance(backbone, str):
            backbone, self.weights = _named(backbone, arguments)
        weights_lib.check_weights(self.weights)
        origin = weights_lib.origin(backbone)
        self.origin = {"backbone": origin} if origin else {}
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
        self.head.check(
            self.include_top, arguments["classes"], arguments["classifier_activation"]
        )
        self._arguments = arguments

    def open(self):
        """Makes the symbolic image; changes nothing of the backbone."""
        self.image = _image(
            self.model, self._arguments["input_tensor"], self._arguments["input_shape"]
        )
        self.name_of = _names(self.model, self.image)
        if self._arguments["pooling"] is not None:
            graph.check_channels_last(self.model, "backbone")
        self.pool = pooling_layer(self._arguments["pooling"], self.name_of)

    def wanted(self):
        """The symbolic output of one pass: the prediction, or the features."""
        return self.model.outputs[0] if self.include_top else self.head.features[0]

    def finish(self, outputs, return_sequences):
        """The model of the outputs of all passes, or of the last."""
        if not self.include_top:
            outputs = [self.pool(x) for x in outputs]
        result = outputs[-1]
        if return_sequences:
            result = StackTimesteps(name=self.name_of("timesteps"), dtype=result.dtype)(
                outputs
            )
        return make_model(self.image, result, self._arguments["name"])


def _named(name, arguments):
    """The model of that name, and the weights that are left to load after it."""
    known = registry.backbones()
    if name not in known:
        raise ValueError(
            "backbone must be a functional keras.Model or one of "
            f"{', '.join(known)}, got {name!r}."
        )
    weights, input_shape = arguments["weights"], arguments["input_shape"]
    kwargs = {"classifier_activation": arguments["classifier_activation"]}
    # The backbone is built on an input of its own: the network runs it on the tensor.
    if arguments["input_tensor"] is not None and input_shape is None:
        input_shape = getattr(arguments["input_tensor"], "shape", (None,))[1:]
    kwargs["input_shape"] = input_shape
    if arguments["classes"] is not None:
        kwargs["classes"] = checks.integer("classes", arguments["classes"])
    if weights in known[name].own_weights:
        kwargs["weights"], weights = weights, None
    weights_lib.check_weights(weights)
    return known[name].factory(**kwargs), weights


def _image(backbone, input_tensor, input_shape):
    """The symbolic image that the network starts from."""
    own = tuple(backbone.inputs[0].shape[1:])
    if input_tensor is None and input_shape is None:
        return graph.input_like(backbone)
    image = image_input(input_tensor, input_shape, own, 1, backbone.inputs[0].dtype)
    if not checks.fits(image.shape[1:], own):
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
