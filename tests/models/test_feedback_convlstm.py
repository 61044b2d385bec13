"""FeedbackConvLSTMNet: the equations, what every model must satisfy, counts, graph."""

import keras
import numpy as np
import pytest

import kfeedback
from applications.common.multiply_adds import count_multiply_adds
from kfeedback import FeedbackConvLSTMNet, weights
from kfeedback.layers import ConvLSTMCell
from tests import harness
from tests.harness import tensorflow_only
from tests.model_checks import MODEL_CHECKS, check_model
from tests.models.feedback_convlstm import (
    CELLS,
    IMAGES,
    OPTIONS,
    arrays,
    lively,
    predict,
    tiny,
)
from tests.reference import feedback_convlstm as reference
from tests.reference import operations

STRIDED = (((3, 2), (4, 1), (2, 2)), ((5, 1), (4, 1)), ((3, 1),))


# --- The harness ---------------------------------------------------------------------

# The heads of the others change little, and JAX compiles each operation for each shape:
# the others run by (KERAS_BACKEND=jax) python -m pytest -m slow and this file.
IS_TENSORFLOW = keras.backend.backend() == "tensorflow"
QUICK = ("default", "no batch norm") if IS_TENSORFLOW else ("default",)
SLOW_ELSEWHERE = () if IS_TENSORFLOW else pytest.mark.slow


@pytest.mark.parametrize("check", MODEL_CHECKS)
@pytest.mark.parametrize(
    "option",
    [
        pytest.param(option, marks=() if option in QUICK else pytest.mark.slow)
        for option in OPTIONS
    ],
)
def test_harness(option, check):
    loss = "sparse_categorical_crossentropy"
    if option == "logits":
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    check_model(
        lambda **kwargs: tiny(option, **kwargs), IMAGES, loss=loss, checks=[check]
    )


# --- The reference -------------------------------------------------------------------


@pytest.mark.parametrize(
    "cells, sides",
    [
        pytest.param(CELLS, (16, 8), id="two groups"),
        pytest.param(STRIDED, (16, 48), id="three groups", marks=SLOW_ELSEWHERE),
    ],
)
@pytest.mark.parametrize("batch_norm", [True, False])
@pytest.mark.parametrize(
    "timesteps",
    [*(pytest.param(steps, marks=SLOW_ELSEWHERE) for steps in (1, 2)), 3],
)
def test_equals_the_reference(timesteps, batch_norm, cells, sides):
    """Of two and of three groups, with a stride in the first cell of all."""
    model = tiny(
        cells=cells,
        input_shape=(*sides, 2),
        batch_norm=batch_norm,
        timesteps=timesteps,
        return_sequences=True,
    )
    lively(model)
    images = harness.random_images((*sides, 2), count=3)
    expected = reference.feedback_convlstm(images, arrays(model), cells, timesteps)
    result = predict(model, images, training=False)
    np.testing.assert_allclose(result, expected, atol=1e-5)
    assert np.ptp(result, axis=0).max(-1).min() > 1e-2


@pytest.mark.parametrize("timesteps", [1, 3])
def test_equals_the_reference_in_training(timesteps):
    model = tiny(head_dropout=0.0, timesteps=timesteps, return_sequences=True)
    lively(model)
    values = arrays(model)
    expected = reference.feedback_convlstm(IMAGES, values, CELLS, timesteps, batch=True)
    np.testing.assert_allclose(predict(model, training=True), expected, atol=1e-5)


