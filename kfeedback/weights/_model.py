"""The model's side of loading: what fits, all or none."""

import json
import re

import keras
import numpy as np

from kfeedback import graph
from kfeedback.classifier import last_with_weights
from kfeedback.weights._keys import counted, keyed

_SHOWN = 8  # names in an error


def feedback_variables(model):
    """The ids of the variables of feedback connections, at any depth."""
    return {
        id(variable)
        for layer in graph.all_layers(model)
        if getattr(layer, "is_feedback_connection", False)
        for variable in layer.weights
    }


def check_names(model, names, feedback, path, without_feedback=False):
    """Refuses a file whose names are not those of the model.

    Args:
        model: a `keras.Model`.
        names: those of the file's tensors.
        feedback: those of its feedback connections.
        path: of the file.
        without_feedback: bool, all of those may be left out.
    """
    own = keyed(model).keys()
    missing, extra = sorted(own - set(names)), sorted(set(names) - own)
    if without_feedback and set(extra) == set(feedback):
        extra = []
    if missing or extra:
        hint = ""
        if extra and set(extra) == set(feedback):
            hint = " (the feedback, which without_feedback=True leaves out)"
        elif _counted_alike(missing, extra):
            hint = (
                " (layers without names get numbers that depend on what was built "
                "before: name the layers, on both sides)"
            )
        raise ValueError(
            f"weights in {path} do not fit model '{model.name}': missing from the file "
            f"are {_listed(missing)}, unknown to the model are {_listed(extra)}{hint}."
        )


def check_counted(model, text, path):
    """Refuses a file of a network that has the names of counted layers elsewhere.

    Args:
        model: a `keras.Model`.
        text: JSON of `kfeedback.weights._keys.counted` of the file's model, or `None`.
        path: of the file.
    """
    mine, theirs = counted(model), json.loads(text or "[]")
    if mine != theirs and set(mine) == set(theirs):
        raise ValueError(
            f"weights in {path} do not fit model '{model.name}': its layers without "
            f"names stand in the order {_listed(theirs)}, those of the model in the "
            f"order {_listed(mine)} (name the layers, on both sides)."
        )


def _counted_alike(missing, extra):
    """Whether names differ in nothing but the numbers behind those of layers."""

    def plain(names):
        parts = [name.split("/", 1) for name in names]
        return sorted([re.sub(r"_\d+$", "", one[0]), *one[1:]] for one in parts)

    return plain(missing) == plain(extra)


def fit(model, tensors, path, *, replace_head=False, adapt_channels=False):
    """Compares types and shapes; nothing is read.

    Args:
        model: a `keras.Model`.
        tensors: dict from key to whatever has `shape` and `dtype`.
        path: of the file.
        replace_head: bool, leave out the head, and the feedback that reads it.
        adapt_channels: bool, let the first convolutions differ as 1 and 3 channels.

    Returns:
        Dict from the key of each variable to assign to a function of its value.
    """
    variables = keyed(model)
    left_out = _head_names(model, variables) if replace_head else set()
    first = _first_kernels(model, variables) if adapt_channels else set()
    plan, wrong = {}, []
    for name, variable in variables.items():
        if name in left_out:
            continue
        shape, stored = tuple(variable.shape), tensors[name]
        is_float = "float" in variable.dtype
        kind = "f" if is_float else np.dtype(variable.dtype).kind
        if stored.dtype.kind != kind or stored.dtype.itemsize > 8:
            raise ValueError(
                f"weights in {path} do not fit model '{model.name}': {name} is "
                f"{stored.dtype} in the file and {variable.dtype} in the model."
            )
        plan[name] = lambda value: value
        if stored.shape != shape:
            if name in first and _one_and_three(stored.shape, shape):
                plan[name] = _to_one if shape[-2] == 1 else _to_three
            else:
                wrong.append((name, stored.shape, shape))
    if wrong:
        sides = [
            f"{name} has shape {theirs} in the file and {mine} in the model"
            for name, theirs, mine in wrong[:_SHOWN]
        ]
        more = f", and {len(wrong) - _SHOWN} more" if len(wrong) > _SHOWN else ""
        hint = _shape_hint(model, variables, wrong)
        raise ValueError(
            f"weights in {path} do not fit model '{model.name}': {', '.join(sides)}"
            f"{more}{hint}."
        )
    return plan


