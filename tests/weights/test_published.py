"""The published networks, in a new process on each backend: outputs and scores."""

import importlib.util
import json
import os
import pathlib
import subprocess
import sys

import keras
import numpy as np
import pytest

from kfeedback.weights import registry

REPOSITORY = pathlib.Path(__file__).parents[2]
SAMPLE = "mnist_background_images_sample"
TAGS = list(registry.ENTRIES)

CODE = """
import json
import sys

import numpy as np

import kfeedback
from kfeedback import images as images_lib
from kfeedback.preprocessing import preprocess_input
from tools.publish_weights import probe

SAMPLE = "mnist_background_images_sample"
images, labels, _ = kfeedback.datasets.load_arrays(SAMPLE, "test")
found = {}
for tag in kfeedback.list_weights():
    about = kfeedback.weights.describe(tag)["about"]
    network = kfeedback.load_pretrained(tag)
    found[tag] = {"outputs": probe(network, about["preprocessing"]).tolist()}
    found[tag]["factory"] = kfeedback.weights.origin(network)["factory"]
    if about["dataset"].startswith(SAMPLE):
        size = network.input_shape[1:3]
        seen = np.stack([images_lib.resize(x, size) for x in images]).astype("float32")
        seen = preprocess_input(seen, about["preprocessing"])
        wrong = network.predict(seen, batch_size=200, verbose=0).argmax(-1) != labels
        found[tag]["error"] = 100 * float(wrong.mean())
with open(sys.argv[1], "w") as file:
    json.dump(found, file)
"""


def _backend(name):
    marks = [] if name == keras.backend.backend() else [pytest.mark.slow]
    return pytest.param(name, marks=marks)


@pytest.fixture(
    scope="module", params=[_backend(name) for name in ("tensorflow", "jax", "torch")]
)
def found(request, tmp_path_factory):
    if importlib.util.find_spec(request.param) is None:
        pytest.skip(f"{request.param} is not installed")
    path = tmp_path_factory.mktemp("found") / "found.json"
    result = subprocess.run(
        [sys.executable, "-c", CODE, str(path)],
        env={**os.environ, "KERAS_BACKEND": request.param},
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    return json.loads(path.read_text())


@pytest.mark.parametrize("tag", TAGS)
def test_it_says_what_it_said_when_it_was_published(found, tag):
    published = np.array(registry.ENTRIES[tag].outputs)
    assert found[tag]["factory"] == registry.ENTRIES[tag].about["factory"]
    assert published.shape[1] == registry.ENTRIES[tag].about["classes"]
    np.testing.assert_allclose(found[tag]["outputs"], published, rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    "tag",
    [t for t in TAGS if registry.ENTRIES[t].about["dataset"].startswith(SAMPLE)],
)
def test_the_score_is_what_the_network_reaches(found, tag):
    score = float(registry.ENTRIES[tag].about["score"].split(" ")[0])
    assert abs(found[tag]["error"] - score) <= 0.05
