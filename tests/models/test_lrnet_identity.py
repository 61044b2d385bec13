"""A fresh LRNet gives what its network gives, bit for bit, at every timestep."""

import keras
import numpy as np
import pytest

from kfeedback import LRNet
from kfeedback.models.backbones import NIN, RCNN128, LeNet, VGGSmall
from tests import harness
from tests.harness import tensorflow_only
from tests.models import common
from tests.models.common import predict


def mixed_net():
    harness.fresh_names("mixed_bfloat16")
    net = common.conv_net()
    keras.config.set_dtype_policy("float32")
    return net


def nested_mixed():
    harness.fresh_names("mixed_float16")
    return common.nested()


def small(name, **kwargs):
    application = getattr(keras.applications, name)
    return application(weights=None, input_shape=(32, 32, 3), classes=5, **kwargs)


NETWORKS = {
    "lenet": LeNet,
    "nin": lambda: NIN(input_shape=(12, 12, 3)),
    "lnin": lambda: NIN(input_shape=(12, 12, 3), negative_slope=0.1),
    "rcnn128": lambda: RCNN128(filters=16, input_shape=(16, 16, 3)),
    "vgg_small": lambda: VGGSmall(width=1 / 8),
    "fused softmax": common.conv_net,
    "softmax layer": lambda: common.conv_net(fused=False),
    "logits": lambda: common.conv_net(None),
    "sigmoid": lambda: common.conv_net("sigmoid", classes=1),
    "Sequential": common.sequential,
    "nested": common.nested,
    "residual": common.residual,
    "mixed_bfloat16": mixed_net,
    "nested, mixed_float16": nested_mixed,
}
APPLICATIONS = {
    "MobileNetV2": lambda: small("MobileNetV2"),
    "ResNet50": lambda: small("ResNet50"),
}


def check_identity(make):
    net = harness.randomize(make())
    images = harness.random_images(net.inputs[0].shape[1:], 3)
    harness.settle(net, images)
    before = net.get_weights()
    expected = predict(net, images)
    assert np.ptp(expected, axis=0).max() > 1e-5, "all images give one prediction"
    model = LRNet(net, timesteps=3, return_sequences=True)
    result = predict(model, images)
    assert result.shape == (3, 3, net.outputs[0].shape[-1])
    for step in range(3):
        harness.assert_bit_equal(result[:, step], expected, f"timestep {step + 1}")
    # What was given is as it was.
    harness.assert_bit_equal(predict(net, images), expected, "the network afterwards")
    for old, new in zip(before, net.get_weights(), strict=True):
        harness.assert_bit_equal(new, old, "a weight afterwards")
    # And the layers are shared: they have one set of weights.
    own = {id(w) for w in model.weights}
    assert {id(w) for w in net.weights} <= own


LARGE = ("nin", "lnin", "rcnn128", "vgg_small", "residual")


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=tensorflow_only if name in LARGE else ())
        for name in NETWORKS
    ],
)
def test_identity(name):
    check_identity(NETWORKS[name])


@tensorflow_only
@pytest.mark.parametrize("name", APPLICATIONS)
def test_identity_of_applications(name):
    check_identity(APPLICATIONS[name])


@tensorflow_only
@pytest.mark.parametrize("name", ["lenet", "nin", "lnin", "rcnn128", "vgg_small"])
def test_identity_by_name(name):
    model = LRNet(name, timesteps=2, return_sequences=True)
    result = predict(model, harness.random_images(model.input.shape[1:], 2))
    harness.assert_bit_equal(result[:, 1], result[:, 0], name)


def test_one_timestep_is_the_network():
    net = common.conv_net()
    model = LRNet(net, timesteps=1)
    assert [w.path for w in model.weights] == [w.path for w in net.weights]
    assert model.output.shape == net.output.shape
