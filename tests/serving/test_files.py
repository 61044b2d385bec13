"""LiteRT, ONNX and OpenVINO files, asked through their own runtimes."""

import importlib
import sys

import keras
import numpy as np
import pytest

import kfeedback
from kfeedback.datasets import load_arrays
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
    files = importlib.import_module("kfeedback.serving.files")
    model = make(factory)
    path = kfeedback.serving.export_file(model, tmp_path / f"m.{suffix}")
    assert path == tmp_path / f"m.{suffix}"
    written = {path.name} | ({"m.bin"} if suffix == "xml" else set())
    assert {x.name for x in tmp_path.iterdir()} == written, "drafts are left"
    run = files._FORMATS[f".{suffix}"][1](path)
    images = harness.random_images(model.input_shape[1:], 5)
    for batch in (1, 5):
        wanted = model.predict(images[:batch], verbose=0)
        (found,) = run(images[:batch])
        np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-4)
    assert np.ptp(wanted, axis=0).max() > 1e-4, "all images give one prediction"


@pytest.mark.parametrize("suffix", RUNTIMES)
def test_small_network(suffix, tmp_path):
    check(lenet, suffix, tmp_path)


def test_maps_sizes_are_no_outputs(tmp_path):
    openvino = pytest.importorskip("openvino")
    path = kfeedback.serving.export_file(make(SMALL["crcn"]), tmp_path / "m.xml")
    assert len(openvino.Core().read_model(path).outputs) == 1


def digits():
    """A trained network and prepared images that it knows."""
    model = kfeedback.load_pretrained("lenet_mnist_bg_sample")
    images, _, _ = load_arrays("mnist_background_images_sample", "test")
    return model, images[:300].astype("float32") / 255


def test_int8_keeps_the_classes_and_takes_less_room(tmp_path):
    pytest.importorskip("nncf")
    files = importlib.import_module("kfeedback.serving.files")
    model, images = digits()
    plain = kfeedback.serving.export_file(model, tmp_path / "plain.xml")
    path = kfeedback.serving.export_file(
        model, tmp_path / "m.xml", calibration=images[:100]
    )
    assert {x.name for x in tmp_path.iterdir()} == {
        *("m.xml", "m.bin", "plain.xml", "plain.bin")
    }
    found, wanted = (files.load_openvino(p)(images[100:])[0] for p in (path, plain))
    assert 1e-5 < np.abs(found - wanted).max(), "nothing was quantized"
    assert np.mean(found.argmax(-1) == wanted.argmax(-1)) >= 0.98
    sizes = [p.with_suffix(".bin").stat().st_size for p in (path, plain)]
    assert sizes[0] < 0.3 * sizes[1]


def test_int8_that_changes_the_classes_is_refused(tmp_path, monkeypatch):
    pytest.importorskip("nncf")
    files = importlib.import_module("kfeedback.serving.files")
    name, load = files._FORMATS[".xml"]

    def load_other(path):
        run = load(path)
        return (lambda x: [-run(x)[0]]) if path.parent.name == "int8" else run

    monkeypatch.setitem(files._FORMATS, ".xml", (name, load_other))
    model, images = digits()
    with pytest.raises(ValueError) as error:
        kfeedback.serving.export_file(
            model, tmp_path / "m.xml", calibration=images[:20]
        )
    harness.assert_one_sentence(error.value, "model must keep its classes in int8")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("activation, bound", [(None, 0.0), ("sigmoid", 0.5)])
def test_classes_of_a_single_logit_are_told_by_its_sign(activation, bound):
    files = importlib.import_module("kfeedback.serving.files")
    image = keras.Input((1, 1, 1))
    x = keras.layers.Dense(1, activation=activation)(keras.layers.Flatten()(image))
    model = keras.Model(image, x, name="single")
    model.set_weights([np.ones((1, 1)), np.zeros(1)])
    images = np.array([-0.4, -0.2, 0.2, 0.4], "float32").reshape(4, 1, 1, 1)

    def run(change):
        return lambda x: [bound + change(np.asarray(model(x)) - bound)]

    files._check_classes(model, run(lambda x: x / 100), images)
    with pytest.raises(ValueError, match="'single', which keeps 0 %"):
        files._check_classes(model, run(np.negative), images)
    # All near to 0.5, which says nothing of a logit.
    if activation is None:
        images = np.array([0.49, 0.51], "float32").reshape(2, 1, 1, 1)
        files._check_classes(model, run(lambda x: 1 - x), images)


