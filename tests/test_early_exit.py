import keras
import numpy as np
import pytest

import kfeedback
from kfeedback.layers import StackTimesteps
from tests import harness
from tests.models.common import conv_net, stacked_net

COUNT = 50


def lrnet(**kwargs):
    harness.fresh_names()
    kwargs = {"timesteps": 3, "return_sequences": True, **kwargs}
    return harness.randomize(kfeedback.LRNet(conv_net(), **kwargs))


def crcn(**kwargs):
    harness.fresh_names()
    loops = [("conv3", "conv2"), ("conv5", "conv4")]
    kwargs = {"timesteps": 3, "return_sequences": True, "loops": loops, **kwargs}
    return harness.randomize(kfeedback.CRCN(stacked_net(), **kwargs))


def crcn_carried():
    return crcn(bottom_up="carried")


def feedback_convlstm(**kwargs):
    harness.fresh_names()
    arguments = {
        "cells": (((4, 1), (4, 1)), ((6, 2),)),
        "input_shape": (16, 16, 2),
        "classes": 4,
        "timesteps": 3,
        "return_sequences": True,
        "batch_norm": False,
        "head_units": 8,
    }
    model = harness.randomize(
        kfeedback.FeedbackConvLSTMNet(**{**arguments, **kwargs}), seed=1
    )
    # So that the confidences differ.
    for layer in model.layers:
        if isinstance(layer, keras.layers.Dense):
            layer.kernel.assign(layer.kernel * 8)
    return model


MODELS = {
    "lrnet": lrnet,
    "crcn": crcn,
    "crcn, carried": crcn_carried,
    "feedback_convlstm": feedback_convlstm,
}


def images_for(model):
    return harness.random_images(model.input_shape[1:], COUNT)


def expected(model, images, threshold):
    """What full passes say: `(predictions, timesteps)`."""
    posteriors = harness.to_numpy(model(images, training=False))
    sure = posteriors.max(axis=-1) >= threshold
    sure[:, -1] = True
    steps = sure.argmax(axis=1)
    return posteriors[np.arange(len(steps)), steps], steps + 1


@pytest.mark.parametrize("name", MODELS)
def test_equals_all_passes(name):
    model = MODELS[name]()
    images = images_for(model)
    confidences = harness.to_numpy(model(images, training=False)).max(axis=-1)
    seen = set()
    for quantile in (0.2, 0.5, 0.9):
        # Between two of the confidences, so that no rounding decides.
        ordered = np.sort(confidences, axis=None)
        place = int(quantile * (ordered.size - 1))
        threshold = float(ordered[place : place + 2].mean(dtype="float64"))
        predictions, timesteps = kfeedback.early_exit(model, threshold).predict(
            images, batch_size=16
        )
        wanted, steps = expected(model, images, threshold)
        np.testing.assert_array_equal(timesteps, steps)
        np.testing.assert_allclose(predictions, wanted, rtol=1e-4, atol=1e-6)
        seen |= set(timesteps.tolist())
    assert seen == {1, 2, 3}, "the thresholds do not show every exit"


def test_logits_stop_by_their_softmax():
    model = feedback_convlstm()
    logits = feedback_convlstm(classifier_activation=None)
    images = images_for(model)
    threshold = float(np.median(harness.to_numpy(model(images)).max(axis=-1)))
    _, steps = kfeedback.early_exit(model, threshold).predict(images)
    predictor = kfeedback.early_exit(logits, threshold, from_logits=True)
    found, timesteps = predictor.predict(images)
    np.testing.assert_array_equal(timesteps, steps)
    assert found.min() < 0, "logits are given as they are"


def test_threshold_one_runs_all_passes_of_the_unsure():
    model = lrnet()
    images = images_for(model)
    predictions, timesteps = kfeedback.early_exit(model, 1.0).predict(images)
    assert (timesteps == 3).all()
    wanted = harness.to_numpy(model(images, training=False))[:, -1]
    np.testing.assert_allclose(predictions, wanted, rtol=1e-4, atol=1e-6)


@harness.tensorflow_only
def test_passes_that_nobody_needs_are_not_run(monkeypatch):
    model = lrnet()
    predictor = kfeedback.early_exit(model, 1e-6)
    for part in predictor.parts[1:]:
        monkeypatch.setattr(part, "_run", None)  # a call would fail
    _, timesteps = predictor.predict(images_for(model))
    assert (timesteps == 1).all()


def test_nothing_is_computed_twice():
    """Together the parts call each layer as often as the model does."""
    for make in MODELS.values():
        model = make()
        whole = [
            n.operation for n in kfeedback.graph.nodes(model.inputs, model.outputs)
        ]
        parts = [
            node.operation
            for part in kfeedback.early_exit(model, 0.5).parts
            for node in kfeedback.graph.nodes(part.model.inputs, part.model.outputs)
        ]
        stacks = [x for x in whole if isinstance(x, StackTimesteps)]
        assert len(stacks) == 1
        assert sorted(x.name for x in parts) == sorted(
            x.name for x in whole if x is not stacks[0]
        )


def test_follows_the_weights_of_the_model():
    model = lrnet()
    images = images_for(model)
    predictor = kfeedback.early_exit(model, 1.0)
    before, _ = predictor.predict(images)
    harness.randomize(model, seed=7)
    after, _ = predictor.predict(images)
    assert np.abs(after - before).max() > 1e-3
    wanted = harness.to_numpy(model(images, training=False))[:, -1]
    np.testing.assert_allclose(after, wanted, rtol=1e-4, atol=1e-6)


