"""Damaged files and files that are something else: none of them loads wrong."""

import io
import pickle
import random
import zipfile

import numpy as np
import pytest

from kfeedback import models, weights
from kfeedback.models.backbones import LeNet
from kfeedback.weights import registry
from tests import harness
from tests.weights.common import assert_same, dense_net, refused, values

FORMATS = [
    {"compress": compress, "dtype": dtype}
    for compress in (False, True)
    for dtype in (None, "float16")
]


@pytest.mark.parametrize("options", FORMATS, ids=str)
def test_no_bit_flip_loads_wrong(tmp_path, options):
    """200, in a network one of whose tensors the seal leaves to its checksum."""
    model = harness.randomize(LeNet())
    path = tmp_path / "model.h5"
    weights.save(model, path, **options)
    data = path.read_bytes()
    assert (b" - " in data[:512]) is (options != FORMATS[0])
    refuses_flips(model, data, tmp_path)


# All hold to the code of the test above: one by default.
@pytest.mark.parametrize(
    "tag",
    [
        pytest.param(tag, marks=() if tag.startswith("nin") else pytest.mark.slow)
        for tag in registry.ENTRIES
    ],
)
def test_no_bit_flip_of_a_published_file_loads_wrong(tmp_path, tag):
    model = models.registry.build(weights.describe(tag)["about"])
    refuses_flips(model, registry.locate(tag).read_bytes(), tmp_path)


def refuses_flips(model, data, folder):
    before = values(model)
    draw = random.Random(0)
    for _ in range(200):
        flipped = bytearray(data)
        flipped[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
        bad = folder / "bad.h5"
        bad.write_bytes(flipped)
        with pytest.raises(ValueError, match="weights must"):
            weights.load(model, bad)
    assert_same(values(model), before)


@pytest.mark.parametrize("options", FORMATS, ids=str)
def test_formats_restore_what_was_rounded(tmp_path, options):
    model = harness.randomize(LeNet())
    weights.save(model, tmp_path / "model.h5", **options)
    expected = values(model)
    if options["dtype"]:
        expected = {
            name: value.astype("float16").astype("float32")
            for name, value in expected.items()
        }
    again = LeNet(weights=tmp_path / "model.h5")
    assert_same(values(again), expected)


def test_float16_refuses_what_it_cannot_hold(tmp_path):
    model = dense_net()
    model.weights[0].assign(model.weights[0] * 0 + 1e6)
    with pytest.raises(ValueError) as caught:
        weights.save(model, tmp_path / "model.h5", dtype="float16")
    harness.assert_one_sentence(caught.value, "model")
    assert list(tmp_path.iterdir()) == []


def test_no_truncation_loads(tmp_path):
    model = harness.randomize(dense_net())
    path = tmp_path / "model.h5"
    weights.save(model, path)
    data = path.read_bytes()
    for n in range(40):
        path.write_bytes(data[: len(data) * n // 40])
        refused(model, path, str(path))
    path.write_bytes(data + b"\0")
    refused(model, path, str(path))


class Bomb:
    """Runs code when it is unpickled."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return (open, (self.path, "w"))


def strangers(marker):
    bomb = pickle.dumps(Bomb(marker))
    npz, pt = io.BytesIO(), io.BytesIO()
    np.savez(npz, weights=np.array([Bomb(marker)], object))
    with zipfile.ZipFile(pt, "w") as archive:
        archive.writestr("archive/data.pkl", bomb)
        archive.writestr("archive/version", "3")
    return {
        "HTML": b"<!DOCTYPE html><html><body>404</body></html>",
        "LFS": b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n",
        "empty": b"",
        "pickle": bomb,
        "npz": npz.getvalue(),
        ".pt": pt.getvalue(),
    }


@pytest.mark.parametrize("name", ["HTML", "LFS", "empty", "pickle", "npz", ".pt"])
@pytest.mark.parametrize("suffix", [".h5", ".weights.h5", ".pt", ".npz", ".pkl"])
def test_strangers_are_named_and_run_nothing(tmp_path, name, suffix):
    marker = tmp_path / "ran"
    path = tmp_path / f"model{suffix}"
    path.write_bytes(strangers(marker)[name])
    refused(dense_net(), path, str(path), name)
    with pytest.raises(ValueError):
        weights.describe(path)
    with pytest.raises(ValueError):
        LeNet(weights=path)
    assert not marker.exists()


def test_the_bombs_are_live(tmp_path):
    pickle.loads(strangers(tmp_path / "ran")["pickle"])
    assert (tmp_path / "ran").exists()


def test_an_interrupted_assignment_changes_nothing(tmp_path, monkeypatch):
    model = harness.randomize(dense_net())
    weights.save(model, tmp_path / "model.h5")
    harness.randomize(model, seed=5)
    before = values(model)
    last = model.weights[-1]
    assign, calls = type(last).assign, []

    def fail(variable, value):
        if variable is last and not calls:
            calls.append(1)
            assign(variable, value)
            raise KeyboardInterrupt
        return assign(variable, value)

    monkeypatch.setattr(type(last), "assign", fail)
    with pytest.raises(KeyboardInterrupt):
        weights.load(model, tmp_path / "model.h5")
    assert calls
    assert_same(values(model), before)
