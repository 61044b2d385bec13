"""Networks that CRCN takes, and how loops are given."""

import keras
import pytest

from kfeedback import CRCN, graph
from kfeedback.layers import Contextual
from kfeedback.models.backbones import VGGSmall
from tests import harness
from tests.harness import tensorflow_only
from tests.models import common
from tests.models.crcn import LOOPS, modules, predict


@tensorflow_only
@pytest.mark.parametrize("batch_norm", [False, True])
def test_loops_of_vgg_small_join_what_the_relus_give(batch_norm):
    net = VGGSmall(width=1 / 16, batch_norm=batch_norm)
    model = CRCN(net, loops=(3, 1, 2), timesteps=2)
    joined = {
        node.operation.name: [
            x._keras_history.operation.name for x in node.input_tensors
        ]
        for node in graph.nodes(model.inputs, model.outputs)
        if isinstance(node.operation, Contextual)
    }
    assert joined == {
        "block2_relu2_contextual": ["block2_relu2", "block3_relu2"],
        "block3_relu3_contextual": ["block3_relu3", "block4_relu2"],
        "block4_relu3_contextual": ["block4_relu3", "block5_relu2"],
    }


def test_loops_by_number_and_by_name_mix():
    net = VGGSmall(width=1 / 16)
    model = CRCN(net, loops=[1, ("block4_relu2", "block3_relu3")], timesteps=2)
    assert len(modules(model)) == 2


@tensorflow_only
def test_by_name():
    model = CRCN("vgg_small", classes=7, classifier_activation=None, name="mine")
    assert model.name == "mine"
    assert model.output.shape == (None, 7)


def test_an_image_of_known_size_for_a_network_of_unknown_size():
    net = common.stacked_net(size=None)
    for known in (
        {"input_shape": (8, 12, 2)},
        {"input_tensor": keras.Input((8, 12, 2))},
    ):
        model = CRCN(net, loops=LOOPS, timesteps=2, **known)
        images = harness.random_images((8, 12, 2), 2)
        harness.assert_bit_equal(predict(model, images), predict(net, images), "same")


def test_names_that_the_backbone_has_are_left_to_it():
    image = keras.Input((8, 8, 3), name="conv2_contextual")
    x = keras.layers.Conv2D(2, 1, name="timesteps")(image)
    model = CRCN(
        common.stacked_net(), input_tensor=x, loops=LOOPS[:1], return_sequences=True
    )
    assert modules(model) == ["conv2_contextual_1"]
    assert model.get_layer("timesteps_1")


def test_nested_and_mixed_precision_networks():
    harness.fresh_names("mixed_bfloat16")
    inner = common.stacked_net()
    keras.config.set_dtype_policy("float32")
    image = keras.Input((8, 8, 2))
    net = harness.randomize(keras.Model(image, inner(image), name="outer"))
    model = CRCN(net, loops=LOOPS, return_sequences=True)
    assert model.get_layer("conv2_contextual").compute_dtype == "bfloat16"
    result = predict(model)
    for step in range(3):
        harness.assert_bit_equal(result[:, step], predict(net), f"step {step + 1}")
