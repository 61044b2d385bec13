"""How long loading takes beside Keras' own; meaningful on a quiet machine only."""

import statistics
import time

import keras
import pytest

from kfeedback import weights


@pytest.mark.slow
def test_loading_vgg16_takes_at_most_half_as_long_again(tmp_path):
    model = keras.applications.VGG16(weights=None)
    weights.save(model, tmp_path / "ours.h5")
    model.save_weights(tmp_path / "model.weights.h5")
    seconds = {"ours": [], "keras": []}
    for _ in range(7):
        start = time.perf_counter()
        model.load_weights(tmp_path / "model.weights.h5")
        seconds["keras"].append(time.perf_counter() - start)
        start = time.perf_counter()
        weights.load(model, tmp_path / "ours.h5")
        seconds["ours"].append(time.perf_counter() - start)
    ours, keras_own = (statistics.median(seconds[x][1:]) for x in ("ours", "keras"))
    print(f"ours {ours:.2f} s, Keras {keras_own:.2f} s, {ours / keras_own:.2f} times")
    assert ours <= 1.5 * keras_own
