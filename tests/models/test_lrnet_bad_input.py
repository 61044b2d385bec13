"""What LRNet refuses: each in one sentence that names the argument."""

import keras
import numpy as np
import pytest
from keras import layers

import kfeedback
from kfeedback import LRNet
from kfeedback.models.backbones import LeNet
from tests import harness
from tests.models import common


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.dense = layers.Dense(3)

    def call(self, x):
        return self.dense(x)


def built_subclass():
    model = Subclassed()
    model(np.zeros((1, 4), "float32"))
    return model


def unbuilt_sequential():
    return keras.Sequential([layers.Conv2D(3, 3), layers.Flatten(), layers.Dense(3)])


def with_head(head):
    image = keras.Input((8, 8, 2))
    x = layers.Conv2D(3, 3, name="conv")(image)
    return keras.Model(image, head(x), name="odd")


def two_outputs():
    net = common.conv_net()
    return keras.Model(net.input, [net.output, net.get_layer("pool").output])


def two_inputs():
    one, two = keras.Input((8, 8, 2)), keras.Input((8, 8, 2))
    x = layers.Conv2D(3, 3)(layers.Add()([one, two]))
    return keras.Model([one, two], layers.Dense(3)(layers.Flatten()(x)))


def no_convolution():
    image = keras.Input((8, 8, 2))
    x = layers.Conv2D(3, 1, name="mix")(image)
    return keras.Model(image, layers.Dense(3)(layers.Flatten()(x)))


def dense_only():
    vector = keras.Input((8,))
    return keras.Model(vector, layers.Dense(3)(layers.Dense(4)(vector)))


def regression():
    return with_head(lambda x: layers.Dense(1)(layers.Flatten()(x)))


BACKBONES = [
    (lambda: "resnet", ValueError),
    (lambda: "", ValueError),
    (lambda: None, TypeError),
    (lambda: 3, TypeError),
    (lambda: LeNet, TypeError),
    (lambda: layers.Conv2D(3, 3), TypeError),
    (lambda: ["lenet"], TypeError),
    (unbuilt_sequential, ValueError),
    (Subclassed, ValueError),
    (built_subclass, ValueError),
    (two_outputs, ValueError),
    (two_inputs, ValueError),
    (regression, ValueError),
    (lambda: with_head(lambda x: x), ValueError),  # a feature map
    (lambda: with_head(layers.Flatten()), ValueError),
    (dense_only, ValueError),
    (lambda: keras.Model(*[keras.Input((8, 8, 3))] * 2), ValueError),
    (lambda: LeNet(include_top=False), ValueError),
    (lambda: LRNet(common.conv_net()), ValueError),
    (lambda: LRNet(common.conv_net(), return_sequences=True), ValueError),
]


@pytest.mark.parametrize("make, error", BACKBONES)
def test_refuses_the_backbone(make, error):
    with pytest.raises((ValueError, TypeError)) as caught:
        LRNet(make())
    assert type(caught.value) is error
    harness.assert_one_sentence(caught.value, "backbone")


ARGUMENTS = [
    ({"timesteps": 0}, ValueError, "timesteps"),
    ({"timesteps": -1}, ValueError, "timesteps"),
    ({"timesteps": 1.5}, ValueError, "timesteps"),
    ({"timesteps": 2.0}, ValueError, "timesteps"),
    ({"timesteps": True}, ValueError, "timesteps"),
    ({"timesteps": "2"}, ValueError, "timesteps"),
    ({"timesteps": None}, ValueError, "timesteps"),
    ({"return_sequences": 1}, TypeError, "return_sequences"),
    ({"return_sequences": None}, TypeError, "return_sequences"),
    ({"include_top": "no"}, TypeError, "include_top"),
    ({"include_top": None}, TypeError, "include_top"),
    ({"include_top": 0}, TypeError, "include_top"),
    ({"pooling": "mean"}, ValueError, "pooling"),
    ({"pooling": "avg"}, ValueError, "pooling"),
    ({"include_top": False, "pooling": "mean"}, ValueError, "pooling"),
    ({"include_top": False, "pooling": 1}, ValueError, "pooling"),
    ({"include_top": False, "pooling": ["avg"]}, ValueError, "pooling"),
    ({"weights": "imagenet"}, ValueError, "weights"),
    ({"weights": "no/such/file.h5"}, ValueError, "weights"),
    ({"weights": 1}, ValueError, "weights"),
    ({"weights": "."}, ValueError, "weights"),
    ({"classes": 0}, ValueError, "classes"),
    ({"classes": -3}, ValueError, "classes"),
    ({"classes": 1.5}, ValueError, "classes"),
    ({"classes": True}, ValueError, "classes"),
    ({"classes": "10"}, ValueError, "classes"),
    ({"classes": 10.0}, ValueError, "classes"),
    ({"feedback_initializer": "none of them"}, ValueError, "feedback_initializer"),
    ({"feedback_initializer": 3}, ValueError, "feedback_initializer"),
    ({"feedback_initializer": None}, ValueError, "feedback_initializer"),
    ({"input_shape": (28, 28)}, ValueError, "input_shape"),
    ({"input_shape": (28, 28, 0)}, ValueError, "input_shape"),
    ({"input_shape": (2, 2, 1)}, ValueError, "input_shape"),
    ({"input_shape": 28}, ValueError, "input_shape"),
    ({"input_tensor": np.zeros((1, 28, 28, 1))}, TypeError, "input_tensor"),
    ({"emphasis_layers": []}, ValueError, "emphasis_layers"),
    ({"emphasis_layers": ()}, ValueError, "emphasis_layers"),
    ({"emphasis_layers": "conv9"}, ValueError, "emphasis_layers"),
    ({"emphasis_layers": ["conv1", "conv9"]}, ValueError, "emphasis_layers"),
    ({"emphasis_layers": ["predictions"]}, ValueError, "emphasis_layers"),
    ({"emphasis_layers": [""]}, ValueError, "emphasis_layers"),
    ({"emphasis_layers": [3]}, ValueError, "emphasis_layers"),
    ({"emphasis_layers": [None]}, ValueError, "emphasis_layers"),
    ({"emphasis_layers": 3}, TypeError, "emphasis_layers"),
    ({"emphasis_layers": True}, TypeError, "emphasis_layers"),
    ({"emphasis_layers": [layers.Conv2D(3, 3)]}, ValueError, "emphasis_layers"),
]


