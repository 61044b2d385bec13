"""What graph refuses: each in one sentence that names the argument."""

import keras
import numpy as np
import pytest
from keras import layers

from kfeedback import graph
from tests import harness
from tests.models import common


def unbuilt():
    return keras.Sequential([layers.Dense(3)])


class WithItsOwnCall(keras.Model):
    """Has a graph, which is not what it computes."""

    def call(self, x):
        return super().call(x) + 1


def own_call():
    image = keras.Input((3,))
    return WithItsOwnCall(image, layers.Dense(2)(image))


def several(kind):
    one, two = keras.Input((3,), name="one"), keras.Input((3,), name="two")
    both = layers.Add()([one, two])
    if kind == "inputs":
        return keras.Model([one, two], both)
    return keras.Model(one, [layers.Dense(2)(one), layers.Dense(2)(one)])


@pytest.mark.parametrize(
    "make, error",
    [
        (lambda: 3, TypeError),
        (lambda: None, TypeError),
        (lambda: layers.Dense(3), TypeError),
        (unbuilt, ValueError),
        (own_call, ValueError),
        (lambda: several("inputs"), ValueError),
        (lambda: several("outputs"), ValueError),
    ],
)
def test_refuses_what_is_no_graph(make, error):
    x = np.ones((2, 3), "float32")
    for call in (
        lambda model: graph.rerun(model, x),
        lambda model: graph.cut(model, "dense"),
        graph.flatten,
        graph.require_graph,
    ):
        with pytest.raises((TypeError, ValueError)) as caught:
            call(make())
        assert type(caught.value) is error
        harness.assert_one_sentence(caught.value, "model")


@pytest.mark.parametrize(
    "edits",
    [{"nowhere": None}, {layers.Dense(3, name="foreign"): None}, {3: None}],
    ids=str,
)
def test_refuses_edits_of_unknown_layers(edits):
    net = common.conv_net()
    with pytest.raises(ValueError) as caught:
        graph.rerun(net, harness.random_images((8, 8, 2)), edits)
    harness.assert_one_sentence(caught.value, "edits")


@pytest.mark.parametrize(
    "linear",
    ["relu7", ["relu7"], [layers.ReLU(name="foreign")], 3, [3], "image"],
    ids=str,
)
def test_refuses_linear_layers_that_are_unknown(linear):
    net = common.conv_net()
    with pytest.raises(ValueError) as caught:
        graph.rerun(net, harness.random_images((8, 8, 2)), linear=linear)
    harness.assert_one_sentence(caught.value, "linear")


@pytest.mark.parametrize("by_name", [True, False])
def test_refuses_an_edit_of_the_input_which_would_not_run(by_name):
    net = common.conv_net()
    key = "image" if by_name else net.get_layer("image")
    with pytest.raises(ValueError) as caught:
        graph.rerun(net, harness.random_images((8, 8, 2)), {key: lambda x: x * 2})
    harness.assert_one_sentence(caught.value, "edits")


@pytest.mark.parametrize("layer", [3, None, [1]])
def test_refuses_a_cut_at_what_is_no_layer(layer):
    with pytest.raises(ValueError) as caught:
        graph.cut(common.conv_net(), layer)
    harness.assert_one_sentence(caught.value, "layer")


def test_refuses_an_unknown_layer_name_and_lists_the_known():
    net = common.conv_net()
    for call in (graph.cut, graph.get_layer, graph.layer_outputs):
        with pytest.raises(ValueError) as caught:
            call(net, "conv7")
        harness.assert_one_sentence(caught.value, "layer")
        assert "conv7" in str(caught.value)
        assert "conv1, mix, conv2" in str(caught.value)


def test_refuses_a_cut_that_a_path_leads_around():
    net = common.residual()
    with pytest.raises(ValueError) as caught:
        graph.cut(net, "shared")
    harness.assert_one_sentence(caught.value, "layer")
    assert "2 times" in str(caught.value)
    image = keras.Input((4,))
    x = layers.Dense(4, name="branch")(image)
    around = keras.Model(image, layers.Add()([x, image]))
    with pytest.raises(ValueError) as caught:
        graph.cut(around, "branch")
    harness.assert_one_sentence(caught.value, "layer")
    with pytest.raises(ValueError) as caught:
        graph.cut(net, layers.Dense(3, name="foreign"))
    harness.assert_one_sentence(caught.value, "layer")


def test_refuses_outputs_that_need_more_than_the_inputs():
    net = common.residual()
    add = net.get_layer("add").output
    with pytest.raises(ValueError) as caught:
        graph.rerun(net, {net.get_layer("last").output: 1.0}, outputs=add)
    harness.assert_one_sentence(caught.value, "outputs")
