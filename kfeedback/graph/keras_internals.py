"""Every protected name of Keras that this package relies on, each behind a public one.

Keras offers no public way to walk a functional model's graph. A test searches the
sources: such a name stands in this file or nowhere.
"""

import keras
from keras import tree


def producer(tensor):
    """The call that gives a symbolic tensor.

    Args:
        tensor: a `keras.KerasTensor` of a functional model.

    Returns:
        an object with `operation`, `input_tensors`, `outputs` and `is_input`.
    """
    operation, index, _ = tensor._keras_history
    return operation._inbound_nodes[index]


def nodes(inputs, outputs):
    """The calls on the way from symbolic inputs to outputs, in an order to run them.

    Each has `operation`, `input_tensors` and `outputs`.

    Args:
        inputs: list of symbolic tensors.
        outputs: list of symbolic tensors that depend on them.
    """
    by_depth = keras.Function(inputs, outputs)._nodes_by_depth
    return [
        node
        for depth in sorted(by_depth, reverse=True)
        for node in by_depth[depth]
        if not node.is_input
    ]


def run_through(function, values, call):
    """The outputs of a `keras.Function`, each call `call(operation, *args, **kwargs)`.

    Returns:
        a flat list; the values may be symbolic or real.
    """
    return tree.flatten(function._run_through_graph(values, call_fn=call))


def takes_training(operation):
    """Whether an operation can be called with `training`, as every layer can.

    One whose `call` has no such argument hands it on to the layers inside it.
    """
    return "training" in getattr(operation, "_call_context_args", ())


def all_layers(model):
    """The layers of a model at any depth, itself included.

    Args:
        model: a `keras.Model`.
    """
    return model._flatten_layers()
