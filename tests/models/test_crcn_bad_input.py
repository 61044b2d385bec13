"""What CRCN refuses: each in one sentence that names the argument."""

import keras
import numpy as np
import pytest
from keras import layers

from kfeedback import CRCN, LRNet
from kfeedback.models.backbones import VGGSmall
from tests import harness
from tests.models import common
from tests.models.crcn import LOOPS


def strided():
    """Maps of 8×8, 7×7, 4×4 and 4×8."""
    image = keras.Input((8, 8, 2))
    x = layers.Conv2D(3, 3, padding="same", name="eight")(image)
    seven = layers.Conv2D(3, 2, name="seven")(x)
    x = layers.Conv2D(3, 2, (2, 1), padding="same", name="four_by_eight")(x)
    x = layers.Conv2D(3, 2, (1, 2), padding="same", name="four")(x)
    seven, x = (layers.GlobalAveragePooling2D()(y) for y in (seven, x))
    x = layers.Concatenate()([seven, x])
    return keras.Model(image, layers.Dense(4, name="predictions")(x), name="strided")


def shared():
    """A convolution that is called twice."""
    image = keras.Input((8, 8, 2))
    twice = layers.Conv2D(2, 3, padding="same", name="twice")
    x = layers.Conv2D(2, 3, padding="same", name="last")(twice(twice(image)))
    x = layers.Dense(4)(layers.GlobalAveragePooling2D()(x))
    return keras.Model(image, x, name="shared")


def channels_first():
    image = keras.Input((2, 8, 8))
    x = image
    for name in ("one", "two"):
        x = layers.Conv2D(
            8, 3, padding="same", data_format="channels_first", name=name
        )(x)
    x = layers.GlobalAveragePooling2D(data_format="channels_first")(x)
    return keras.Model(image, layers.Dense(4)(x), name="channels_first")


def refuse(argument, error, make, **arguments):
    with pytest.raises((ValueError, TypeError)) as caught:
        CRCN(make(), **arguments)
    assert type(caught.value) is error
    harness.assert_one_sentence(caught.value, argument)
    return str(caught.value)


STACKED = [
    ([("conv2", "conv3")], "not above"),
    ([("conv2", "conv2")], "not above"),
    ([("conv1", "conv5")], "not above"),
    ([LOOPS[0], ("conv1", "conv4")], "not above"),
    ([("conv4", "conv2"), ("conv5", "conv3")], "cross"),
    ([("conv5", "conv3"), ("conv4", "conv2")], "cross"),
    ([("conv9", "conv2")], "'conv9'"),
    ([("conv3", "conv9")], "'conv9'"),
    ([("conv3", "")], "''"),
    ([("conv3", 2)], "got 2"),
    ([("conv3", None)], "got None"),
    ([("conv3", "conv2"), ("conv4", "conv2")], "two to conv2"),
    ([LOOPS[0], LOOPS[0]], "two to conv2"),
    ([("predictions", "conv2")], "'predictions'"),
    ([("pool", "conv2")], "'pool'"),
    ([], "got []"),
    ((), "got ()"),
    ({}, "got {}"),
    (None, "got None"),
    (True, "got True"),
    (2, "got 2"),
    ("conv3", "got 'conv3'"),
    (("conv3", "conv2"), "got 'conv3'"),  # one loop, not in a list
    ([("conv3", "conv2", "conv1")], "conv1"),
    ([("conv3",)], "('conv3',)"),
    ([()], "got ()"),
    ([4], "got 4"),
    ([0], "got 0"),
    ([-1], "got -1"),
    ([True], "got True"),
    ([1.0], "got 1.0"),
    (["1"], "got '1'"),
    ([None], "got None"),
    (
        [1],
        "pairs of layer names (higher, lower) for 'stacked'",
    ),  # the paper's, of a network that has no such layers
]


@pytest.mark.parametrize("loops, says", STACKED, ids=str)
def test_refuses_loops(loops, says):
    assert says in refuse("loops", ValueError, common.stacked_net, loops=loops)


@pytest.mark.parametrize("loops", [[4], [1, 1], [1, 2, 3, 4], [1, 2, 1]], ids=str)
def test_refuses_loops_of_vgg_small(loops):
    refuse("loops", ValueError, lambda: VGGSmall(width=1 / 16), loops=loops)


