"""LRNet: the equations, what every model must satisfy, its arguments, training."""

import keras
import numpy as np
import pytest

import kfeedback
from kfeedback import LRNet, graph
from kfeedback.models.backbones import NIN, RCNN128, LeNet, VGGSmall
from tests import harness
from tests.harness import tensorflow_only
from tests.model_checks import MODEL_CHECKS, check_model
from tests.models import common
from tests.models.common import predict
from tests.reference import lrnet as reference

# --- The recurrence ------------------------------------------------------------------


@pytest.mark.parametrize("timesteps", [1, 2, 3])
@pytest.mark.parametrize("layers", [("conv1", "conv2"), ("conv2",), ("conv1",)])
def test_equals_the_reference(timesteps, layers):
    model = LRNet(
        "lenet",
        input_shape=(16, 16, 1),
        timesteps=timesteps,
        emphasis_layers=list(layers),
        return_sequences=True,
    )
    harness.randomize(model)
    images = harness.random_images((16, 16, 1))
    weights = {w.path: np.asarray(w.numpy()) for w in model.weights}
    expected = reference.lrnet_lenet(images, weights, timesteps, layers)
    np.testing.assert_allclose(predict(model, images), expected, atol=1e-5)


def test_the_reference_tells_orders_of_update_apart():
    """Else the test above could not see a wrong one."""
    model = LRNet("lenet", input_shape=(16, 16, 1))
    harness.randomize(model)
    images = harness.random_images((16, 16, 1))
    weights = {w.path: np.asarray(w.numpy()) for w in model.weights}
    right = reference.lrnet_lenet(images, weights, 3)

    def vectors(posterior):
        return {
            name: reference.feedback(
                posterior,
                weights[f"{name}_feedback/kernel"],
                weights[f"{name}_feedback/bias"],
            )
            for name in ("conv1", "conv2")
        }

    from_the_first = reference.lenet_pass(images, weights, vectors(right[:, 0]))
    assert np.abs(right[:, 1] - from_the_first).max() == 0
    assert np.abs(right[:, 2] - from_the_first).max() > 1e-3
    # Emphasis that piles up over the passes instead of being replaced.
    first, second = vectors(right[:, 0]), vectors(right[:, 1])
    piled = {name: first[name] * second[name] for name in first}
    piled_up = reference.lenet_pass(images, weights, piled)
    assert np.abs(right[:, 2] - piled_up).max() > 1e-3


@pytest.mark.parametrize("fused", [True, False])
def test_logits_feed_back_their_softmax(fused):
    """A softmax net and the same net that ends in logits look again alike."""
    images = harness.random_images((8, 8, 2))
    results = {}
    for activation in ("softmax", None):
        harness.fresh_names()
        net = common.conv_net(activation, fused=fused)
        model = LRNet(net, timesteps=3, return_sequences=True)
        results[activation] = harness.randomize(model)(images)
    np.testing.assert_allclose(
        harness.to_numpy(results["softmax"]),
        harness.to_numpy(keras.ops.softmax(results[None])),
        atol=1e-6,
    )


def test_a_sigmoid_head_feeds_back_as_it_is():
    net = common.conv_net("sigmoid", classes=1)
    model = harness.randomize(LRNet(net, timesteps=2, return_sequences=True))
    images = harness.random_images((8, 8, 2))
    result = predict(model, images)
    weights = {w.path: np.asarray(w.numpy()) for w in model.weights}
    vector = reference.feedback(
        result[:, 0], weights["conv1_feedback/kernel"], weights["conv1_feedback/bias"]
    )
    probe = keras.Model(
        model.input,
        [
            n.outputs[0]
            for n in graph.nodes(model.inputs, model.outputs)
            if n.operation.name == "conv1_feedback"
        ],
    )
    np.testing.assert_allclose(np.ravel(probe(images)), vector.ravel(), rtol=1e-4)


# --- The harness ---------------------------------------------------------------------


def lr(make, **fixed):
    """A factory for the harness, of an LRNet of a network that is made anew."""

    def factory(**kwargs):
        return LRNet(make(), **{**fixed, **kwargs})

    return factory


FAMILY = {
    "conv net": (lr(common.conv_net), (8, 8, 2)),
    "lenet": (lr(lambda: "lenet", input_shape=(16, 16, 1)), (16, 16, 1)),
    "rcnn": (
        lr(lambda: RCNN128(filters=8, input_shape=(8, 8, 3), iterations=2)),
        (8, 8, 3),
    ),
    "vgg_small": (lr(lambda: VGGSmall(width=1 / 16)), (32, 32, 3)),
}


