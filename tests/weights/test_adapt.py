"""Loading into another number of classes, channels or timesteps, by explicit words."""

import keras
import numpy as np
import pytest

from kfeedback import CRCN, CliqueNet, FeedbackConvLSTMNet, LRNet, weights
from kfeedback.models.backbones import NIN, LeNet
from tests import harness
from tests.weights.common import lrnet, refused, values

SMALL_CELLS = [[(4, 2)], [(4, 1)]]
HEADS = {
    "LeNet": (lambda **k: LeNet(input_shape=(16, 16, 1), **k), {"predictions"}),
    "NIN": (lambda **k: NIN(input_shape=(8, 8, 3), **k), {"conv9"}),
    "LRNet": (
        lambda **k: LRNet("lenet", input_shape=(16, 16, 1), **k),
        {"predictions", "conv1_feedback", "conv2_feedback"},
    ),
    # Its feedback comes from below the head.
    "CRCN": (lambda **k: CRCN("vgg_small", loops=[1], **k), {"predictions"}),
    "CliqueNet": (lambda **k: CliqueNet(filters=4, layers=6, **k), {"predictions"}),
    "FeedbackConvLSTMNet": (
        lambda **k: FeedbackConvLSTMNet(cells=SMALL_CELLS, return_sequences=True, **k),
        {"predictions"},
    ),
}


@pytest.mark.parametrize("name", HEADS)
def test_replace_head_leaves_exactly_the_head(tmp_path, name):
    make, head = HEADS[name]
    path = tmp_path / "model.h5"
    saved = harness.randomize(make(classes=7))
    weights.save(saved, path)
    harness.fresh_names()
    model = harness.randomize(make(classes=3), seed=5)
    before, there = values(model), values(saved)
    refused(model, path, "replace_head=True")
    weights.load(model, path, replace_head=True)
    left = {key for key, value in values(model).items() if key.split("/")[0] in head}
    assert len(left) == 2 * len(head)
    for key, value in values(model).items():
        expected = before[key] if key in left else there[key]
        harness.assert_bit_equal(value, expected, key)


def test_replace_head_allows_nothing_else(tmp_path):
    path = tmp_path / "model.h5"
    weights.save(LeNet(input_shape=(16, 16, 1)), path)
    model = LeNet(input_shape=(20, 20, 1), classes=3)  # fc1 differs, too
    before = values(model)
    with pytest.raises(ValueError, match="fc1/kernel") as caught:
        weights.load(model, path, replace_head=True)
    harness.assert_one_sentence(caught.value, "weights")
    assert "replace_head=" not in str(caught.value)
    headless = LeNet(input_shape=(16, 16, 1), include_top=False)
    weights.save(headless, path)
    with pytest.raises(ValueError) as caught:
        weights.load(headless, path, replace_head=True)
    harness.assert_one_sentence(caught.value, "replace_head")
    for key, value in values(model).items():
        harness.assert_bit_equal(value, before[key], key)


@pytest.mark.parametrize("make", [HEADS["LeNet"][0], HEADS["LRNet"][0]])
def test_channels(tmp_path, make):
    def build(channels):
        harness.fresh_names()
        if make is HEADS["LeNet"][0]:
            return LeNet(input_shape=(16, 16, channels))
        return LRNet("lenet", input_shape=(16, 16, channels))

    path = tmp_path / "model.h5"
    gray = harness.random_images((16, 16, 1))
    color = harness.random_images((16, 16, 3))
    three = harness.randomize(build(3))
    weights.save(three, path)
    one = build(1)
    refused(one, path, "adapt_channels=True", "conv1/kernel")
    weights.load(one, path, adapt_channels=True)
    np.testing.assert_allclose(
        harness.to_numpy(one(gray)),
        harness.to_numpy(three(np.repeat(gray, 3, axis=-1))),
        atol=1e-6,
    )
    weights.save(one, path)
    three = build(3)
    weights.load(three, path, adapt_channels=True)
    np.testing.assert_allclose(
        harness.to_numpy(three(color)),
        harness.to_numpy(one(color.mean(axis=-1, keepdims=True))),
        atol=1e-6,
    )
    with pytest.raises(ValueError, match="conv1/kernel"):
        weights.load(build(2), path, adapt_channels=True)


def test_flags_are_flags():
    for name in ("without_feedback", "replace_head", "adapt_channels"):
        with pytest.raises(TypeError) as caught:
            weights.load(lrnet(), "lenet_mnist_bg_sample", **{name: 1})
        harness.assert_one_sentence(caught.value, name)


@pytest.mark.parametrize(
    "make, shape",
    [
        (lambda **k: LRNet("lenet", input_shape=(16, 16, 1), **k), (16, 16, 1)),
        (lambda **k: FeedbackConvLSTMNet(cells=SMALL_CELLS, **k), (32, 32, 3)),
    ],
    ids=["LRNet", "FeedbackConvLSTMNet"],
)
def test_a_file_of_two_timesteps_serves_all(tmp_path, make, shape):
    path = tmp_path / "model.h5"
    images = harness.random_images(shape)
    weights.save(harness.randomize(make(timesteps=2)), path)
    four = make(timesteps=4, return_sequences=True, weights=path)
    expected = harness.to_numpy(four(images))
    for steps in (1, 2, 3):
        for sequences in (True, False):
            harness.fresh_names()
            model = make(timesteps=steps, return_sequences=sequences, weights=path)
            actual = harness.to_numpy(model(images))
            wanted = expected[:, :steps] if sequences else expected[:, steps - 1]
            harness.assert_bit_equal(actual, wanted, f"{steps} of 4")


def sequential(classes, channels=3):
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((8, 8, channels)),
            layers.Conv2D(4, 3, name="first"),
            layers.Flatten(),
            layers.Dense(classes, name="head"),
        ],
        name="net",
    )


def test_a_sequential_has_a_head_and_channels(tmp_path):
    path = tmp_path / "model.h5"
    saved, model = sequential(7), sequential(3)
    weights.save(saved, path)
    before = values(model)
    weights.load(model, path, replace_head=True)
    for key, value in values(model).items():
        same = before if "head" in key else values(saved)
        harness.assert_bit_equal(value, same[key], key)
    gray = sequential(7, channels=1)
    refused(gray, path, "adapt_channels=True")
    weights.load(gray, path, adapt_channels=True)
    kernel = values(saved)["net/first/kernel"].sum(axis=-2, keepdims=True)
    np.testing.assert_allclose(values(gray)["net/first/kernel"], kernel, atol=1e-6)
