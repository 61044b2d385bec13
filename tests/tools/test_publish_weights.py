"""A published file: rounded, described, the same bytes again."""

import hashlib

import numpy as np
import pytest

from kfeedback import weights
from kfeedback.models.backbones import LeNet
from tests import harness
from tools import publish_weights

FACTORY = "kfeedback.models.backbones.LeNet"


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    path = tmp_path_factory.mktemp("source") / "weights.h5"
    weights.save(harness.randomize(LeNet(classes=3)), path, dataset="mine")
    return path


def test_an_entry_is_what_the_file_is(source, tmp_path):
    path = tmp_path / "out.h5"
    entry = publish_weights.publish(
        source, path, FACTORY, "float16", {"license": "CC0-1.0"}
    )
    content = path.read_bytes()
    assert entry["size"] == len(content) < 0.5 * source.stat().st_size
    assert entry["sha256"] == hashlib.sha256(content).hexdigest()
    about = entry["about"]
    assert (about["factory"], about["dataset"], about["license"]) == (
        "LeNet",
        "mine",
        "CC0-1.0",
    )
    for before, after in zip(
        LeNet(classes=3, weights=source).weights,
        LeNet(classes=3, weights=path).weights,
        strict=True,
    ):
        rounded = before.numpy().astype("float16").astype("float32")
        np.testing.assert_array_equal(after.numpy(), rounded)


def test_the_same_weights_give_the_same_bytes(source, tmp_path):
    first = publish_weights.publish(source, tmp_path / "a.h5", FACTORY, "float16")
    about = dict(reversed(first["about"].items()))
    publish_weights.publish(source, tmp_path / "b.h5", FACTORY, "float16", about)
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()


def test_another_factory_is_refused(source, tmp_path):
    with pytest.raises(ValueError, match="LeNet"):
        publish_weights.publish(
            source, tmp_path / "out.h5", "kfeedback.models.backbones.NIN"
        )
    assert not (tmp_path / "out.h5").exists()
