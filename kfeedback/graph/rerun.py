"""Run a functional model again with edits, or cut it in two."""

import collections
from collections.abc import Iterable

import keras
from keras import tree

from kfeedback.backend import root_scope
from kfeedback.graph import keras_internals
from kfeedback.graph.queries import (
    get_layer,
    has_graph,
    input_like,
    layer_has_weights,
    layer_outputs,
    require_graph,
)


def rerun(
    model,
    inputs,
    edits=None,
    *,
    linear=(),
    linear_last=(),
    outputs=None,
    memo=None,
    training=None,
):
    """Calls the layers of a functional model again, with edits.

    Args:
        model: a functional `keras.Model`. A model nested in it counts as one layer;
            see `flatten`.
        inputs: a tensor for the model's one input, which is cast as the model casts
            it, but never to whole numbers, which have no gradient; or a dict from
            symbolic tensors of the model, such as `model.get_layer("conv1").output`,
            to tensors that take their places: then only what lies behind them is run.
        edits: dict from a layer of the model, or its name, to a function of that
            layer's output that returns what the following layers see instead. A
            layer that is called several times is edited at each of its calls.
        linear: a layer of the model, its name, or a list of such, whose activation is
            left out: one that is an activation gives its input, another what it has
            before its `activation`.
        linear_last: the same, but of the calls that are made of a layer, only the last
            is without its activation.
        outputs: symbolic tensor of the model, or list of such; the model's own
            output by default. Layers that it does not need are not called.
        memo: dict that is filled by one call and read by the next ones.
        training: bool, as for a call of the model; `None`: each layer's own default,
            which is `True` for layers that augment images.

    Returns:
        the value of `outputs`: one tensor, or a list for a list.

    Raises:
        ValueError: if a layer of `edits`, `linear` or `linear_last` is not in the model
            or is its input, or `outputs` needs more than the given `inputs`.

    Example:
        >>> model = kfeedback.models.backbones.LeNet()
        >>> images = np.zeros((2, 28, 28, 1), "float32")
        >>> doubled = rerun(model, images, {"conv1": lambda features: 2 * features})
        >>> tuple(doubled.shape)
        (2, 10)
    """
    require_graph(model)
    memo = {} if memo is None else memo
    if not isinstance(inputs, dict):
        inputs = {model.inputs[0]: _as_input(model, inputs, memo)}
    edits = edits or {}
    found = _layers_of(model, edits, "edits")
    by_id = {id(layer): edits[key] for key, layer in zip(edits, found, strict=True)}
    calls = {}
    single = outputs is None or isinstance(outputs, keras.KerasTensor)
    outputs = tree.flatten(model.outputs if outputs is None else outputs)
    found = _layers_of(model, linear, "linear")
    always = {id(layer) for layer in found}
    last = _layers_of(model, linear_last, "linear_last")
    bare = {id(layer): without_activation(layer) for layer in [*found, *last]}
    function = _function(list(inputs), outputs)
    counts = _counts(list(inputs), outputs) if last else {}

    def call(operation, *args, **kwargs):
        kwargs |= _training(operation, training)
        one = id(operation)
        calls[one] = calls.get(one, 0) + 1
        is_bare = one in bare and (one in always or calls[one] == counts[one])
        # The same operation, for the n-th time in its pass, on the same tensors.
        leaves = tree.flatten((args, kwargs))
        run = bare[one] if is_bare else operation
        key = (one, is_bare, calls[one], *map(_identity, leaves))
        if key not in memo:
            # The leaves are kept with the result, so that no id is used again.
            memo[key] = (run(*args, **kwargs), leaves)
        result = memo[key][0]
        return by_id[one](result) if one in by_id else result

    results = _run(function, list(inputs.values()), call)
    return results[0] if single else results


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

    Example:
        >>> inner = kfeedback.models.backbones.LeNet()
        >>> outer = keras.Sequential([keras.Input((28, 28, 1)), inner])
        >>> "conv1" in [layer.name for layer in flatten(outer).layers]
        True
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


def seen_through(model):
    """`flatten(model)`, or the model itself where that cannot be had.

    It cannot where two layers would have one name, or a model has no graph.
    """
    try:
        return flatten(model)
    except ValueError:
        return model