def test_the_reference_tells_networks_apart():
    """Else the tests above could not see a wrong one."""
    values = arrays(lively(tiny()))
    images = IMAGES[:3]
    right = reference.feedback_convlstm(images, values, CELLS, 3)
    assert np.abs(np.diff(right, axis=1)).max((0, 2)).min() > 1e-3
    # ReLU between groups, or none within one.
    for cells in (
        (((4, 1), (4, 1), (6, 2)),),
        (((4, 1),), ((4, 1),), ((6, 2),)),
    ):
        numbers = [
            (g, c) for g, group in enumerate(cells, 1) for c, _ in enumerate(group, 1)
        ]
        names = dict(zip(("1_1", "1_2", "2_1"), numbers, strict=True))
        renamed = {}
        for path, value in values.items():
            for old, (group, cell) in names.items():
                number, _, of_group = old.partition("_")
                prefix = f"group{number}_cell{of_group}"
                if path.startswith(prefix):
                    path = path.replace(prefix, f"group{group}_cell{cell}", 1)
                    break
            renamed[path] = value
        wrong = reference.feedback_convlstm(images, renamed, cells, 3)
        assert np.abs(wrong - right).max() > 1e-4
    forgetful = reference.feedback_convlstm(images, values, CELLS, 1)
    assert np.abs(right[:, 1:] - forgetful).max() > 1e-3


def test_a_sigmoid_is_one_of_the_logits():
    logits = predict(lively(tiny("logits")))
    harness.fresh_names()
    result = predict(lively(tiny("sigmoid")))
    np.testing.assert_allclose(result, operations.sigmoid(logits), atol=1e-6)


# --- What the paper counts -----------------------------------------------------------


def parameters(model):
    return sum(np.prod(w.shape) for w in model.trainable_weights)


@pytest.mark.parametrize(
    "arguments, count",
    [
        ({}, 2_035_306),
        ({"timesteps": 1, "return_sequences": True}, 2_035_306),
        # γ and β of every gate of X and H, 4 gates each.
        ({"batch_norm": False}, 2_035_306 - 3 * (16 + 32 + 64 + 64) * 4 * 2 * 2),
        ({"classes": 100}, 2_035_306 + 90 * 257),
        ({"include_top": False}, 2_035_306 - 257 * 256 - 257 * 10),
    ],
)
def test_parameters(arguments, count):
    assert parameters(FeedbackConvLSTMNet(**arguments)) == count


@tensorflow_only
@pytest.mark.parametrize("timesteps", [1, 2, 4])
def test_multiply_adds(timesteps):
    """Sides and channels of the twelve cells, by hand."""
    once = 32 * 32 * 9 * 3 * 16  # the first convolution
    once += 32 * 32 * 9 * 16 * 4 * 16  # the first cell's share of the image features
    cells = [(32, 16, 16)] * 3
    cells += [(16, 16, 32), (16, 32, 32), (16, 32, 32), (8, 32, 64), *[(8, 64, 64)] * 5]
    assert len(cells) == 12
    of_input = [side**2 * 9 * before * 4 * after for side, before, after in cells]
    of_state = [side**2 * 9 * after * 4 * after for side, _, after in cells]
    head = 2 * 2 * 64 * 256 + 256 * 10
    every = sum(of_input[1:]) + head
    count = once + timesteps * every + (timesteps - 1) * sum(of_state)
    model = FeedbackConvLSTMNet(timesteps=timesteps, return_sequences=True)
    assert count_multiply_adds(model) == count


# --- The graph -----------------------------------------------------------------------


def test_the_default_network():
    model = FeedbackConvLSTMNet(timesteps=1)
    assert model.input_shape == (None, 32, 32, 3) and model.output_shape == (None, 10)
    assert model.get_layer("embedding").output.shape == (None, 2, 2, 64)
    cells = [layer for layer in model.layers if isinstance(layer, ConvLSTMCell)]
    assert [cell.name for cell in cells] == [
        f"group{group}_cell{cell}" for group in (1, 2, 3, 4) for cell in (1, 2, 3)
    ]
    assert [cell.filters for cell in cells] == [16] * 3 + [32] * 3 + [64] * 6
    assert [cell.output[0].shape[1] for cell in cells] == [32] * 3 + [16] * 3 + [8] * 6
    relus = [n for n in (layer.name for layer in model.layers) if n.endswith("relu")]
    assert sorted(relus) == sorted(
        ["stem_relu", "embedding_relu"]
        + [f"group{group}_cell{cell}_relu" for group in (1, 2, 3, 4) for cell in (1, 2)]
    )
    for name in ("dropout1", "dropout2"):
        assert model.get_layer(name).rate == 0.5


