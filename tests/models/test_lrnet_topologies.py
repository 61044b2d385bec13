"""LRNet of networks of any topology, whatever their names, ends and inputs."""

import itertools

import keras
import numpy as np
import pytest

import kfeedback
from kfeedback import LRNet
from kfeedback.classifier import posterior_kind
from kfeedback.layers import Feedback
from tests import harness
from tests.models import common
from tests.models.common import predict


@pytest.mark.parametrize(
    "make, sites",
    [
        (common.two_branches, "left right"),
        (common.residual_without_dense, "stem inner"),
    ],
)
def test_default_sites_lie_on_every_way_to_the_classifier(make, sites):
    net = harness.randomize(make())
    images = harness.random_images((8, 8, 2))
    expected = predict(net, images)
    model = LRNet(net, timesteps=3, return_sequences=True)
    found = {layer.name for layer in model.layers if isinstance(layer, Feedback)}
    assert found == {f"{site}_feedback" for site in sites.split()}
    for step in range(3):
        np.testing.assert_array_equal(predict(model, images)[:, step], expected)


def test_names_that_the_backbone_has_are_left_to_it():
    model = LRNet(common.two_branches(), return_sequences=True)
    names = [operation.name for operation in model.operations]
    assert len(names) == len({*names})
    assert {"posterior", "posterior_1", "timesteps", "timesteps_1"} <= {*names}


@pytest.mark.parametrize(
    "follow, kind",
    [
        (lambda x: x, "softmax"),
        (
            lambda x: keras.layers.Average()([x, keras.layers.Dropout(0.1)(x)]),
            "softmax",
        ),
        (lambda x: keras.layers.Activation("linear")(x), "softmax"),
        (lambda x: keras.ops.log(x), None),
        (lambda x: keras.layers.Rescaling(100.0)(x), None),
    ],
)
def test_a_posterior_is_what_ends_in_one(follow, kind):
    net = common.conv_net()
    net = keras.Model(net.input, follow(net.output))
    assert posterior_kind(net) == kind
    names = [layer.name for layer in LRNet(net).layers]
    assert ("posterior" in names) == (kind is None)


def test_names_before_the_image_are_left_to_it():
    image = keras.Input((8, 8, 3), name="timesteps")
    x = keras.layers.Conv2D(2, 1, name="conv1_feedback")(image)
    model = LRNet(common.conv_net(), input_tensor=x, return_sequences=True)
    names = {layer.name for layer in model.layers}
    assert {"conv1_feedback_1", "timesteps_1"} <= names
    clash = keras.layers.Conv2D(2, 1, name="conv1")(image)
    with pytest.raises(ValueError, match=r"^input_tensor must .* got conv1"):
        LRNet(common.conv_net(), input_tensor=clash)


def test_emphasis_needs_one_number_of_channels():
    image = keras.Input((8, 8, 2))
    relu = keras.layers.ReLU(name="relu")
    x = relu(keras.layers.Conv2D(3, 1)(relu(keras.layers.Conv2D(4, 1)(image))))
    x = keras.layers.Dense(4, activation="softmax")(keras.layers.Flatten()(x))
    with pytest.raises(ValueError, match=r"^emphasis_layers must .* got 'relu'"):
        LRNet(keras.Model(image, x), emphasis_layers=["relu"])


def test_two_feature_maps_are_not_one():
    with pytest.raises(ValueError, match="include_top must be True"):
        LRNet(common.two_branches(), include_top=False)


def test_an_input_of_integers_stays_one():
    image = keras.Input((None, None, 2), dtype="uint8")
    x = keras.layers.Rescaling(1 / 255)(image)
    x = keras.layers.Conv2D(3, 3, name="conv")(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    net = keras.Model(image, keras.layers.Dense(4, activation="softmax")(x))
    model = LRNet(net, input_shape=(8, 8, 2))
    assert model.inputs[0].dtype == "uint8"
    pixels = np.arange(2 * 8 * 8 * 2, dtype="uint8").reshape(2, 8, 8, 2)
    np.testing.assert_array_equal(predict(model, pixels), predict(net, pixels))


def test_channels_of_a_batch_norm_lie_on_its_axis():
    image = keras.Input((3, 8, 8))
    x = keras.layers.Conv2D(4, 3, data_format="channels_first", name="conv")(image)
    x = keras.layers.BatchNormalization(axis=1, name="bn")(x)
    x = keras.layers.GlobalAveragePooling2D(data_format="channels_first")(x)
    model = kfeedback.LRNet(keras.Model(image, keras.layers.Dense(5)(x)))
    assert model.get_layer("bn_feedback").channels == 4
    assert model.get_layer("bn_emphasis").data_format == "channels_first"


def test_what_does_not_say_where_its_channels_are_is_not_guessed():
    image = keras.Input((3, 8, 6))
    x = keras.layers.Conv2D(4, 3, data_format="channels_first", name="conv")(image)
    x = keras.layers.ReLU(name="relu")(x)
    x = keras.layers.GlobalAveragePooling2D(data_format="channels_first")(x)
    net = keras.Model(image, keras.layers.Dense(5)(x))
    for arguments in (
        {"emphasis_layers": ["relu"]},
        {"include_top": False, "pooling": "avg"},
    ):
        with pytest.raises(ValueError, match="backbone must have its channels last"):
            LRNet(net, **arguments)


@pytest.mark.parametrize("seed", [None, 1])
def test_feedback_of_each_layer_starts_with_weights_of_its_own(seed):
    draw = keras.initializers.RandomNormal(stddev=0.5, seed=seed)
    model = LRNet("nin", feedback_initializer=draw)
    found = [x for x in model.layers if isinstance(x, Feedback)]
    kernels = [harness.to_numpy(layer.kernel) for layer in found]
    assert len(kernels) == 3
    for one, other in itertools.combinations(kernels, 2):
        assert np.abs(one - other).max() > 0.1