def _expand(model, values, training):
    values = [_cast(x, own.dtype) for x, own in zip(values, model.inputs, strict=True)]

    def call(operation, *args, **kwargs):
        kwargs |= _training(operation, training)
        if has_graph(operation):
            inner = _expand(operation, tree.flatten(args), kwargs.get("training"))
            return inner[0] if len(inner) == 1 else inner
        return operation(*args, **kwargs)

    return _run(_function(model.inputs, model.outputs), values, call)


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

    Example:
        >>> stem, tail = cut(kfeedback.models.backbones.LeNet(), "conv2")
        >>> stem.output_shape == tail.input_shape
        True
    """
    if not any(layer in (one, one.name) for one in require_graph(model).layers):
        model = flatten(model)  # it may be a layer of a model in the model
    found = layer_outputs(model, layer)
    name = getattr(layer, "name", layer)
    if len(found) != 1:
        raise ValueError(
            f"layer must be called once by '{model.name}', got {name!r}, which it "
            f"calls {len(found)} times."
        )
    middle = found[0]
    try:
        tail = keras.Model(middle, model.outputs[0], name=f"{model.name}_tail")
    except ValueError as error:
        raise ValueError(
            f"layer must lie on every path through '{model.name}', got {name!r}, "
            "which some path leads around."
        ) from error
    return keras.Model(model.inputs[0], middle, name=f"{model.name}_stem"), tail


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
        return _first_tensor
    # A second object with the same attributes: copying a layer would copy its weights.
    twin = object.__new__(type(layer))
    vars(twin).update(vars(layer), activation=keras.activations.linear)
    return twin


def _first_tensor(*args, **kwargs):
    """What an operation is given; a number beside it is none, as in `maximum(0, x)`."""
    given = tree.flatten((args, kwargs))
    return max(given, key=lambda x: len(getattr(x, "shape", ())))


def _training(operation, training):
    """The argument of that name for an operation that takes it, as Keras passes it."""
    takes = training is not None and keras_internals.takes_training(operation)
    return {"training": training} if takes else {}


def _counts(inputs, outputs):
    """How often each operation is called between symbolic tensors, by its id."""
    return collections.Counter(
        id(node.operation) for node in keras_internals.nodes(inputs, outputs)
    )


def _layers_of(model, layers, argument):
    """The layers that an argument lists, each a layer of the model or its name."""
    if isinstance(layers, str | keras.Operation):
        layers = [layers]
    elif not isinstance(layers, Iterable):
        raise ValueError(
            f"{argument} must be a layer of '{model.name}', its name or a list of "
            f"such, got {layers!r}."
        )
    known = getattr(model, "operations", model.layers)  # a Sequential has layers only
    found = []
    for layer in layers:
        one = get_layer(model, layer, argument) if isinstance(layer, str) else layer
        is_input = isinstance(one, keras.layers.InputLayer)  # which is never called
        if is_input or not any(one is other for other in known):
            raise ValueError(
                f"{argument} must name layers of '{model.name}' behind its input, got "
                f"{getattr(one, 'name', one)!r}."
            )
        found.append(one)
    return found


def _as_input(model, x, memo):
    """An array or tensor in the float dtype that the model takes; others as they are.

    The memo has it cast once: its further keys are ids of tensors.
    """
    wanted = model.inputs[0].dtype
    if isinstance(x, keras.KerasTensor) or not hasattr(x, "dtype"):
        return x
    if "float" not in wanted or keras.backend.standardize_dtype(x.dtype) == wanted:
        return x
    key = ("input", id(x))
    if key not in memo:
        memo[key] = (keras.ops.cast(x, wanted), x)
    return memo[key][0]


def _cast(x, dtype):
    """A tensor as a nested model takes it, but whole numbers keep what is a float."""
    return x if "float" not in dtype or x.dtype == dtype else keras.ops.cast(x, dtype)


def _function(sources, outputs):
    """The part of a graph between symbolic tensors."""
    try:
        return keras.Function(sources, outputs)
    except ValueError as error:
        raise ValueError(
            "outputs must depend on nothing but the given inputs, got "
            f"{', '.join(t.name for t in outputs)} for the inputs "
            f"{', '.join(t.name for t in sources)}."
        ) from error


def _run(function, values, call):
    """The one place that walks Keras' graph: `call(operation, *args, **kwargs)`."""
    with root_scope():
        return keras_internals.run_through(function, values, call)


def _identity(leaf):
    # By value only what is small and plain: the repr of an array leaves values out.
    if leaf is None or isinstance(leaf, bool | int | float | str):
        return repr(leaf)
    return id(leaf)