def _shape_hint(model, variables, wrong):
    names = {name for name, *_ in wrong}
    try:
        if names <= _head_names(model, variables):
            return " (the head, which replace_head=True leaves as the model has it)"
    except ValueError:
        pass
    pairs = all(_one_and_three(a, b) for _, a, b in wrong)
    if pairs and names <= _first_kernels(model, variables):
        return " (image channels, which adapt_channels=True adapts)"
    return ""


def _one_and_three(a, b):
    """Whether shapes differ as kernels for 1 and for 3 channels do."""
    same = len(a) == len(b) == 4 and a[:2] == b[:2] and a[3] == b[3]
    return same and {a[2], b[2]} == {1, 3}


def _to_one(kernel):
    """A gray image then gives what three equal channels gave."""
    return kernel.sum(axis=-2, keepdims=True, dtype="float32")


def _to_three(kernel):
    """A colored image then gives what the mean of its channels gave."""
    return np.repeat(kernel.astype("float32") / 3, 3, axis=-2)


def _head_names(model, variables):
    """Keys of the last layer with weights, and of feedback that reads its output."""
    nodes = []
    model = graph.seen_through(model)
    if graph.has_graph(model) and model.outputs:
        nodes = last_with_weights(model.outputs)
    layers = list({id(n.operation): n.operation for n in nodes}.values())
    for layer in layers or [None]:
        dense = isinstance(layer, keras.layers.Dense)
        mixes = isinstance(layer, keras.layers.Conv2D) and set(layer.kernel_size) == {1}
        if not dense and not mixes:
            raise ValueError(
                "replace_head must be False for a model that does not end in a dense "
                "layer or a 1×1 convolution, got True for "
                f"'{model.name}' with {getattr(layer, 'name', None)!r}."
            )
    readers = [
        node.operation
        for node in graph.nodes(model.inputs, model.outputs)
        if getattr(node.operation, "is_feedback_connection", False)
        and any(n.operation in layers for n in last_with_weights(node.input_tensors))
    ]
    ids = {id(v) for layer in layers + readers for v in layer.weights}
    return {name for name, variable in variables.items() if id(variable) in ids}


def _first_kernels(model, variables):
    """Keys of the kernels of the convolutions that see the image."""
    model = graph.seen_through(model)
    if not graph.has_graph(model):
        return set()
    reached, kernels = {id(x) for x in model.inputs}, set()
    for node in graph.nodes(model.inputs, model.outputs):
        if not any(id(x) in reached for x in node.input_tensors):
            continue
        if not graph.layer_has_weights(node.operation):
            reached |= {id(x) for x in node.outputs}
        elif isinstance(node.operation, keras.layers.Conv2D):
            kernels.add(id(node.operation.kernel))
    return {name for name, variable in variables.items() if id(variable) in kernels}


def as_assigned(name, value, variable, path):
    """The value in the type of a variable; a ValueError unless all of it is finite."""
    dtype = variable.dtype
    if value.dtype.kind == "f":
        plain = dtype in ("float16", "float32", "float64")
        with np.errstate(over="ignore"):
            value = value.astype(dtype if plain else "float32", copy=False)
    if not is_finite(value):
        raise ValueError(f"weights must be finite, got {name} in {path}.")
    return value


def is_finite(value):
    """Whether no number is NaN or infinite."""
    if value.dtype.kind != "f":
        return True
    with np.errstate(over="ignore", invalid="ignore"):
        # A sum is finite only if all its terms are; it takes no memory.
        return bool(np.isfinite(value.sum()) or np.isfinite(value).all())


def assign(model, values):
    """Assigns all values, or, if anything interrupts that, none."""
    variables, before = keyed(model), []
    try:
        for name, value in values.items():
            variable = variables[name]
            before.append((variable, keras.ops.copy(variable)))
            variable.assign(value)
    except BaseException:
        for variable, value in before:
            variable.assign(value)
        raise
    for layer in graph.all_layers(model):
        if isinstance(layer, keras.layers.Normalization):
            layer.finalize_state()  # it keeps what follows from its weights


def _listed(names):
    if len(names) <= 40:
        return names or "none"
    return f"{names[:40]} and {len(names) - 40} more"