def test_one_timestep_and_no_image():
    model = lrnet(timesteps=1)
    images = images_for(model)
    predictions, timesteps = kfeedback.early_exit(model, 0.9).predict(images)
    assert predictions.shape == (COUNT, 4) and (timesteps == 1).all()
    predictions, timesteps = kfeedback.early_exit(model, 0.9).predict(images[:0])
    assert predictions.shape == (0, 4) and timesteps.shape == (0,)


@pytest.mark.parametrize("threshold", [0, -0.5, 1.01, float("nan"), "0.5", None, True])
def test_refuses_thresholds(threshold):
    with pytest.raises(ValueError) as error:
        kfeedback.early_exit(lrnet(), threshold)
    harness.assert_one_sentence(error.value, "threshold")


def test_threshold_may_be_changed_within_its_range():
    predictor = kfeedback.early_exit(lrnet(), 0.5)
    with pytest.raises(ValueError, match="threshold"):
        predictor.threshold = 2
    assert predictor.threshold == 0.5
    predictor.threshold = 1
    assert predictor.threshold == 1.0


def test_refuses_batch_sizes():
    with pytest.raises(ValueError, match="batch_size must be an integer"):
        kfeedback.early_exit(lrnet(), 0.5).predict(np.zeros((2, 8, 8, 2)), 0)


@pytest.mark.parametrize(
    "images",
    [
        np.zeros((8, 8, 2), "float32"),
        np.zeros((3, 8, 9, 2), "float32"),
        np.zeros((3, 8, 8, 3), "float32"),
        (image for image in np.zeros((3, 8, 8, 2))),
    ],
    ids=["one image", "another size", "other channels", "generator"],
)
def test_refuses_images(images):
    with pytest.raises(ValueError) as error:
        kfeedback.early_exit(lrnet(), 0.5).predict(images)
    harness.assert_one_sentence(error.value, "images")


def test_takes_images_of_any_number_type():
    model = lrnet()
    images = (100 * images_for(model)).round()
    wanted, _ = kfeedback.early_exit(model, 0.9).predict(images)
    found, _ = kfeedback.early_exit(model, 0.9).predict(images.astype("int16"))
    harness.assert_bit_equal(found, wanted, "whole numbers")


@pytest.mark.parametrize(
    "make, kind",
    [
        (lambda: lrnet(return_sequences=False), ValueError),
        (lambda: conv_net(), ValueError),
        (lambda: lrnet(include_top=False), ValueError),
        (lambda: lrnet(include_top=False, pooling="avg"), ValueError),
        (lambda: feedback_convlstm(classifier_activation=None), ValueError),
        (lambda: feedback_convlstm(classifier_activation="sigmoid"), ValueError),
        (lambda: keras.Sequential([keras.layers.Dense(3)]), ValueError),
        (lambda: "lrnet", TypeError),
    ],
    ids=[
        *("last", "feedforward", "maps", "features", "logits", "sigmoid"),
        *("unbuilt", "name"),
    ],
)
def test_refuses_models(make, kind):
    with pytest.raises(kind) as error:
        kfeedback.early_exit(make(), 0.5)
    assert str(error.value).startswith("model must")


def test_the_weights_are_those_of_now_whatever_trains():
    """Under JAX what is compiled knows the trainable ones by their places."""
    model = feedback_convlstm(cells=(((4, 1), (4, 1)), ((4, 1), (4, 1))))
    images = harness.random_images((16, 16, 2))
    wanted = model.predict(images, verbose=0)[:, -1]
    predictor = kfeedback.early_exit(model, 1.0)
    one, two = (model.get_layer(f"group2_cell{n}") for n in (1, 2))
    for one.trainable, two.trainable in ((True, False), (False, True)):
        found, _ = predictor.predict(images)
        np.testing.assert_allclose(found, wanted, atol=1e-6)


def test_logits_of_16_bits_are_added_up_in_32():
    """In bfloat16 1 + 0.0025 is 1, however often."""
    image = keras.Input((1000,), dtype="bfloat16")
    looks = [keras.layers.Identity(dtype="bfloat16")(image) for _ in range(2)]
    twice = StackTimesteps(dtype="bfloat16")(looks)
    model = keras.Model(image, twice)
    logits = np.full((1, 1000), -3.0, "float32")
    logits[0, 0] = 3.0
    for threshold, steps in ((0.28, 1), (0.3, 2)):  # e³ / (e³ + 999 e⁻³) = 0.29
        predictor = kfeedback.early_exit(model, threshold, from_logits=True)
        assert predictor.predict(logits)[1].tolist() == [steps]


def test_a_normalization_that_adapts_is_seen():
    image = keras.Input((8, 8, 2))
    normalization = keras.layers.Normalization()
    inner = conv_net()
    made = kfeedback.LRNet(inner, timesteps=2, return_sequences=True)
    model = keras.Model(image, made(normalization(image)))
    images = harness.random_images((8, 8, 2))
    normalization.adapt(images)
    predictor = kfeedback.early_exit(model, 1.0)
    for shift in (0, 3):
        normalization.adapt(images + shift)
        found, _ = predictor.predict(images)
        wanted = harness.to_numpy(model(images))[:, -1]
        np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_whole_numbers_reach_a_network_in_a_model_as_floats():
    """As Keras casts what a nested model is given."""
    network = lrnet()
    outer = keras.Sequential([keras.Input((8, 8, 2), dtype="uint8"), network])
    pixels = np.random.default_rng(0).integers(0, 3, (4, 8, 8, 2), dtype="uint8")
    found, _ = kfeedback.early_exit(outer, 1.0).predict(pixels)
    wanted = harness.to_numpy(outer(pixels))[:, -1]
    np.testing.assert_allclose(found, wanted, atol=1e-6)
