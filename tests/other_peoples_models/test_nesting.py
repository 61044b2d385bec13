"""Models in models."""

import keras
import numpy as np
import pytest

import kfeedback
from kfeedback import weights
from kfeedback.models import backbones
from tests import harness
from tests.other_peoples_models.common import IMAGES, small

layers = keras.layers


def nested():
    inner = backbones.NIN(input_shape=(28, 28, 1), name="inner")
    inputs = keras.Input((28, 28, 1))
    return keras.Model(inputs, inner(layers.Rescaling(2.0)(inputs)), name="outer")


@pytest.mark.parametrize("direction", ["nested to flat", "flat to nested", "both"])
def test_keys_see_through_nesting(tmp_path, direction):
    first, second = nested(), nested()
    if direction == "nested to flat":
        second = kfeedback.graph.flatten(second)
    if direction == "flat to nested":
        first = kfeedback.graph.flatten(first)
    harness.randomize(first)
    weights.save(first, tmp_path / "w.h5")
    weights.load(second, tmp_path / "w.h5")
    for a, b in zip(first.get_weights(), second.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    names = weights.describe(tmp_path / "w.h5")["tensors"]
    assert "conv1/kernel" in names and not any("inner" in name for name in names)


def test_feedback_cnn_takes_the_weights_of_a_nested_network(tmp_path):
    net = nested()
    harness.randomize(net)
    weights.save(net, tmp_path / "w.h5")
    found = kfeedback.FeedbackCNN(nested(), weights=tmp_path / "w.h5", iterations=1)
    expected = harness.to_numpy(net(IMAGES))
    np.testing.assert_allclose(found.explainer.predict(IMAGES), expected, atol=1e-6)


def test_a_head_in_a_nested_network_is_replaced(tmp_path):
    def build(classes):
        inputs = keras.Input((28, 28, 1))
        inner = small(classes, name="inner")
        return keras.Model(inputs, inner(layers.Rescaling(2.0)(inputs)))

    first, second = build(3), build(4)
    weights.save(first, tmp_path / "w.h5")
    weights.load(second, tmp_path / "w.h5", replace_head=True)
    np.testing.assert_array_equal(first.get_weights()[0], second.get_weights()[0])


def test_two_layers_of_one_name_keep_the_names_of_their_networks(tmp_path):
    def build():
        inputs = keras.Input((28, 28, 1))
        both = [small(name=name)(inputs) for name in ("left", "right")]
        return keras.Model(inputs, layers.Average()(both))

    first, second = build(), build()
    harness.randomize(first)
    weights.save(first, tmp_path / "w.h5")
    weights.load(second, tmp_path / "w.h5")
    for a, b in zip(first.get_weights(), second.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert "left/conv/kernel" in weights.describe(tmp_path / "w.h5")["tensors"]


def in_a_sequential():
    net = kfeedback.LRNet(small(), timesteps=3, return_sequences=True)
    harness.randomize(net)
    parts = [keras.Input((28, 28, 1)), layers.Rescaling(2.0), net]
    return keras.Sequential(parts), net


def test_early_exit_sees_through_nesting():
    outer, net = in_a_sequential()
    for threshold in (0.3, 0.5, 0.9):
        found = kfeedback.early_exit(outer, threshold).predict(IMAGES)
        expected = kfeedback.early_exit(net, threshold).predict(IMAGES * 2)
        np.testing.assert_allclose(found[0], expected[0], atol=1e-6)
        np.testing.assert_array_equal(found[1], expected[1])


def test_cut_sees_through_nesting():
    model = nested()
    stem, tail = kfeedback.graph.cut(model, "conv3")
    found = harness.to_numpy(tail(stem(IMAGES)))
    np.testing.assert_allclose(found, harness.to_numpy(model(IMAGES)), atol=1e-6)


@harness.tensorflow_only
def test_export_sees_through_nesting(tmp_path):
    import tensorflow as tf

    outer, _ = in_a_sequential()
    path = kfeedback.serving.export(outer, tmp_path / "m", warmup_batches=())
    served = tf.saved_model.load(str(path)).signatures
    assert set(served) >= {"serving_default", "timesteps", "early_exit"}
    found = served["early_exit"](images=tf.constant(IMAGES))
    expected = kfeedback.early_exit(outer, 0.9).predict(IMAGES)
    np.testing.assert_array_equal(found["timesteps"], expected[1])
