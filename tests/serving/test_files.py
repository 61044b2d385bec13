"""LiteRT, ONNX and OpenVINO files, asked through their own runtimes."""

import importlib
import sys

import keras
import numpy as np
import pytest

import kfeedback
from tests import harness
from tests.serving.common import SMALL, lenet, make, tiny
from tests.serving.test_export import LARGE

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="TensorFlow's affair"
)
RUNTIMES = {
    "tflite": ("ai_edge_litert",),
    "onnx": ("onnxruntime", "tf2onnx"),
    "xml": ("openvino",),
}


def check(factory, suffix, tmp_path):
    for package in RUNTIMES[suffix]:
        pytest.importorskip(package)
    files = importlib.import_module("kfeedback.serving._files")
    model = make(factory)
    path = kfeedback.serving.export_file(model, tmp_path / f"m.{suffix}")
    assert path == tmp_path / f"m.{suffix}"
    written = {path.name} | ({"m.bin"} if suffix == "xml" else set())
    assert {x.name for x in tmp_path.iterdir()} == written, "drafts are left"
    run = files._FORMATS[f".{suffix}"][1](path)
    images = harness.random_images(model.input_shape[1:], 5)
    for batch in (1, 5):
        wanted = model.predict(images[:batch], verbose=0)
        np.testing.assert_allclose(run(images[:batch]), wanted, rtol=0, atol=1e-4)
    assert np.ptp(wanted, axis=0).max() > 1e-4, "all images give one prediction"


@pytest.mark.parametrize("suffix", RUNTIMES)
def test_small_network(suffix, tmp_path):
    check(lenet, suffix, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("suffix", RUNTIMES)
@pytest.mark.parametrize("name", LARGE)
def test_every_family(name, suffix, tmp_path):
    check(LARGE[name], suffix, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("suffix", RUNTIMES)
@pytest.mark.parametrize("name", SMALL)
def test_small_networks(name, suffix, tmp_path):
    check(SMALL[name], suffix, tmp_path)


@pytest.mark.parametrize("suffix", RUNTIMES)
def test_what_answers_otherwise_is_refused(suffix, tmp_path, monkeypatch):
    for package in RUNTIMES[suffix]:
        pytest.importorskip(package)
    files = importlib.import_module("kfeedback.serving._files")
    name, load = files._FORMATS[f".{suffix}"]

    def load_other(path):
        run = load(path)
        return lambda images: run(images) + np.float32(0.01)

    monkeypatch.setitem(files._FORMATS, f".{suffix}", (name, load_other))
    (tmp_path / f"m.{suffix}").write_text("old")
    with pytest.raises(ValueError, match=r"outputs differ by 1\.0e-02"):
        kfeedback.serving.export_file(tiny(), tmp_path / f"m.{suffix}")
    assert (tmp_path / f"m.{suffix}").read_text() == "old"


def test_what_keras_cannot_convert_is_refused_with_the_reason(tmp_path, monkeypatch):
    def refuse(*args, **kwargs):
        raise RuntimeError("no such operation")

    model = tiny()
    monkeypatch.setattr(model, "export", refuse)
    with pytest.raises(ValueError, match="RuntimeError: no such operation") as error:
        kfeedback.serving.export_file(model, tmp_path / "m.onnx")
    assert str(error.value).startswith("model must be one that Keras can export as")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "suffix, package",
    [("tflite", "ai_edge_litert"), ("onnx", "onnxruntime"), ("xml", "openvino")],
)
def test_without_the_package_it_says_what_to_install(
    suffix, package, tmp_path, monkeypatch
):
    model = tiny()
    monkeypatch.setattr(model, "export", lambda *args, **kwargs: None)
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.setitem(sys.modules, f"{package}.interpreter", None)
    with pytest.raises(
        ImportError, match=r"pip install kfeedback\[(litert|onnx|openvino)\]"
    ):
        kfeedback.serving.export_file(model, tmp_path / f"m.{suffix}")


@pytest.mark.parametrize("name", ["m.tf", "m", "m.ONNX"])
def test_refuses_other_endings(name, tmp_path):
    with pytest.raises(ValueError) as error:
        kfeedback.serving.export_file(tiny(), tmp_path / name)
    harness.assert_one_sentence(
        error.value, "path must end in one of .tflite, .onnx, .xml"
    )