@pytest.mark.parametrize(
    "images, suffix, message",
    [
        ([[1.0]], "xml", "calibration must be an array (N, 16, 16, 1), got list"),
        (np.zeros((0, 16, 16, 1)), "xml", "calibration must be an array"),
        (np.zeros((2, 16, 16, 3)), "xml", "calibration must be an array"),
        (np.full((2, 16, 16, 1), np.nan), "xml", "calibration must be finite"),
        (np.zeros((2, 16, 16, 1), "uint8"), "xml", "calibration must be floats"),
        (np.full((2, 16, 16, 1), "a"), "xml", "calibration must be floats"),
        (np.zeros((2, 16, 16, 1)), "onnx", "calibration must be None for a file"),
    ],
)
def test_refuses_images_that_calibrate_nothing(images, suffix, message, tmp_path):
    with pytest.raises(ValueError) as error:
        kfeedback.serving.export_file(
            make(lenet), tmp_path / f"m.{suffix}", calibration=images
        )
    harness.assert_one_sentence(error.value, message)


def test_without_nncf_it_says_what_to_install(tmp_path, monkeypatch):
    pytest.importorskip("openvino")
    monkeypatch.setitem(sys.modules, "nncf", None)
    model, images = digits()
    with pytest.raises(ImportError, match=r"pip install kfeedback\[int8\]"):
        kfeedback.serving.export_file(model, tmp_path / "m.xml", calibration=images[:2])
    assert not list(tmp_path.iterdir())


def test_images_that_the_model_cannot_take_are_refused(tmp_path):
    image = keras.Input((None, None, 3))
    y = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(4, 3)(image))
    model = keras.Model(image, keras.layers.Dense(3)(y))
    small, none = np.ones((2, 1, 1, 3), "float32"), np.ones((2, 0, 4, 3), "float32")
    with pytest.raises(ValueError) as error:
        kfeedback.serving.export_file(model, tmp_path / "m.xml", calibration=small)
    harness.assert_one_sentence(error.value, "calibration must be images that '")
    assert "can take, got ones of shape (1, 1, 3): " in str(error.value)
    assert str(error.value.__cause__).split()[0] in str(error.value)  # and why
    with pytest.raises(ValueError) as error:
        kfeedback.serving.export_file(model, tmp_path / "m.xml", calibration=none)
    harness.assert_one_sentence(error.value, "calibration must be an array (N, None")
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_int8_of_all_timesteps_any_size_and_without_a_word(
    tmp_path, monkeypatch, capfd
):
    pytest.importorskip("nncf")
    files = importlib.import_module("kfeedback.serving.files")
    monkeypatch.chdir(tmp_path)
    model, images = digits()
    model = kfeedback.LRNet(model, timesteps=2, return_sequences=True)
    path = kfeedback.serving.export_file(
        model, "all looks.xml", calibration=images[:20]
    )
    assert "100%" not in capfd.readouterr().out, "nncf shows its progress"
    (found,) = files.load_openvino(path)(images)
    wanted = model.predict(images, verbose=0)
    assert found.shape == wanted.shape
    assert np.mean(found.argmax(-1) == wanted.argmax(-1), axis=0).min() >= 0.98


def test_less_than_the_share_that_is_asked_for_is_not_rounded_up():
    files = importlib.import_module("kfeedback.serving.files")
    model = keras.Sequential([keras.Input((1, 1, 2)), keras.layers.Flatten()])
    images = np.tile(np.float32([1, 0]), (250, 1)).reshape(250, 1, 1, 2)
    wrong = iter([True] * 26 + [False] * 224)

    def run(image):
        return [-image[:, 0, 0] if next(wrong) else image[:, 0, 0]]

    with pytest.raises(ValueError, match=r"90 % of .*, which keeps 89 %\.$"):
        files._check_classes(model, run, images)


def looks():
    """The network of `digits` with two looks, and images."""
    model, images = digits()
    return kfeedback.LRNet(model, timesteps=2, return_sequences=True), images


def test_early_exit_in_a_file_is_that_of_the_package(tmp_path):
    openvino = pytest.importorskip("openvino")
    model, images = looks()
    path = kfeedback.serving.export_file(model, tmp_path / "m.xml", exit_threshold=0.9)
    options = {"INFERENCE_PRECISION_HINT": "f32"}
    run = openvino.Core().compile_model(str(path), "CPU", options)
    wanted = kfeedback.early_exit(model, 0.9).predict(images, batch_size=300)
    assert set(wanted[1]) == {1, 2}, "all images stop at one timestep"
    found = run(images)
    np.testing.assert_allclose(found["predictions"], wanted[0], rtol=0, atol=1e-4)
    np.testing.assert_array_equal(found["timesteps"], wanted[1])
    stopped = images[wanted[1] == 1][:3]  # nothing is left for the second look
    np.testing.assert_array_equal(run(stopped)["timesteps"], [1, 1, 1])


