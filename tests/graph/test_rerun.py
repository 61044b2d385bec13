"""Edits and outputs of a rerun; the model is left as it was."""

import keras
import numpy as np
import pytest
from keras import layers

from kfeedback import LRNet, graph
from tests import harness
from tests.graph.common import values
from tests.models import common
from tests.models.common import predict

# --- Edits ---------------------------------------------------------------------------


@pytest.mark.parametrize("by_name", [True, False])
def test_an_edit_changes_what_follows(by_name):
    net = harness.randomize(common.conv_net())
    images = keras.ops.convert_to_tensor(harness.random_images((8, 8, 2)))
    key = "mix" if by_name else net.get_layer("mix")
    edited = graph.rerun(net, images, {key: lambda x: x * 0.25})
    # The same by hand: a layer of linear output, scaled.
    stem, tail = graph.cut(net, "mix")
    expected = tail(stem(images) * 0.25, training=False)
    harness.assert_bit_equal(
        harness.to_numpy(edited), harness.to_numpy(expected), "edit"
    )
    assert np.abs(harness.to_numpy(edited) - predict(net, images)).max() > 1e-3


def test_edits_on_symbolic_tensors_save_and_reload(tmp_path):
    net = harness.randomize(common.conv_net())
    scale = layers.Rescaling(0.25)
    image = graph.input_like(net)
    model = keras.Model(image, graph.rerun(net, image, {"conv1": scale, "mix": scale}))
    images = harness.random_images((8, 8, 2))
    model.save(tmp_path / "edited.keras")
    again = keras.models.load_model(tmp_path / "edited.keras")
    harness.assert_bit_equal(predict(again, images), predict(model, images), "saved")


def test_a_layer_called_twice_is_edited_twice():
    net = harness.randomize(common.residual())
    images = keras.ops.convert_to_tensor(harness.random_images((8, 8, 2)))
    seen = []

    def double(x):
        seen.append(harness.to_numpy(x))
        return x * 2

    result = graph.rerun(net, images, {"shared": double})
    assert len(seen) == 2
    assert not np.array_equal(*seen)
    get = net.get_layer
    x = get("stem")(images)
    y = x + 2 * get("shared")(x)
    y = keras.ops.concatenate([y, 2 * get("shared")(y)], axis=-1)
    y = get("predictions")(get("pool")(get("last")(y)))
    np.testing.assert_allclose(harness.to_numpy(result), harness.to_numpy(y), rtol=1e-5)


def test_edit_free_rerun_of_a_layer_called_twice():
    net = harness.randomize(common.residual())
    images = keras.ops.convert_to_tensor(harness.random_images((8, 8, 2)))
    result = graph.rerun(net, images)
    harness.assert_bit_equal(harness.to_numpy(result), predict(net, images), "shared")
    assert len(graph.layer_outputs(net, "shared")) == 2


def test_outputs_may_be_any_tensors():
    net = harness.randomize(common.conv_net())
    images = keras.ops.convert_to_tensor(harness.random_images((8, 8, 2)))
    wanted = [net.get_layer(name).output for name in ("conv1", "relu2")]
    expected = values(keras.Model(net.input, wanted)(images, training=False))
    found = values(graph.rerun(net, images, outputs=wanted))
    for one, other in zip(found, expected, strict=True):
        harness.assert_bit_equal(one, other, "a list of outputs")
    single = graph.rerun(net, images, outputs=wanted[0])
    harness.assert_bit_equal(harness.to_numpy(single), expected[0], "one output")


@pytest.mark.parametrize("linear", ["relu2", ["relu2"], None])
def test_linear_layers_may_be_named(linear):
    net = harness.randomize(common.conv_net())
    images = keras.ops.convert_to_tensor(harness.random_images((8, 8, 2)))
    linear = net.get_layer("relu2") if linear is None else linear
    found = graph.rerun(net, images, linear=linear)
    expected = graph.rerun(net, images, linear={net.get_layer("relu2")})
    harness.assert_bit_equal(*values([found, expected]), "linear")
    assert np.abs(harness.to_numpy(found) - predict(net, images)).max() > 1e-3


