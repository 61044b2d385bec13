"""Which calls of a model are ReLUs: by Keras' names, or by what they do to numbers."""

import warnings

import keras
import numpy as np
from keras import ops

from kfeedback import graph

RELUS = ("relu", "relu6", "leakyrelu", "prelu")
"""Activations that are ReLUs, as Keras names functions and layers but for case and _"""

_RELU_LAYERS = (keras.layers.ReLU, keras.layers.LeakyReLU, keras.layers.PReLU)

_OTHER = ("celu", "elu", "gelu", "hardsilu", "hardswish", "mish", "selu", "silu")
_OTHER += ("lambda", "<lambda>", "softplus", "softsign", "tanh")

_MOST_CALLS = 8  # that are taken for one ReLU
_PRECISION = 2e-2  # of the largest value: bfloat16 has 8 bits

# Operations of Keras that can be a ReLU, by what else they are given.
_CAN_BE = ("Clip", "Maximum", "Threshold")


def is_relu(model, node):
    """Whether a call is a ReLU, also of 6, leaky or with a slope a channel, or ends so.

    What Keras does not name is measured: above 0 it gives what it is given, up to 1 at
    least, below 0 a share of it that is < 1. So is whether a layer of somebody's own
    ends in its `activation`, which it may as well use inside.

    Args:
        model: a functional `keras.Model`.
        node: one of its calls.
    """
    return _has_one(node) and (
        _is_known(node.operation)
        or _attribute(node.operation) is None
        or _ends_in_it(model, node)
    )


def _has_one(node):
    """Whether a call is a ReLU, or that of a layer whose `activation` is one."""
    if _name(node.operation) in RELUS:
        return True
    function = activation(node) if _may_be(node) else None
    return function is not None and _acts_as_relu(function, node)


def is_other(node):
    """Whether a call is another activation that Keras names, or a `Lambda`."""
    return _name(node.operation) in _OTHER


def of_several(model, calls, seen):
    """The last call of each ReLU that a model makes of several calls: a list.

    Such as `ops.where(x > 0, x, 0)` or `(x + ops.abs(x)) / 2`. What is measured are the
    calls without weights that lead from one tensor to another of its shape.

    Args:
        model: a functional `keras.Model`.
        calls: all its calls, in an order to run them.
        seen: ids of what ReLUs of one call give, which end a search.
    """
    place, found = {}, []
    for n, node in enumerate(calls):
        has_parts = graph.layer_has_weights(node.operation)
        has_parts = has_parts or graph.has_graph(node.operation)
        if not has_parts and not any(id(x) in seen for x in node.outputs):
            place[id(node)] = n
    for node in calls:
        if len(node.outputs) != 1 or len(node.outputs[0].shape) != 4:
            continue
        inner, count = node, 1
        sources = {}  # of the calls up to here, tensors by their ids
        while count <= _MOST_CALLS and id(inner) in place:
            for x in inner.outputs:
                sources.pop(id(x), None)
            sources |= {id(x): x for x in inner.input_tensors}
            if count > 1 and len(sources) == 1 and _is_one(model, sources, node):
                found.append(node)
                del place[id(node)]
                break
            if not sources:
                break
            makers = [graph.producer(x) for x in sources.values()]
            inner = max(makers, key=lambda maker: place.get(id(maker), -1))
            count += 1
    return found


def _is_one(model, sources, node):
    """Whether what a call gives is the ReLU of one tensor."""
    (x,) = sources.values()
    output = node.outputs[0]
    if x.shape != output.shape:
        return False

    def run(value):
        return graph.rerun(model, {x: value}, outputs=output, training=False)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what cannot be tried; most is no ReLU
        return _acts_as_relu(run, node)


def may_hide_one(node, seen):
    """Whether a call is that of a layer that may have a ReLU inside.

    Such as one with weights that shows no activation, or one that uses its own inside.

    Args:
        node: a call.
        seen: ids of what the ReLUs of a model give.
    """
    operation = node.operation
    if len(node.outputs[0].shape) != 4:
        return False
    known = _is_known(operation)
    if _attribute(operation) is not None:
        known = known or id(node.outputs[0]) in seen or not _has_one(node)
    elif not graph.layer_has_weights(operation):
        return False
    return getattr(operation, "has_relus_inside", not known)


