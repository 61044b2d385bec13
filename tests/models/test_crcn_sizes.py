"""Loops between layers whose sides are no multiples of each other, or not known."""

import keras
import numpy as np
import pytest

from kfeedback import CRCN
from tests import harness
from tests.models import common
from tests.models.crcn import LOOPS
from tests.reference import crcn as reference

SIDES = (9, 11), (7, 10), (8, 8)


def strided():
    """Maps of 8×8, 7×7, 4×4 and 4×2 pixels."""
    x = image = keras.Input((8, 8, 2))
    x = keras.layers.Conv2D(3, 3, padding="same", name="eight")(x)
    x = keras.layers.Conv2D(3, 2, name="seven")(x)
    x = keras.layers.Conv2D(3, 3, 2, padding="same", name="four")(x)
    x = keras.layers.Conv2D(4, (1, 3), (1, 2), padding="same", name="four_by_two")(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(image, keras.layers.Dense(4, activation="softmax")(x))


@pytest.mark.parametrize(
    "sides, known, module",
    [
        *((sides, known, "proposed") for sides in SIDES for known in (True, False)),
        *(((9, 11), True, module) for module in (1, 2, 3)),
    ],
)
def test_odd_sides_follow_the_equations(sides, known, module):
    images = np.random.default_rng(1).normal(size=(2, *sides, 2)).astype("float32")
    shape = (*sides, 2) if known else None
    model = CRCN(
        common.stacked_net(size=None),
        input_shape=shape,
        loops=LOOPS,
        contextual_module=module,
        timesteps=3,
        return_sequences=True,
    )
    harness.randomize(model)
    found = harness.to_numpy(model.predict_on_batch(images))
    weights = {w.path: w.numpy() for w in model.weights}
    loops = {lower: higher for higher, lower in LOOPS}
    expected = reference.crcn_stacked(images, weights, 3, loops, module, "recomputed")
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    assert abs(found[:, 0] - found[:, 2]).max() > 1e-3


@pytest.mark.parametrize(
    "loop", [("seven", "eight"), ("four_by_two", "seven"), ("four", "seven")]
)
def test_any_higher_layer_feeds_any_lower_one(loop):
    model = CRCN(strided(), loops=[loop], return_sequences=True)
    harness.randomize(model)
    found = harness.to_numpy(model(np.ones((2, 8, 8, 2))))
    assert found.shape == (2, 3, 4) and abs(found[:, 0] - found[:, 2]).max() > 1e-5


def fire(x, squeeze, expand, number):
    x = keras.layers.Conv2D(squeeze, 1, activation="relu", name=f"fire{number}_s")(x)
    sides = [
        keras.layers.Conv2D(
            expand, k, padding="same", activation="relu", name=f"fire{number}_e{k}"
        )(x)
        for k in (1, 3)
    ]
    return keras.layers.Concatenate(name=f"fire{number}")(sides)


def test_squeezenet_at_112_pixels():
    """From 6×6 to 13×13."""
    x = image = keras.Input((112, 112, 3))
    x = keras.layers.Conv2D(8, 3, 2, activation="relu", name="conv1")(x)
    for number in range(2, 10):
        if number in (2, 4, 6):
            x = keras.layers.MaxPooling2D(3, 2, name=f"pool{number}")(x)
        x = fire(x, 4, 6, number)
    x = keras.layers.Conv2D(5, 1, activation="relu", name="conv10")(x)
    x = keras.layers.Softmax()(keras.layers.GlobalAveragePooling2D()(x))
    net = keras.Model(image, x, name="squeezenet")
    assert net.get_layer("fire8_e3").output.shape[1:3] == (6, 6)
    assert net.get_layer("fire5_e3").output.shape[1:3] == (13, 13)
    model = CRCN(net, loops=[("fire8_e3", "fire5_e3")])
    images = np.random.default_rng(0).uniform(size=(2, 112, 112, 3))
    # Fresh, it predicts what the backbone does.
    np.testing.assert_array_equal(
        harness.to_numpy(model(images)), harness.to_numpy(net(images))
    )


@harness.tensorflow_only
def test_sizes_known_at_call_time_alone_are_exported(tmp_path):
    import tensorflow as tf

    import kfeedback

    model = CRCN(common.stacked_net(size=None), loops=LOOPS)
    harness.randomize(model)
    path = kfeedback.serving.export(model, tmp_path / "m", warmup_batches=())
    serve = tf.saved_model.load(str(path)).signatures["serving_default"]
    for sides in ((9, 11), (8, 8), (13, 6)):
        images = np.random.default_rng(0).normal(size=(2, *sides, 2)).astype("float32")
        found = serve(images=tf.constant(images))["probabilities"].numpy()
        np.testing.assert_allclose(found, harness.to_numpy(model(images)), atol=1e-5)
