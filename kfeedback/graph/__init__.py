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

from kfeedback.graph.keras_internals import all_layers, nodes, producer
from kfeedback.graph.queries import (
    check_channels_last,
    free_name,
    get_layer,
    get_layers,
    has_graph,
    input_like,
    layer_has_weights,
    layer_outputs,
    nearest,
    operation_names,
    require_graph,
)
from kfeedback.graph.rerun import (
    cut,
    flatten,
    rerun,
    seen_through,
    without_activation,
)
from kfeedback.graph.trial import random_trial

__all__ = [
    "all_layers",
    "check_channels_last",
    "cut",
    "flatten",
    "free_name",
    "get_layer",
    "get_layers",
    "has_graph",
    "input_like",
    "layer_has_weights",
    "layer_outputs",
    "nearest",
    "nodes",
    "operation_names",
    "producer",
    "random_trial",
    "require_graph",
    "rerun",
    "seen_through",
    "without_activation",
]