def test_the_embedding_is_what_the_head_sees():
    model = lively(tiny())
    values = arrays(model)
    harness.fresh_names()
    embedding = predict(lively(tiny(include_top=False)))
    assert embedding.shape == (8, 2, 2, 6)
    x = embedding.reshape(8, -1)
    x = operations.relu(
        operations.dense(x, values["dense/kernel"], values["dense/bias"])
    )
    x = operations.dense(x, values["predictions/kernel"], values["predictions/bias"])
    np.testing.assert_allclose(predict(model), operations.softmax(x), atol=1e-5)


def test_an_image_of_unknown_size():
    model = lively(
        tiny(include_top=False, input_shape=(None, None, 2), return_sequences=True)
    )
    assert model.output_shape == (None, 4, None, None, 6)
    for sides in ((16, 16), (8, 24)):
        images = harness.random_images((*sides, 2), count=2)
        harness.fresh_names()
        known = tiny(include_top=False, input_shape=(*sides, 2), return_sequences=True)
        expected = predict(lively(known), images)
        assert expected.shape == (2, 4, sides[0] // 8, sides[1] // 8, 6)
        np.testing.assert_allclose(predict(model, images), expected, atol=1e-6)


def test_starts_from_a_tensor():
    image = keras.Input((32, 32, 2))
    x = keras.layers.AveragePooling2D(2)(image)
    model = lively(tiny(input_tensor=x, input_shape=None))
    images = harness.random_images((32, 32, 2), count=2)
    halved = images.reshape(2, 16, 2, 16, 2, 2).mean((2, 4))
    harness.fresh_names()
    expected = predict(lively(tiny()), halved)
    np.testing.assert_allclose(predict(model, images), expected, atol=1e-5)


def test_dropout_drops_in_training_only():
    model = lively(tiny(batch_norm=False, timesteps=1))
    model.get_layer("stem_bn").trainable = False
    one, two = (predict(model, training=True) for _ in range(2))
    assert not np.array_equal(one, two)
    assert np.array_equal(predict(model), predict(model))


# --- Files ---------------------------------------------------------------------------


@pytest.mark.parametrize("batch_norm", [True, False])
def test_a_file_serves_all_timesteps(batch_norm, tmp_path):
    two = lively(tiny(timesteps=2, batch_norm=batch_norm))
    weights.save(two, tmp_path / "weights.h5")
    expected = reference.feedback_convlstm(IMAGES, arrays(two), CELLS, 4)
    for timesteps in (1, 2, 4):
        for sequences in (True, False):
            harness.fresh_names()
            model = tiny(
                timesteps=timesteps,
                return_sequences=sequences,
                batch_norm=batch_norm,
                weights=tmp_path / "weights.h5",
            )
            wanted = (
                expected[:, :timesteps] if sequences else expected[:, timesteps - 1]
            )
            np.testing.assert_allclose(predict(model), wanted, atol=1e-5)


def test_a_file_of_other_cells_is_refused(tmp_path):
    weights.save(tiny(), tmp_path / "weights.h5")
    for other in ({"batch_norm": False}, {"cells": [[[4, 1], [4, 1], [6, 2]]]}):
        harness.fresh_names()
        with pytest.raises(ValueError, match=r"^weights"):
            tiny(weights=tmp_path / "weights.h5", **other)


@tensorflow_only
def test_exports(tmp_path):
    import tensorflow as tf

    model = lively(tiny(timesteps=2, return_sequences=True))
    model.export(tmp_path / "saved", verbose=False)
    saved = tf.saved_model.load(tmp_path / "saved")
    np.testing.assert_allclose(saved.serve(IMAGES), predict(model), atol=1e-6)


def test_is_listed():
    assert "FeedbackConvLSTMNet" in kfeedback.list_models()