@pytest.mark.slow
def test_early_exit_by_logits(tmp_path):
    pytest.importorskip("openvino")
    files = importlib.import_module("kfeedback.serving.files")
    i = keras.Input((28, 28, 1))
    x = keras.layers.Conv2D(4, 3, strides=2, activation="relu")(i)
    x = keras.layers.GlobalAveragePooling2D()(x)
    x = keras.layers.Dense(3, kernel_initializer=keras.initializers.HeNormal(0))(x)
    model = kfeedback.LRNet(keras.Model(i, x), timesteps=2, return_sequences=True)
    images = harness.random_images(model.input_shape[1:], 20)
    posteriors = keras.ops.softmax(model.predict(images, verbose=0)[:, 0])
    threshold = float(np.median(np.max(posteriors, axis=-1)))
    options = {"exit_threshold": threshold, "from_logits": True}
    path = kfeedback.serving.export_file(model, tmp_path / "m.xml", **options)
    found = files.load_openvino(path)(images)
    wanted = kfeedback.early_exit(model, threshold, from_logits=True).predict(images)
    assert set(wanted[1]) == {1, 2}, "all images stop at one timestep"
    np.testing.assert_allclose(found[0], wanted[0], rtol=0, atol=1e-4)
    np.testing.assert_array_equal(found[1], wanted[1])


@pytest.mark.parametrize(
    "suffix, arguments, message",
    [
        ("xml", {"from_logits": True}, "from_logits must be False without exit_thresh"),
        ("xml", {"exit_threshold": 0}, "exit_threshold must be"),
        ("xml", {"exit_threshold": "0.9"}, "exit_threshold must be"),
        ("onnx", {"exit_threshold": 0.9}, "exit_threshold must be None for a file"),
        (
            "xml",
            {"exit_threshold": 0.9, "calibration": np.zeros((2, 28, 28, 1))},
            "calibration must be None where exit_threshold is given",
        ),
    ],
)
def test_refuses_an_early_exit_that_cannot_be(suffix, arguments, message, tmp_path):
    with pytest.raises(ValueError) as error:
        kfeedback.serving.export_file(looks()[0], tmp_path / f"m.{suffix}", **arguments)
    harness.assert_one_sentence(error.value, message)
    with pytest.raises(ValueError, match="predictions of all its timesteps"):
        kfeedback.serving.export_file(tiny(), tmp_path / "m.xml", exit_threshold=0.9)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("suffix", RUNTIMES)
@pytest.mark.parametrize("pack", [lambda x: [x], lambda x: {"posterior": x}])
def test_the_output_may_stand_in_a_list_or_dict(pack, suffix, tmp_path):
    for package in RUNTIMES[suffix]:
        pytest.importorskip(package)
    files = importlib.import_module("kfeedback.serving.files")
    plain = tiny()
    model = keras.Model(plain.inputs[0], pack(plain.outputs[0]))
    path = kfeedback.serving.export_file(model, tmp_path / f"m.{suffix}")
    images = harness.random_images(plain.input_shape[1:], 2)
    (found,) = files._FORMATS[f".{suffix}"][1](path)(images)
    np.testing.assert_allclose(found, plain(images), rtol=0, atol=1e-4)


@pytest.mark.parametrize("suffix", RUNTIMES)
def test_names_that_begin_with_an_underscore(suffix, tmp_path):
    """Keras itself cannot export them as LiteRT."""
    for package in RUNTIMES[suffix]:
        pytest.importorskip(package)
    files = importlib.import_module("kfeedback.serving.files")
    x = inputs = keras.Input((8, 8, 3), name="_image")
    x = keras.layers.Conv2D(4, 3, activation="relu", name="_conv_stem")(x)
    x = keras.layers.GlobalAveragePooling2D(name="-pool")(x)
    model = keras.Model(inputs, keras.layers.Dense(3, name="_scores")(x))
    names = [variable.value.name for variable in model.variables]
    path = kfeedback.serving.export_file(model, tmp_path / f"m.{suffix}")
    images = harness.random_images((8, 8, 3), 2)
    (found,) = files._FORMATS[f".{suffix}"][1](path)(images)
    np.testing.assert_allclose(found, model(images), rtol=0, atol=1e-4)
    assert [variable.value.name for variable in model.variables] == names


@pytest.mark.parametrize("suffix", RUNTIMES)
def test_refuses_a_folder_before_the_export(suffix, tmp_path):
    (tmp_path / f"folder.{suffix}").mkdir()
    for path in (f"folder.{suffix}", f"nowhere/m.{suffix}"):
        with pytest.raises(ValueError) as error:
            kfeedback.serving.export_file(tiny(), tmp_path / path)
        harness.assert_one_sentence(
            error.value, "path must be a file in a folder that exists, got"
        )
    assert [x.name for x in tmp_path.iterdir()] == [f"folder.{suffix}"]


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
    files = importlib.import_module("kfeedback.serving.files")
    name, load = files._FORMATS[f".{suffix}"]

    def load_other(path):
        run = load(path)
        return lambda images: [x + np.float32(0.01) for x in run(images)]

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
    assert str(error.value).startswith("model must be one that can be exported as")
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
