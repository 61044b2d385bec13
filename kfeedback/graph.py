"""Rerun a functional Keras model, or the tail of it, with edits.

Feedback networks run one network several times with small changes. `rerun` is the
one mechanism behind that: it calls the model's own layers again on given tensors,
symbolic or real, and lets an edit change what chosen layers give. Nothing of the
model is copied, hooked or altered.

    memo = {}
    first = graph.rerun(model, images, memo=memo)
    edits = {"conv2": lambda features: emphasis(features, vector)}
    second = graph.rerun(model, images, edits, memo=memo)

With the same `memo`, a call whose inputs are the very same tensors is not made
again: the stem below the first edit is computed once, in any topology.
"""

import itertools

import keras
from keras import tree


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


def rerun(
    model, inputs, edits=None, *, linear=(), outputs=None, memo=None, training=None
):
    """Calls the layers of a functional model again, with edits.

    Args:
        model: a functional `keras.Model`. A model nested in it counts as one layer;
            see `flatten`.
        inputs: a tensor for the model's one input; or a dict from symbolic tensors
            of the model, such as `model.get_layer("conv1").output`, to tensors that
            take their places: then only what lies behind them is run.
        edits: dict from a layer of the model, or its name, to a function of that
            layer's output that returns what the following layers see instead. A
            layer that is called several times is edited at each of its calls.
        linear: layers whose activation is left out: one that is an activation gives
            its input, another what it has before its `activation`.
        outputs: symbolic tensor of the model, or list of such; the model's own
            output by default. Layers that it does not need are not called.
        memo: dict that is filled by one call and read by the next ones.
        training: bool, as for a call of the model; `None` leaves to each layer what
            that is. For a layer that augments images it is `True`.

    Returns:
        the value of `outputs`: one tensor, or a list for a list.

    Raises:
        ValueError: if a layer to edit is not in the model, or `outputs` needs more
            than the given `inputs`.
    """
    require_graph(model)
    if not isinstance(inputs, dict):
        inputs = {model.inputs[0]: inputs}
    by_id = {}
    for layer, edit in (edits or {}).items():
        found = get_layer(model, layer, "edits") if isinstance(layer, str) else layer
        known = getattr(
            model, "operations", model.layers
        )  # a Sequential has layers only
        if not any(found is one for one in known):
            raise ValueError(
                f"edits must name layers of '{model.name}', got "
                f"{getattr(found, 'name', found)!r}."
            )
        by_id[id(found)] = edit
    memo = {} if memo is None else memo
    calls = {}
    bare = {id(layer): without_activation(layer) for layer in linear}

    def call(operation, *args, **kwargs):
        kwargs |= _training(operation, training)
        calls[id(operation)] = calls.get(id(operation), 0) + 1
        # The same operation, for the n-th time in its pass, on the same tensors.
        leaves = tree.flatten((args, kwargs))
        key = (id(operation), calls[id(operation)], *map(_identity, leaves))
        if key not in memo:
            # The leaves are kept with the result, so that no id is used again.
            run = bare.get(id(operation), operation)
            memo[key] = (run(*args, **kwargs), leaves)
        result = memo[key][0]
        return by_id[id(operation)](result) if id(operation) in by_id else result

    single = outputs is None or isinstance(outputs, keras.KerasTensor)
    outputs = tree.flatten(model.outputs if outputs is None else outputs)
    results = _run(list(inputs.keys()), list(inputs.values()), outputs, call)
    return results[0] if single else results


def without_activation(layer):
    """A function like a layer, with its weights, that leaves out its activation.

    Nothing of the layer changes. What is nothing but an activation, which is every
    layer without weights of its own kind and PReLU, becomes the identity.

    Args:
        layer: a layer with an attribute `activation`, or one that is an activation.

    Returns:
        a function of what the layer takes.
    """
    if not layer_has_weights(layer) or isinstance(layer, keras.layers.PReLU):
        return lambda x, *args, **kwargs: x
    # A second object with the same attributes: copying a layer would copy its weights.
    twin = object.__new__(type(layer))
    vars(twin).update(vars(layer), activation=keras.activations.linear)
    return twin


def check_channels_last(model, argument="model"):
    """Raises a ValueError for a model of which a layer has its channels first."""
    for layer in model.layers:
        if getattr(layer, "data_format", None) == "channels_first":
            raise ValueError(
                f"{argument} must have its channels last, got '{model.name}', whose "
                f"'{layer.name}' has them first."
            )


def layer_has_weights(operation):
    """Whether an operation is a layer with weights."""
    return bool(getattr(operation, "weights", None))