class Inside(layers.Layer):
    """Augments as Keras' guides write it: its `call` does not mention `training`."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.noise = layers.GaussianNoise(1.0)
        self.flip = layers.RandomFlip()

    def call(self, x):
        return self.flip(self.noise(x))


@pytest.mark.parametrize("nested", [False, True])
def test_training_reaches_the_layers_inside_of_a_layer(nested):
    image = keras.Input((6, 6, 1))
    x = Inside(name="inside")(image)
    if nested:
        again = keras.Input((6, 6, 1))
        x, image = keras.Model(image, x)(again), again
    net = graph.flatten(keras.Model(image, layers.Flatten()(x)))
    images = keras.ops.convert_to_tensor(harness.random_images((6, 6, 1)))
    for _ in range(3):
        found = graph.rerun(net, images, training=False)
        harness.assert_bit_equal(
            harness.to_numpy(found), predict(net, images), "inference"
        )
    trained = harness.to_numpy(graph.rerun(net, images, training=True))
    assert not np.array_equal(trained, predict(net, images))


@pytest.mark.parametrize("dtype", ["uint8", "int32", "float64"])
def test_images_become_what_the_model_takes(dtype):
    image = keras.Input((4,))
    net = keras.Model(image, 200 - 3 * image)  # in uint8 it would wrap around
    images = np.arange(252, 256).astype(dtype)[None]
    found = harness.to_numpy(graph.rerun(net, images))
    assert found.dtype == "float32"
    harness.assert_bit_equal(found, predict(net, images), "cast")


def test_a_model_of_whole_numbers_may_be_given_floats():
    """A cast to them would have no gradient."""
    image = keras.Input((4,), dtype="uint8")
    net = keras.Model(image, layers.Rescaling(0.5)(image))
    images = np.full((1, 4), 0.5, "float32")
    found = harness.to_numpy(graph.rerun(net, images))
    np.testing.assert_array_equal(found, images / 2)


# --- Nothing is left behind ----------------------------------------------------------


def state(model):
    return {
        "layers": [id(layer) for layer in model.layers],
        "calls": [
            (n.operation.name, [id(t) for t in n.input_tensors])
            for n in graph.nodes(model.inputs, model.outputs)
        ],
        "outputs": [id(layer.output) for layer in model.layers],
        "weights": [(w.path, w.numpy().tobytes()) for w in model.weights],
        "config": repr(model.get_config()),
        "attributes": [sorted(vars(layer)) for layer in model.layers],
    }


@pytest.mark.parametrize("make", [common.conv_net, common.residual, common.nested])
def test_the_model_is_as_it_was(make, tmp_path):
    net = harness.randomize(make())
    images = keras.ops.convert_to_tensor(harness.random_images((8, 8, 2)))
    expected = predict(net, images)
    before = state(net)
    layer = net.layers[1]

    graph.rerun(net, images)
    graph.rerun(net, graph.input_like(net), {layer: lambda x: x * 2})
    graph.flatten(net)
    LRNet(net, timesteps=3)

    def fail(x):
        raise RuntimeError("an edit that fails")

    with pytest.raises(RuntimeError, match="an edit that fails"):
        graph.rerun(net, images, {layer: fail})
    assert state(net) == before
    harness.assert_bit_equal(predict(net, images), expected, "afterwards")
    net.save(tmp_path / "net.keras")
    again = keras.models.load_model(tmp_path / "net.keras")
    harness.assert_bit_equal(predict(again, images), expected, "saved afterwards")


def test_of_the_calls_that_are_made_the_last_goes_without_its_activation():
    image = keras.Input((3,))
    double = keras.layers.Dense(3, activation=lambda x: 2 * x, use_bias=False)
    first = double(image)
    second = double(keras.layers.Identity()(first))
    model = keras.Model(image, second)
    double.set_weights([np.eye(3, dtype="float32")])
    x = keras.ops.ones((1, 3))
    for outputs, inputs, wanted in (
        (second, {image: x}, 2.0),  # the first call doubles
        (first, {image: x}, 1.0),
        (second, {first: x}, 1.0),
    ):
        found = graph.rerun(model, inputs, linear_last=[double], outputs=outputs)
        np.testing.assert_array_equal(harness.to_numpy(found), wanted)
    with pytest.raises(ValueError, match="outputs must depend on nothing but"):
        graph.rerun(model, {second: x}, linear_last=[double], outputs=first)