@pytest.mark.parametrize("named", [True, False], ids=["by name", "by object"])
@pytest.mark.parametrize("arguments, error, argument", ARGUMENTS, ids=str)
def test_refuses(arguments, error, argument, named):
    backbone = "lenet" if named else LeNet()
    with pytest.raises((ValueError, TypeError)) as caught:
        LRNet(backbone, **arguments)
    assert type(caught.value) is error
    harness.assert_one_sentence(caught.value, argument)


@pytest.mark.parametrize("layer", ["flatten", "fc1", "predictions", "input_layer"])
def test_refuses_emphasis_after_the_head(layer):
    for wanted in (layer, ["conv1", layer]):
        with pytest.raises(ValueError) as caught:
            LRNet("lenet", emphasis_layers=wanted)
        harness.assert_one_sentence(caught.value, "emphasis_layers")


def test_refuses_emphasis_after_a_convolutional_head():
    for layer in ("conv9", "relu9", "global_pool"):
        with pytest.raises(ValueError) as caught:
            LRNet("nin", emphasis_layers=[layer])
        harness.assert_one_sentence(caught.value, "emphasis_layers")


def test_refuses_the_layer_of_another_model():
    other = common.conv_net(name="other")
    for layer in other.layers:
        with pytest.raises(ValueError) as caught:
            LRNet(common.conv_net(), emphasis_layers=[layer])
        harness.assert_one_sentence(caught.value, "emphasis_layers")


def test_refuses_a_network_without_convolutions_to_emphasize():
    with pytest.raises(ValueError) as caught:
        LRNet(no_convolution())
    harness.assert_one_sentence(caught.value, "emphasis_layers")
    LRNet(no_convolution(), emphasis_layers="mix")


def test_refuses_what_contradicts_a_given_model():
    net = common.conv_net()
    for arguments, argument in (
        ({"classes": 10}, "classes"),
        ({"classifier_activation": None}, "classifier_activation"),
        ({"input_shape": (8, 8, 3)}, "input_shape"),
        ({"input_shape": (9, 8, 2)}, "input_shape"),
        ({"input_tensor": keras.Input((8, 8, 5))}, "input_"),
    ):
        with pytest.raises(ValueError) as caught:
            LRNet(net, **arguments)
        harness.assert_one_sentence(caught.value, argument)
    LRNet(net, classes=4)


def test_refuses_an_unknown_activation():
    with pytest.raises(ValueError) as caught:
        LRNet("lenet", classifier_activation="best")
    harness.assert_one_sentence(caught.value, "classifier_activation")


@pytest.mark.parametrize("classes, other", [(10, 100), (100, 10)])
def test_refuses_weights_of_another_number_of_classes(tmp_path, classes, other):
    path = tmp_path / "lenet.h5"
    shape = {"input_shape": (16, 16, 1)}
    kfeedback.weights.save(LRNet("lenet", classes=classes, **shape), path)
    with pytest.raises(ValueError) as caught:
        LRNet("lenet", weights=path, classes=other, **shape)
    harness.assert_one_sentence(caught.value, "weights")
    with pytest.raises(ValueError) as caught:
        LRNet("lenet", weights=path, emphasis_layers="conv1", classes=classes, **shape)
    harness.assert_one_sentence(caught.value, "weights")


def test_refuses_weights_without_the_feedback(tmp_path):
    path = tmp_path / "lenet.h5"
    kfeedback.weights.save(LeNet(input_shape=(16, 16, 1)), path)
    with pytest.raises(ValueError) as caught:
        LRNet("lenet", weights=path, input_shape=(16, 16, 1))
    harness.assert_one_sentence(caught.value, "weights")


def test_published_weights_need_their_classes():
    with pytest.raises(ValueError, match="classes"):
        LRNet("vgg16", weights="imagenet", classes=10)
    with pytest.raises(ValueError, match="shape"):
        LRNet("vgg16", weights="imagenet", input_shape=(224, 224, 4))


def test_nothing_of_the_backbone_changes_with_a_refusal():
    net = common.conv_net()
    before = {layer.name: len(layer._inbound_nodes) for layer in net.layers}
    for arguments in ({"emphasis_layers": "conv9"}, {"classes": 3}, {"timesteps": 0}):
        with pytest.raises(ValueError):
            LRNet(net, **arguments)
    assert {layer.name: len(layer._inbound_nodes) for layer in net.layers} == before
