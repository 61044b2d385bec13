"""The protected part of Keras that graph stands on."""

import inspect

import keras

from kfeedback import graph
from kfeedback.graph import keras_internals
from tests.models import common


def test_keras_still_has_what_graph_stands_on():
    """`graph.nodes` and `graph._run` are the only users of Keras' protected API."""
    advice = (
        "Keras changed its graph of nodes: adapt `nodes` and `_run` in "
        "kfeedback/graph.py, the only two places that use it, and this test."
    )
    run = getattr(keras.Function, "_run_through_graph", None)
    assert run is not None, advice
    assert list(inspect.signature(run).parameters)[1] == "inputs", advice
    assert "call_fn" in inspect.signature(run).parameters, advice

    net = common.residual()
    function = keras.Function(net.inputs, net.outputs)
    depths = getattr(function, "_nodes_by_depth", None)
    assert isinstance(depths, dict) and depths, advice
    found = [node for nodes in depths.values() for node in nodes]
    assert all(hasattr(node, "is_input") for node in found), advice
    names = sorted(node.operation.name for node in found if not node.is_input)
    calls = ["stem", "shared", "add", "shared", "concatenate"]
    assert names == sorted([*calls, "last", "pool", "predictions"]), advice
    assert all(node.outputs for node in found), advice
    assert all(node.input_tensors for node in found if not node.is_input), advice
    # The input has the greatest depth, the output depth 0.
    assert depths[0][0].operation.name == "predictions", advice

    met = []

    def call(operation, *args, **kwargs):
        met.append(operation.name)
        return operation(*args, **kwargs)

    function._run_through_graph([graph.input_like(net)], call_fn=call)
    assert sorted(met) == names, advice
    operation, index, _ = net.output._keras_history
    assert operation._inbound_nodes[index].outputs[0] is net.output, advice
    relu = graph.producer(keras.ops.relu(net.output)).operation
    # `training` goes to every layer: one whose `call` has no such argument hands it on
    # to the layers inside.
    assert "training" in net.get_layer("stem")._call_context_args, advice
    assert keras_internals.takes_training(net.get_layer("stem"))
    assert not keras_internals.takes_training(relu)
