"""Which layers of LRNet get feedback, what that costs, and what is computed once."""

import collections

import keras
import pytest

import kfeedback
from kfeedback import LRNet, graph
from kfeedback.layers import Feedback
from kfeedback.models.backbones import NIN, RCNN128, LeNet, VGGSmall
from tests.harness import tensorflow_only
from tests.models import common


@tensorflow_only
@pytest.mark.parametrize(
    "name, classes, backbone, extra",
    [
        ("lenet", 10, 431_080, 770),
        ("nin", 10, 966_986, 6_336),
        ("nin", 100, 984_356, 58_176),
        ("lnin", 10, 966_986, 6_336),
        ("lnin", 100, 984_356, 58_176),
        ("rcnn128", 10, 1_191_178, 5_632),
        ("rcnn128", 100, 1_202_788, 51_712),
    ],
)
def test_parameters(name, classes, backbone, extra):
    counts = [
        LRNet(name, classes=classes, timesteps=steps).count_params()
        for steps in (1, 2, 4)
    ]
    assert counts == [backbone, backbone + extra, backbone + extra]


@tensorflow_only
def test_vgg16():
    net = keras.applications.VGG16(weights=None)
    model = LRNet(net)
    assert model.count_params() - net.count_params() == 4_228_224
    assert feedback_sites(model) == [
        f"block{block}_conv{number}"
        for block, depth in enumerate((2, 2, 3, 3, 3), start=1)
        for number in range(1, depth + 1)
    ]


def feedback_sites(model):
    return [
        layer.name.removesuffix("_feedback")
        for layer in model.layers
        if isinstance(layer, Feedback)
    ]


@tensorflow_only
@pytest.mark.parametrize(
    "make, sites",
    [
        (LeNet, ["conv1", "conv2"]),
        (NIN, ["conv1", "conv4", "conv7"]),
        (RCNN128, ["rcl1", "rcl2", "rcl3", "rcl4"]),
        # Behind the batch norm where one follows the convolution directly.
        (common.conv_net, ["conv1", "bn2"]),
        (common.residual, ["stem", "shared", "last"]),
        (common.nested, ["bn1", "conv2"]),
        (
            lambda: VGGSmall(batch_norm=False, width=1 / 16),
            [
                f"block{block}_conv{number}"
                for block, depth in enumerate((2, 2, 3, 3, 3), start=1)
                for number in range(1, depth + 1)
            ],
        ),
    ],
)
def test_default_emphasis_layers(make, sites):
    assert sorted(feedback_sites(LRNet(make()))) == sorted(sites)


def test_emphasis_layers_by_name_or_layer():
    for wanted in ("relu2", ["relu2"], ("relu2",)):
        assert feedback_sites(LRNet(common.conv_net(), emphasis_layers=wanted)) == [
            "relu2"
        ]
    net = common.conv_net()
    layers = [net.get_layer("mix"), "conv1"]
    assert sorted(feedback_sites(LRNet(net, emphasis_layers=layers))) == [
        "conv1",
        "mix",
    ]
    assert feedback_sites(LRNet(net, emphasis_layers=net.get_layer("mix"))) == ["mix"]


@pytest.mark.parametrize(
    "make, layers, once, each_time",
    [
        (LeNet, None, ["conv1"], ["pool1", "conv2", "pool2", "fc1", "predictions"]),
        (LeNet, ["conv2"], ["conv1", "pool1", "conv2"], ["pool2", "fc1"]),
        (common.residual, ["last"], ["stem", "add", "concatenate", "last"], ["pool"]),
    ],
)
def test_what_lies_below_the_first_emphasis_is_computed_once(
    make, layers, once, each_time
):
    model = LRNet(make(), timesteps=3, emphasis_layers=layers)
    names = [n.operation.name for n in graph.nodes(model.inputs, model.outputs)]
    for name in once:
        assert names.count(name) == 1, name
    for name in each_time:
        assert names.count(name) == 3, name


@pytest.mark.parametrize("timesteps", [1, 2, 3, 4])
@pytest.mark.parametrize("sequences", [False, True])
@pytest.mark.parametrize("include_top", [False, True])
def test_every_layer_is_called_once_a_step(timesteps, sequences, include_top):
    net = LeNet(input_shape=(16, 16, 1))
    model = kfeedback.LRNet(
        net, include_top, timesteps=timesteps, return_sequences=sequences
    )
    calls = collections.Counter(
        node.operation.name for node in graph.nodes(model.inputs, model.outputs)
    )
    assert calls["conv1"] == 1
    assert calls["conv2"] == timesteps
    assert calls["conv1_emphasis"] == timesteps - 1
    assert calls["fc1"] == timesteps - (not include_top)