def test_names_that_nobody_gave_are_not_asked_for():
    said = refuse("loops", ValueError, lambda: "lenet")
    assert "block3" not in said and "'lenet'" in said


def test_refuses_branches_that_are_not_above_each_other():
    said = refuse("loops", ValueError, strided, loops=[("four", "seven")])
    assert "not above" in said


def test_refuses_a_layer_that_is_called_twice():
    refuse("loops", ValueError, shared, loops=[("last", "twice")])


@pytest.mark.parametrize(
    "make, error",
    [
        (lambda: "vgg19", ValueError),
        (lambda: None, TypeError),
        (lambda: layers.Conv2D(3, 3), TypeError),
        (lambda: keras.Sequential([layers.Dense(3)]), ValueError),
        (lambda: CRCN(common.stacked_net(), loops=LOOPS), ValueError),
        (lambda: LRNet(common.stacked_net()), ValueError),
        (lambda: LRNet(common.stacked_net(), return_sequences=True), ValueError),
        (channels_first, ValueError),
    ],
)
def test_refuses_the_backbone(make, error):
    refuse("backbone", error, make, loops=[("two", "one")])


def test_lrnet_refuses_a_crcn():
    with pytest.raises(ValueError) as caught:
        LRNet(CRCN(common.stacked_net(), loops=LOOPS))
    harness.assert_one_sentence(caught.value, "backbone")


def test_a_single_pass_has_no_feedback_yet():
    once = CRCN(common.stacked_net(), loops=LOOPS, timesteps=1)
    assert CRCN(once, loops=LOOPS)


ARGUMENTS = [
    ({"timesteps": 0}, ValueError, "timesteps"),
    ({"timesteps": -1}, ValueError, "timesteps"),
    ({"timesteps": 2.0}, ValueError, "timesteps"),
    ({"timesteps": True}, ValueError, "timesteps"),
    ({"timesteps": None}, ValueError, "timesteps"),
    ({"return_sequences": 1}, TypeError, "return_sequences"),
    ({"contextual_module": 5}, ValueError, "contextual_module"),
    ({"contextual_module": 0}, ValueError, "contextual_module"),
    ({"contextual_module": True}, ValueError, "contextual_module"),
    ({"contextual_module": 1.0}, ValueError, "contextual_module"),
    ({"contextual_module": "1"}, ValueError, "contextual_module"),
    ({"contextual_module": None}, ValueError, "contextual_module"),
    ({"bottom_up": "kept"}, ValueError, "bottom_up"),
    ({"bottom_up": True}, ValueError, "bottom_up"),
    ({"bottom_up": np.array(["carried", "kept"])}, ValueError, "bottom_up"),
    ({"bottom_up": None}, ValueError, "bottom_up"),
    ({"include_top": "no"}, TypeError, "include_top"),
    ({"pooling": "avg"}, ValueError, "pooling"),
    ({"include_top": False, "pooling": "mean"}, ValueError, "pooling"),
    ({"weights": "imagenet"}, ValueError, "weights"),
    ({"weights": "no/such/file.h5"}, ValueError, "weights"),
    ({"classes": 10}, ValueError, "classes"),
    ({"classes": 0}, ValueError, "classes"),
    ({"classifier_activation": None}, ValueError, "classifier_activation"),
    ({"input_shape": (8, 8)}, ValueError, "input_shape"),
    ({"input_shape": (9, 8, 2)}, ValueError, "input_shape"),
    ({"input_tensor": np.zeros((1, 8, 8, 2))}, TypeError, "input_tensor"),
]


@pytest.mark.parametrize("arguments, error, argument", ARGUMENTS, ids=str)
def test_refuses(arguments, error, argument):
    refuse(argument, error, common.stacked_net, **{"loops": LOOPS, **arguments})


def test_nothing_of_the_backbone_changes_with_a_refusal():
    net = common.stacked_net()
    before = {layer.name: len(layer._inbound_nodes) for layer in net.layers}
    for arguments in (
        {"loops": [("conv2", "conv3")]},
        {"loops": [("conv4", "conv2"), ("conv5", "conv3")]},
        {"loops": LOOPS, "classes": 3},
        {"loops": LOOPS, "timesteps": 0},
    ):
        with pytest.raises(ValueError):
            CRCN(net, **arguments)
    assert {layer.name: len(layer._inbound_nodes) for layer in net.layers} == before
