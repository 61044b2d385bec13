"""What one backend saved loads in the others."""

import importlib.util
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

REPOSITORY = pathlib.Path(__file__).parents[2]

CODE = """
import sys
import numpy as np
import keras
import kfeedback
from tests import harness

folder, backend = sys.argv[1:]
assert keras.backend.backend() == backend
makes = {
    "lrnet": lambda **k: kfeedback.LRNet("lenet", timesteps=3, **k),
    "cliquenet": lambda **k: kfeedback.CliqueNet(filters=4, layers=6, **k),
    "convlstm": lambda **k: kfeedback.FeedbackConvLSTMNet(
        cells=[[(4, 2)], [(4, 1)]], return_sequences=True, **k
    ),
}
for name, make in makes.items():
    path = f"{folder}/{name}.h5"
    if backend == "tensorflow":
        model = harness.randomize(make())
        kfeedback.weights.save(model, path)
    else:
        model = make(weights=path)
    images = harness.random_images(model.input.shape[1:])
    if backend == "torch":
        images = keras.ops.convert_to_tensor(images)
    result = keras.ops.convert_to_numpy(model(images, training=False))
    np.save(f"{folder}/{name}_{backend}.npy", result)
"""


def run(folder, backend):
    result = subprocess.run(
        [sys.executable, "-c", CODE, folder, backend],
        env={**os.environ, "KERAS_BACKEND": backend},
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert result.returncode == 0, result.stderr[-3000:]


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved")
    run(folder, "tensorflow")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_weights_of_tensorflow_load(saved, backend):
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")
    run(saved, backend)
    for name in ("lrnet", "cliquenet", "convlstm"):
        expected = np.load(saved / f"{name}_tensorflow.npy")
        actual = np.load(saved / f"{name}_{backend}.npy")
        assert np.ptp(expected) > 0.01
        assert np.abs(actual - expected).max() <= 1e-5, name
