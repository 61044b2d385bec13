"""FeedbackConvLSTMNet: each pass has statistics of its own, and each learns."""

import keras
import numpy as np
import pytest

from kfeedback.losses import TimestepLoss
from tests.models.feedback_convlstm import CELLS, IMAGES, arrays, lively, predict, tiny
from tests.reference import feedback_convlstm as reference


def test_later_passes_take_the_statistics_of_the_fourth():
    model = lively(tiny(timesteps=6, return_sequences=True))
    values = arrays(model)
    expected = reference.feedback_convlstm(IMAGES, values, CELLS, 6)
    result = predict(model)
    np.testing.assert_allclose(result, expected, atol=1e-5)
    # Those of the third would be seen, as would those of the fourth at pass 3.
    for slot, first in ((3, 3), (2, 2)):
        changed = {
            path: np.where(np.arange(4)[:, None] == slot, value + 0.5, value)
            if "moving" in path and value.shape[0] == 4 and value.ndim == 2
            else value
            for path, value in values.items()
        }
        other = reference.feedback_convlstm(IMAGES, changed, CELLS, 6)
        moved = np.abs(other - result).max((0, 2))
        assert (moved[:first] < 1e-5).all() and (moved[first:] > 1e-4).all()


def test_a_network_of_two_passes_leaves_none_untouched():
    """The state of the first pass is convolved nowhere, so those are never read."""
    model = tiny(timesteps=2, head_dropout=0.0, return_sequences=True)
    before = arrays(model)
    model.compile("sgd", TimestepLoss("sparse_categorical_crossentropy", 1.2))
    model.train_on_batch(IMAGES, np.arange(8) % 4)
    after = arrays(model)
    norms = [path for path in after if "moving" in path]
    assert len(norms) == 2 + 2 + 2 * (1 + 2 + 2)  # stem, first gates, cells
    for path in norms:
        moved = after[path] != before[path]
        if "recurrent_gates" in path:
            assert not moved[0].any()
            moved = moved[1:]
            np.testing.assert_array_equal(after[path][1], after[path][3])
        assert moved.all(), path
        if "cell1/input_gates" in path or "cell2/input_gates" in path:
            assert np.abs(after[path][0] - after[path][1]).max() > 0
            np.testing.assert_array_equal(after[path][1], after[path][3])


@pytest.mark.parametrize("timesteps", [1, 4])
def test_which_statistics_training_moves(timesteps):
    model = lively(tiny(timesteps=timesteps))
    before = arrays(model)
    model(IMAGES, training=True)
    for path, value in arrays(model).items():
        if "moving" not in path:
            assert np.array_equal(value, before[path])
        elif "recurrent_gates" in path:
            slots = np.any(value != before[path], axis=1).tolist()
            assert slots == [False] + [timesteps == 4] * 3
        else:
            assert (value != before[path]).all(), path


def test_training_learns():
    """Each pass of fresh weights, and what it learned is there in inference."""
    keras.utils.set_random_seed(0)
    model = tiny(timesteps=2, head_dropout=0.0, return_sequences=True)
    loss = TimestepLoss("sparse_categorical_crossentropy", 1.2)
    model.compile(keras.optimizers.Adam(0.02), loss)
    labels = np.arange(8) % 4
    losses = model.fit(IMAGES, labels, epochs=30, verbose=0).history["loss"]
    assert losses[-1] < 0.3 * losses[0]
    assert model.evaluate(IMAGES, labels, verbose=0) < 0.5 * losses[0]
    assert (predict(model).argmax(-1) == labels[:, None]).all()
