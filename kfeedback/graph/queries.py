"""Questions to a functional model: what it has, what leads to what, what is free."""

import itertools

import keras

from kfeedback.graph import keras_internals
from kfeedback.graph.keras_internals import nodes


def require_graph(model, argument="model"):
    """Returns `model` if it has a graph of layers with one input and one output.

    Args:
        model: a functional `keras.Model`, or a `keras.Sequential` that knows its
            input shape.
        argument: the name under which an error speaks of it.

    Returns:
        `model`.

    Raises:
        TypeError: if it is no Keras model.
        ValueError: if it has no graph, several inputs or several outputs.
    """
    if not isinstance(model, keras.Model):
        raise TypeError(
            f"{argument} must be a functional keras.Model, got {type(model).__name__}."
        )
    if not has_graph(model):
        kind = type(model).__name__
        raise ValueError(
            f"{argument} must be a functional keras.Model, got {kind} "
            f"'{model.name}' without a graph of layers (build a Sequential by giving "
            "it an Input; a model with a `call` of its own has none)."
        )
    for what, tensors in (("input", model.inputs), ("output", model.outputs)):
        if len(tensors) != 1:
            raise ValueError(
                f"{argument} must have one {what}, got {len(tensors)} in "
                f"'{model.name}': {', '.join(t.name for t in tensors)}."
            )
    return model


def has_graph(layer):
    """Whether a layer is a model that computes what its graph of layers says.

    Args:
        layer: any `keras.layers.Layer`.
    """
    if not isinstance(layer, keras.Model) or not getattr(layer, "inputs", None):
        return False
    owner = next(cls for cls in type(layer).__mro__ if "call" in vars(cls))
    return owner.__module__.split(".")[0] == "keras"


def check_channels_last(model, argument="model"):
    """Raises a ValueError for a model of which a layer has its channels first.

    Args:
        model: a functional `keras.Model`.
        argument: what the error calls it.
    """
    for layer in model.layers:
        if getattr(layer, "data_format", None) == "channels_first":
            raise ValueError(
                f"{argument} must have its channels last, got '{model.name}', whose "
                f"'{layer.name}' has them first."
            )


def layer_has_weights(operation):
    """Whether an operation is a layer with weights.

    Args:
        operation: a `keras.Operation`, of which layers are a kind.
    """
    return bool(getattr(operation, "weights", None))


def input_like(model):
    """A new symbolic input with the shape, dtype and name of the model's own.

    Args:
        model: a functional `keras.Model` of one input.
    """
    old = model.inputs[0]
    return keras.Input(batch_shape=old.shape, dtype=old.dtype, name=old.name)


def get_layer(model, name, argument="layer"):
    """The layer of that name.

    Args:
        model: a functional `keras.Model`.
        name: of the layer.
        argument: what the error calls the name.

    Raises:
        ValueError: if there is none; `argument` is what the error calls the name.
    """
    for layer in model.layers:
        if layer.name == name:
            return layer
    raise ValueError(
        f"{argument} must name layers of '{model.name}', got {name!r}; it has "
        f"{', '.join(layer.name for layer in model.layers)}."
    )


def get_layers(model, layers, argument="layers"):
    """The layers that an argument lists: layers, names, or one of them alone.

    Args:
        model: a functional `keras.Model`.
        layers: a layer, its name, or a list of such.
        argument: what the error calls them.

    Raises:
        TypeError: if it is no such list; `argument` is what the error calls it.
        ValueError: if it is empty or a name is none of the model's.
    """
    if isinstance(layers, str | keras.Operation):
        layers = [layers]
    if not isinstance(layers, list | tuple):
        raise TypeError(
            f"{argument} must be None, a layer, its name or a list of such, got "
            f"{layers!r}."
        )
    if not layers:
        raise ValueError(
            f"{argument} must be None or name at least one layer of '{model.name}', "
            f"got {layers!r}."
        )
    return [
        get_layer(model, layer, argument) if isinstance(layer, str) else layer
        for layer in layers
    ]


def layer_outputs(model, layer):
    """The symbolic outputs of a layer, one for each call that the model makes.

    Later passes come later: the calls are in the order of how many calls lead to them.

    Args:
        model: a functional `keras.Model`.
        layer: a layer of it, or its name.
    """
    layer = get_layer(model, layer) if isinstance(layer, str) else layer
    found = [
        node.outputs[0]
        for node in nodes(model.inputs, model.outputs)
        if node.operation is layer
    ]
    if len(found) == 1:
        return found
    return sorted(found, key=lambda x: len(nodes(model.inputs, [x])))


def nearest(tensors, wanted):
    """The nearest calls that are `wanted(node)`, on every way back from tensors.

    Args:
        tensors: list of symbolic tensors.
        wanted: function from a call to bool.
    """
    found, waiting, seen = [], list(tensors), set()
    while waiting:
        node = keras_internals.producer(waiting.pop(0))
        if id(node) in seen or node.is_input:
            continue
        seen.add(id(node))
        if wanted(node):
            found.append(node)
        else:
            waiting += node.input_tensors
    return found


def operation_names(inputs, outputs):
    """The names of all operations from inputs to outputs, the inputs' own included.

    Args:
        inputs: list of symbolic tensors.
        outputs: list of symbolic tensors that depend on them.
    """
    sources = {keras_internals.producer(tensor).operation.name for tensor in inputs}
    if all(any(x is source for source in inputs) for x in outputs):
        return sources
    return sources | {node.operation.name for node in nodes(inputs, outputs)}


def free_name(taken, name):
    """`name`, or with a number behind it if it is among the names `taken`.

    Args:
        taken: set of names.
        name: the one that is wanted.
    """
    candidates = itertools.chain([name], (f"{name}_{n}" for n in itertools.count(1)))
    return next(candidate for candidate in candidates if candidate not in taken)