def activation(node):
    """The activation of a call as a function of one tensor; `None` if it takes several.

    It is the attribute `activation` of a layer that has one; otherwise the operation
    itself with all else that this call gives it.
    """
    operation = node.operation
    found = _attribute(operation)
    if found is not None:
        return found
    if graph.layer_has_weights(operation) or len(node.input_tensors) != 1:
        # Such as PReLU; what has weights and no activation is asked for none.
        return operation if len(node.input_tensors) == 1 else None
    place = node.input_tensors[0]

    def apply(x):
        args, kwargs = node.arguments.fill_in({id(place): x})
        return operation(*args, **kwargs)

    return apply


def _attribute(operation):
    """The function that an operation has as `activation`, or `None`."""
    found = getattr(operation, "activation", None)
    return found if callable(found) else None


def _is_known(operation):
    """Whether an operation is Keras' own or of this package."""
    return type(operation).__module__.split(".")[0] in ("keras", "kfeedback")


def _ends_in_it(model, node):
    """Whether what a layer gives is its `activation` of what it gives without it."""
    operation = node.operation

    def run(linear=()):
        return graph.rerun(
            model, values, outputs=node.outputs[0], linear=linear, training=False
        )

    try:
        values, weights = graph.random_trial(node.input_tensors, [operation])
        with keras.StatelessScope(state_mapping=weights):
            pair = run(), _attribute(operation)(run([operation]))
        found, wanted = (ops.convert_to_numpy(ops.cast(x, "float32")) for x in pair)
    except Exception as error:  # a layer of somebody's own raises whatever it likes
        _say_untried(node, error)
        return False
    return found.shape == wanted.shape and bool(
        np.abs(found - wanted).max() <= _PRECISION * np.abs(found).max()
    )


def _say_untried(node, error):
    warnings.warn(
        f"'{node.operation.name}' counts as no ReLU: it could not be tried on "
        f"numbers ({type(error).__name__}: {error}).",
        stacklevel=3,
    )


def _name(operation):
    """Name of the activation that an operation is or ends in, without case and _."""
    found = _attribute(operation) or operation
    if isinstance(found, _RELU_LAYERS):  # also of a class of somebody's own
        return "relu"
    name = getattr(found, "__name__", type(found).__name__)
    return name.replace("_", "").lower()


def _may_be(node):
    """Whether a call has to be measured: nobody of Keras says what it does."""
    operation = node.operation
    found = _attribute(operation)
    if found is not None:
        return not _is_of_keras(found)
    if graph.layer_has_weights(operation) or graph.has_graph(operation):
        return False
    if len(node.input_tensors) != 1 or len(node.outputs) != 1:
        return False
    if node.input_tensors[0].shape != node.outputs[0].shape:
        return False
    is_lambda = isinstance(operation, keras.layers.Lambda)
    named = type(operation).__name__ in _CAN_BE
    return is_lambda or named or not _is_of_keras(type(operation))


def _is_of_keras(thing):
    return str(getattr(thing, "__module__", "")).split(".")[0] == "keras"


def _acts_as_relu(function, node):
    shape = [n or 4 for n in node.outputs[0].shape]
    x = np.random.default_rng(0).uniform(-1, 1, shape).astype("float32")
    try:
        y = function(ops.cast(x, node.outputs[0].dtype))
        y = ops.convert_to_numpy(ops.cast(y, "float32"))
    except Exception as error:  # a layer of somebody's own raises whatever it likes
        _say_untried(node, error)
        return False
    if y.shape != x.shape:
        return False
    above, ratio = x > 0.02, y / np.where(x == 0, 1, x)
    below = ratio[x < -0.02]
    if not (above.any() and below.size) or abs(ratio[above] - 1).max() > 0.01:
        return False
    return np.ptp(below) < 0.01 and -0.01 < below.min() and below.max() < 0.99