def flatten(model, argument="model"):
    """The same network without models nested in models, its layers shared.

    Edits reach the layers of a model only, not those of a model inside it.

    Args:
        model: a functional `keras.Model`.
        argument: the name under which an error speaks of it.

    Returns:
        `model` itself if nothing is nested in it; otherwise a functional model of
        all the layers.

    Raises:
        ValueError: if it has no graph, or two layers then have one name.
    """
    require_graph(model, argument)
    if not any(has_graph(layer) for layer in model.layers):
        return model
    inputs = input_like(model)
    outputs = _expand(model, [inputs], training=None)
    try:
        return keras.Model(inputs, outputs[0], name=model.name)
    except ValueError as error:
        raise ValueError(
            f"{argument} must have layers with names of their own, also in the models "
            f"nested in it, got '{model.name}': {error}"
        ) from error


def input_like(model):
    """A new symbolic input with the shape, dtype and name of the model's own."""
    old = model.inputs[0]
    return keras.Input(batch_shape=old.shape, dtype=old.dtype, name=old.name)


def cut(model, layer):
    """Cuts a functional model behind a layer, with the layers shared by all three.

    Args:
        model: a functional `keras.Model`.
        layer: a layer of it, or its name, through which every path from the input
            to the output leads.

    Returns:
        `(stem, tail)`: two functional models with `tail(stem(x)) == model(x)`.

    Raises:
        ValueError: if there is no such layer, it is called more than once, or a
            path leads around it.
    """
    require_graph(model)
    found = layer_outputs(model, layer)
    name = layer if isinstance(layer, str) else layer.name
    if len(found) != 1:
        raise ValueError(
            f"layer must be called once by '{model.name}', got '{name}', which it "
            f"calls {len(found)} times."
        )
    middle = found[0]
    try:
        tail = keras.Model(middle, model.output, name=f"{model.name}_tail")
    except ValueError as error:
        raise ValueError(
            f"layer must lie on every path through '{model.name}', got '{name}', "
            "which some path leads around."
        ) from error
    return keras.Model(model.input, middle, name=f"{model.name}_stem"), tail


def get_layer(model, name, argument="layer"):
    """The layer of that name.

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


def nodes(inputs, outputs):
    """The calls on the way from symbolic inputs to outputs, in an order to run them.

    Each has `operation`, `input_tensors` and `outputs`.
    """
    by_depth = keras.Function(inputs, outputs)._nodes_by_depth
    return [
        node
        for depth in sorted(by_depth, reverse=True)
        for node in by_depth[depth]
        if not node.is_input
    ]


def nearest(tensors, wanted):
    """The nearest calls that are `wanted(node)`, on every way back from tensors."""
    found, waiting, seen = [], list(tensors), set()
    while waiting:
        operation, index, _ = waiting.pop(0)._keras_history
        node = operation._inbound_nodes[index]
        if id(node) in seen or node.is_input:
            continue
        seen.add(id(node))
        if wanted(node):
            found.append(node)
        else:
            waiting += node.input_tensors
    return found


def operation_names(inputs, outputs):
    """The names of all operations from inputs to outputs, the inputs' own included."""
    sources = {tensor._keras_history.operation.name for tensor in inputs}
    if all(any(x is source for source in inputs) for x in outputs):
        return sources
    return sources | {node.operation.name for node in nodes(inputs, outputs)}


def free_name(taken, name):
    """`name`, or with a number behind it if it is among the names `taken`."""
    candidates = itertools.chain([name], (f"{name}_{n}" for n in itertools.count(1)))
    return next(candidate for candidate in candidates if candidate not in taken)


def has_graph(layer):
    """Whether a layer is a model that computes what its graph of layers says."""
    if not isinstance(layer, keras.Model) or not getattr(layer, "inputs", None):
        return False
    owner = next(cls for cls in type(layer).__mro__ if "call" in vars(cls))
    return owner.__module__.split(".")[0] == "keras"


def _expand(model, values, training):
    def call(operation, *args, **kwargs):
        kwargs |= _training(operation, training)
        if has_graph(operation):
            inner = _expand(operation, tree.flatten(args), kwargs.get("training"))
            return inner[0] if len(inner) == 1 else inner
        return operation(*args, **kwargs)

    return _run(model.inputs, values, model.outputs, call)


def _training(operation, training):
    """The argument of that name for an operation that takes it, as Keras passes it."""
    takes = training is not None and getattr(operation, "_call_has_training_arg", False)
    return {"training": training} if takes else {}


def _run(sources, values, outputs, call):
    """The one place that walks Keras' graph: `call(operation, *args, **kwargs)`."""
    try:
        function = keras.Function(sources, outputs)
    except ValueError as error:
        raise ValueError(
            "outputs must depend on nothing but the given inputs, got "
            f"{', '.join(t.name for t in outputs)} for the inputs "
            f"{', '.join(t.name for t in sources)}."
        ) from error
    return tree.flatten(function._run_through_graph(values, call_fn=call))


def _identity(leaf):
    # By value only what is small and plain: the repr of an array leaves values out.
    if leaf is None or isinstance(leaf, bool | int | float | str):
        return repr(leaf)
    return id(leaf)
