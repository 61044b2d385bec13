"""What is a path, and where `~` leads: home, everywhere."""

import pathlib

import keras
import pytest

import kfeedback
from kfeedback import weights
from tests import harness
from tests.other_peoples_models.common import one_sentence, small


@pytest.mark.parametrize("as_path", [str, pathlib.Path])
def test_tilde_is_home_everywhere(tmp_path, monkeypatch, as_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    model = small()
    weights.save(model, as_path("~/w.h5"))
    weights.load(model, as_path("~/w.h5"))
    if keras.backend.backend() == "tensorflow":
        kfeedback.serving.export(model, as_path("~/served"), warmup_batches=())
        assert (tmp_path / "served" / "1").is_dir()
    assert (tmp_path / "w.h5").is_file() and not (tmp_path / "~").exists()


@pytest.mark.parametrize("path", [None, 3, b"a.h5", ["a.npz"]])
@pytest.mark.parametrize(
    ("argument", "call"),
    [
        ("path", lambda path: weights.save(small(), path)),
        ("path", lambda path: kfeedback.serving.export_file(small(), path)),
        ("base_dir", lambda path: kfeedback.serving.export(small(), path)),
        ("path", kfeedback.preprocessing.ZCAWhitening.load),
        (
            "data_dir",
            lambda path: kfeedback.datasets.load("mnist", "train", data_dir=path or 1),
        ),
        (
            "data_dir",
            lambda path: kfeedback.datasets.load("a.npz", "train", data_dir=path or 1),
        ),
        (
            "manual_dir",
            lambda path: kfeedback.datasets.load(
                "mnist", "train", manual_dir=path or 1
            ),
        ),
        (
            "data_dir",
            lambda path: kfeedback.datasets.load_arrays(
                "a.npz", "train", data_dir=path or 1
            ),
        ),
        (
            "data_dir",
            lambda path: kfeedback.datasets.stream_boxes(
                "coco", "train", data_dir=path or 1
            ),
        ),
    ],
)
@harness.tensorflow_only
def test_what_is_no_path_is_refused(argument, call, path):
    with pytest.raises(TypeError, match=f"^{argument} must be a path, got ") as error:
        call(path)
    one_sentence(error)


def test_tilde_is_home_in_flags(tmp_path, monkeypatch):
    from applications.common.command_line import parse
    from applications.train.settings import Settings

    monkeypatch.setenv("HOME", str(tmp_path))
    arguments = ["--model=lenet", "--dataset=synthetic", "--output_dir=~/run"]
    assert parse(Settings, arguments).output_dir == str(tmp_path / "run")