@pytest.mark.parametrize(
    "name",
    [
        "conv net",
        pytest.param("lenet", marks=tensorflow_only),
        pytest.param("rcnn", marks=tensorflow_only),
        # Thirteen layers with batch norms, three times: seconds a check.
        pytest.param("vgg_small", marks=[tensorflow_only, pytest.mark.slow]),
    ],
)
@pytest.mark.parametrize("check", MODEL_CHECKS)
def test_harness(name, check):
    factory, shape = FAMILY[name]
    check_model(factory, harness.random_images(shape), checks=[check])


# --- Arguments -----------------------------------------------------------------------


def test_include_top_false():
    net = common.conv_net()
    model = LRNet(net, include_top=False)
    assert model.output.shape == (None, 4, 4, 4)
    images = harness.random_images((8, 8, 2))
    features = keras.Model(net.input, net.get_layer("relu2").output)
    harness.assert_bit_equal(predict(model, images), predict(features, images), "maps")
    assert LRNet(net, False, pooling="avg").output.shape == (None, 4)
    one = LRNet(net, False, timesteps=1, return_sequences=True, pooling="max")
    assert one.output.shape == (None, 1, 4)


def test_input_tensor_and_input_shape():
    tensor = keras.Input((16, 16, 1), name="mine")
    assert LRNet("lenet", input_tensor=tensor).input is tensor
    assert LRNet(common.conv_net(), input_shape=(8, 8, 2)).input.shape[1:] == (8, 8, 2)
    tensor = keras.Input((8, 8, 2))
    scaled = keras.layers.Rescaling(0.5)(tensor)
    model = LRNet(common.conv_net(), input_tensor=scaled)
    assert model.input is tensor
    fully_convolutional = NIN(input_shape=(None, None, 3))
    model = LRNet(fully_convolutional, input_shape=(12, 16, 3))
    assert model.input.shape == (None, 12, 16, 3)
    assert LRNet(fully_convolutional).input.shape == (None, None, None, 3)


def test_feedback_initializer():
    model = LRNet(common.conv_net(), feedback_initializer="ones")
    assert np.all(model.get_layer("conv1_feedback").kernel.numpy() == 1)


def test_name_classes_and_activation():
    model = LRNet("lenet", classes=7, classifier_activation=None, name="mine")
    assert model.name == "mine"
    assert model.output.shape == (None, 7)
    assert model.get_layer("predictions").activation is keras.activations.linear


def test_weights_of_a_file(tmp_path):
    path = tmp_path / "lr.h5"
    model = harness.randomize(LRNet("lenet", input_shape=(16, 16, 1)))
    kfeedback.weights.save(model, path)
    images = harness.random_images((16, 16, 1))
    again = LRNet("lenet", weights=path, input_shape=(16, 16, 1))
    harness.assert_bit_equal(predict(again, images), predict(model, images), "file")
    with pytest.raises(ValueError, match="without_feedback"):
        LeNet(weights=path, input_shape=(16, 16, 1))
    plain = LeNet(input_shape=(16, 16, 1))
    kfeedback.weights.load(plain, path, without_feedback=True)
    one = LRNet("lenet", weights=str(path), input_shape=(16, 16, 1), timesteps=1)
    harness.assert_bit_equal(predict(one, images), predict(plain, images), "T = 1")


def test_a_named_backbone_sees_an_input_tensor_once():
    image = keras.Input((28, 28, 3))
    gray = keras.layers.Conv2D(1, 1, name="gray")(image)
    model = kfeedback.LRNet("lenet", input_tensor=gray)
    names = [node.operation.name for node in graph.nodes(model.inputs, model.outputs)]
    assert model.input_shape == (None, 28, 28, 3)
    assert names.count("gray") == 1


# --- Training ------------------------------------------------------------------------


def test_trains():
    model = LRNet(common.conv_net(), timesteps=2, return_sequences=True)
    model.compile(
        optimizer=keras.optimizers.SGD(0.05),
        loss=kfeedback.losses.TimestepLoss("sparse_categorical_crossentropy"),
        metrics=[kfeedback.metrics.TimestepMetric("accuracy")],
    )
    images = harness.random_images((8, 8, 2))
    labels = np.arange(8) % 4
    before = {w.path: w.numpy().copy() for w in model.trainable_weights}
    history = model.fit(images, labels, epochs=4, batch_size=4, verbose=0).history
    assert history["loss"][-1] < history["loss"][0]
    still = [
        w.path
        for w in model.trainable_weights
        if np.array_equal(w.numpy(), before[w.path])
    ]
    assert not still
