"""Layers and variables without names: keys that come back, or a refusal."""

import keras
import numpy as np
import pytest

import kfeedback
from kfeedback import weights
from tests import harness

layers = keras.layers
X = np.random.default_rng(0).normal(size=(4, 3)).astype("float32")


@pytest.fixture(autouse=True)
def fresh_names():
    harness.fresh_names()


def branches(left_first=True, named=False):
    """Two equal branches, made in one or the other order; the second counts double."""
    harness.fresh_names()
    inputs = keras.Input((3,))
    sides = ("left", "right") if left_first else ("right", "left")
    made = {side: layers.Dense(3, name=side if named else None) for side in sides}
    made = {side: layer(inputs) for side, layer in made.items()}
    x = layers.Concatenate()([made["left"], layers.Rescaling(2.0)(made["right"])])
    return keras.Model(inputs, layers.Dense(2, name="head")(x), name="net")


def same(first, second):
    a, b = harness.to_numpy(first(X)), harness.to_numpy(second(X))
    np.testing.assert_allclose(a, b, atol=1e-6)


def test_equal_branches_in_the_same_order_come_back(tmp_path):
    first, second = branches(), branches()
    harness.randomize(first)
    weights.save(first, tmp_path / "w.h5")
    weights.load(second, tmp_path / "w.h5")
    same(first, second)


def test_equal_branches_in_another_order_are_not_swapped(tmp_path):
    first, second = branches(), branches(left_first=False)
    harness.randomize(first)
    weights.save(first, tmp_path / "w.h5")
    before = second.get_weights()
    with pytest.raises(ValueError, match="name the layers, on both sides") as error:
        weights.load(second, tmp_path / "w.h5")
    text = str(error.value)
    assert "['dense', 'dense_1']" in text and "['dense_1', 'dense']" in text
    for a, b in zip(before, second.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_branches_with_names_may_be_made_in_any_order(tmp_path):
    first, second = branches(named=True), branches(left_first=False, named=True)
    harness.randomize(first)
    weights.save(first, tmp_path / "w.h5")
    weights.load(second, tmp_path / "w.h5")
    same(first, second)


def unnamed_images():
    """Branches of different lengths without names, for several passes."""
    harness.fresh_names()
    x = inputs = keras.Input((8, 8, 1))
    long = layers.Conv2D(4, 3, padding="same", activation="relu")(x)
    long = layers.Conv2D(4, 3, padding="same", activation="relu")(long)
    short = layers.Conv2D(4, 3, padding="same")(x)
    x = layers.GlobalAveragePooling2D()(layers.Add()([short, long]))
    return keras.Model(inputs, layers.Dense(3, activation="softmax")(x), name="net")


@pytest.mark.parametrize("nested", [False, True])
def test_passes_do_not_change_the_order(tmp_path, nested):
    """Of a network with feedback, its backbone alone, and one in a Sequential."""
    net = kfeedback.LRNet(unnamed_images(), timesteps=3)
    harness.randomize(net)
    weights.save(net, tmp_path / "w.h5")
    once = kfeedback.LRNet(unnamed_images(), timesteps=1)
    if nested:
        once = keras.Sequential([keras.Input((8, 8, 1)), once])
    weights.load(once, tmp_path / "w.h5", without_feedback=True)
    np.testing.assert_array_equal(once.get_weights()[0], net.get_weights()[0])
    weights.save(once, tmp_path / "once.h5")
    weights.load(unnamed_images(), tmp_path / "once.h5")


WRAPPERS = {
    "spectral": lambda: layers.SpectralNormalization(layers.Dense(3), name="o"),
    "distributed": lambda: layers.TimeDistributed(layers.Dense(3), name="o"),
    "both ways": lambda: layers.Bidirectional(layers.LSTM(3), name="o"),
    "cells": lambda: layers.RNN([layers.LSTMCell(3), layers.GRUCell(3)], name="o"),
}


@pytest.mark.parametrize("name", WRAPPERS)
def test_keys_of_wrapped_layers_come_back(tmp_path, name):
    def build():
        x = inputs = keras.Input((3,))
        if name != "spectral":
            x = layers.Reshape((3, 1))(x)
        return keras.Model(inputs, WRAPPERS[name]()(x))

    first, second = build(), build()  # the second one counts on
    harness.randomize(first)
    weights.save(first, tmp_path / "w.h5")
    weights.load(second, tmp_path / "w.h5")
    same(first, second)
