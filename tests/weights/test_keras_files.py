"""Weights that Keras wrote: by name where there are names, or refused."""

import h5py
import keras
import numpy as np
import pytest

from kfeedback import CliqueNet, LRNet, weights
from kfeedback.models.backbones import LeNet, VGGSmall
from tests import harness
from tests.weights.common import assert_same, dense_net, refused, values

SMALL = {"input_shape": (16, 16, 1)}
MODELS = {
    "LeNet": lambda **kwargs: LeNet(**SMALL, **kwargs),
    "LRNet": lambda **kwargs: LRNet("lenet", **SMALL, **kwargs),
    "VGGSmall": lambda **kwargs: VGGSmall(width=0.05, **kwargs),
    "CliqueNet": lambda **kwargs: CliqueNet(filters=4, layers=6, **kwargs),
}


@pytest.mark.parametrize("name", MODELS)
def test_a_legacy_file_is_mapped_by_name(tmp_path, name):
    """As `model.save` writes it; the layers of the file are in another order."""
    path = tmp_path / "model.h5"
    model = harness.randomize(MODELS[name]())
    model.save(path)
    harness.fresh_names()
    again = MODELS[name](weights=path)
    assert_same(values(again), values(model))


@pytest.mark.parametrize("name", MODELS)
def test_a_weights_h5_is_refused_with_the_way_out(tmp_path, name):
    path = tmp_path / "model.weights.h5"
    model = harness.randomize(MODELS[name]())
    model.save_weights(path)
    expected = values(model)
    harness.fresh_names()
    again = MODELS[name]()
    refused(again, path, "model.load_weights", "kfeedback.weights.save")
    again.load_weights(path)
    weights.save(again, tmp_path / "model.h5")
    harness.fresh_names()
    assert_same(values(MODELS[name](weights=tmp_path / "model.h5")), expected)


@pytest.mark.parametrize(
    "form",
    [
        "{layer}/{layer}/{name}:0",  # Keras 2
        "{layer}/{name}",
        "{layer}/net/{layer}/{name}:0",
        "{layer}/{layer}_{old}_1:0",  # Keras 1
    ],
)
def test_forms_of_names(tmp_path, form):
    path = tmp_path / "model.h5"
    model = harness.randomize(dense_net())
    old = {"kernel": "W", "bias": "b"}
    with h5py.File(path, "w") as file:
        for variable in reversed(model.weights):
            layer, name = variable.path.split("/")
            key = form.format(layer=layer, name=name, old=old[name])
            file[key] = variable.numpy()
    expected = values(model)
    harness.randomize(model, seed=5)
    weights.load(model, path)
    assert_same(values(model), expected)


def test_same_shapes_go_by_name(tmp_path):
    path = tmp_path / "model.h5"
    model = harness.randomize(dense_net(4, ("a", "b"), 4))
    model.save(path)
    again = dense_net(4, ("b", "a"), 4)
    weights.load(again, path)
    assert_same(values(again), values(model))
    refused(dense_net(4, ("a", "c"), 4), path, "c/kernel", "b/kernel")


def test_other_tensors_are_refused(tmp_path):
    path = tmp_path / "model.h5"
    model = dense_net()
    for name, value, word in (
        ("a/bias", np.full(3, np.nan, "float32"), "finite"),
        ("a/bias", np.zeros(4, "float32"), "(4,)"),
        ("a/bias", np.zeros(3, "int32"), "int32"),
        ("a/a/bias", np.zeros(3, "float32"), "twice"),
        ("a/extra", np.zeros(3, "float32"), "a/extra"),
    ):
        with h5py.File(path, "w") as file:
            for variable in model.weights:
                file[variable.path] = variable.numpy()
            if name in file:
                del file[name]
            file[name] = value
        refused(model, path, word)


def test_imagenet_stays_what_keras_publishes(monkeypatch):
    asked, found = [], []

    def published(**kwargs):
        asked.append(kwargs["weights"])
        image = keras.Input((32, 32, 3))
        x = keras.layers.Conv2D(3, 3, name="conv")(image)
        x = keras.layers.GlobalAveragePooling2D()(x)
        dense = keras.layers.Dense(kwargs["classes"], "softmax", name="predictions")
        model = keras.Model(image, dense(x))
        found.append(harness.to_numpy(dense.kernel))
        return model

    monkeypatch.setattr(keras.applications, "VGG16", published)
    network = LRNet("vgg16", weights="imagenet")
    assert asked == ["imagenet"]
    kernel = harness.to_numpy(network.get_layer("predictions").kernel)
    np.testing.assert_array_equal(kernel, found[0])
