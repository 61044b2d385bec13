"""Every file of an earlier version loads, and its network gives what it gave."""

import pathlib

import keras
import numpy as np
import pytest

import kfeedback
from tests import harness

FOLDER = pathlib.Path(__file__).parent
NAMES = sorted(path.stem for path in FOLDER.glob("*.keras"))
# Another processor adds in another order.
RTOL, ATOL = 1e-4, 1e-6


def recorded(name):
    with np.load(FOLDER / f"{name}.npz") as file:
        found = {key: file[key] for key in file.files}
    return found.pop("images"), found


def assert_gives(model, name):
    images, wanted = recorded(name)
    found = model(keras.ops.convert_to_tensor(images))
    found = found if isinstance(found, dict) else {"output": found}
    assert found.keys() == wanted.keys()
    for key, value in wanted.items():
        np.testing.assert_allclose(
            keras.ops.convert_to_numpy(found[key]), value, rtol=RTOL, atol=ATOL
        )


def test_there_are_files_of_every_family():
    assert len(NAMES) == 7


@pytest.mark.parametrize("name", NAMES)
def test_a_keras_file_gives_what_it_gave(name):
    assert_gives(keras.models.load_model(FOLDER / f"{name}.keras"), name)


@pytest.mark.parametrize("name", [n for n in NAMES if n != "feedback_cnn"])
def test_a_weights_file_gives_what_it_gave(name):
    model = keras.models.load_model(FOLDER / f"{name}.keras")
    kfeedback.weights.load(harness.randomize(model, seed=5), FOLDER / f"{name}.h5")
    assert_gives(model, name)
    about = kfeedback.weights.describe(FOLDER / f"{name}.h5")["about"]
    assert about["license"] == "CC0-1.0"


@pytest.mark.parametrize("name", ["cliquenet", "clique_stage_one", "vgg_attention"])
def test_what_a_weights_file_says_builds_its_network(name):
    path = FOLDER / f"{name}.h5"
    about = kfeedback.weights.describe(path)["about"]
    model = kfeedback.models.registry.build(about)
    kfeedback.weights.load(model, path)
    assert_gives(model, name)
