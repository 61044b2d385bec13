"""applications.export, from what training wrote to a version that answers."""

import json

import keras
import numpy as np
import pytest

import kfeedback
from applications.common.bare_process import ask
from applications.export import __main__ as export
from applications.export.settings import Settings
from applications.export.sources import load
from kfeedback import datasets, weights
from kfeedback.models.backbones import LeNet
from tests.applications.command import run, run_alone, run_each
from tests.serving.common import tiny

TRAIN = [
    "--epochs=1",
    "--train_split=train[:10%]",
    "--eval_split=test[:10%]",
    "--verbose=0",
]
NO_WARMUP = "--warmup_batches="


def digits(count=5):
    images, *_ = datasets.load_arrays(
        "mnist_background_images_sample", f"test[:{count}]"
    )
    return images.astype("float32")


@pytest.mark.slow
def test_a_run_of_any_preprocessing_with_its_names_and_card(tmp_path):
    runs, requests, wanted = tmp_path / "run", [], []
    images = digits()
    for mode in ("scale", "standardize"):
        arguments = [f"--preprocessing={mode}", f"--output_dir={runs / mode}"]
        run("applications.train", "--model=lrnet", *TRAIN, *arguments)
        served = tmp_path / mode
        output = run(
            "applications.export",
            f"--run={runs / mode}",
            f"--output_dir={served}",
            NO_WARMUP,
        )
        assert f"wrote {served / '1'}" in output
        assert f"| Preprocessing | {mode} |" in output and "| `early_exit` |" in output
        prepared = images / 255
        if mode == "standardize":
            with np.load(runs / mode / "standardize.npz") as file:
                prepared = (images - file["mean"]) / file["deviation"]
        model = keras.models.load_model(runs / mode / "model.keras")
        wanted.append(model.predict(prepared, verbose=0))
        requests.append((served / "1", "timesteps", {"images": images}))
    for answer, expected in zip(ask(requests), wanted, strict=True):
        assert answer.error is None, answer.error
        np.testing.assert_allclose(answer.outputs["probabilities"], expected, atol=1e-5)
        labels = answer.outputs["top_labels"][..., 0].astype(int)
        np.testing.assert_array_equal(labels, expected.argmax(-1))


def test_weights_give_all_looks_where_they_are_told_apart():
    def shape(tag, **flags):
        return load(Settings(output_dir="any", weights=tag, **flags))[0].output_shape

    looks, plain = "lr_lenet_mnist_bg_sample", "lenet_mnist_bg_sample"
    assert shape(looks) == (None, 2, 10)
    assert shape(looks, format="openvino", exit_threshold=0.9) == (None, 2, 10)
    assert shape(looks, format="openvino") == (None, 10)
    assert shape(plain, exit_threshold=1) == (None, 10)


def test_files_are_cropped_as_in_the_run(tmp_path, monkeypatch):
    flags = {"preprocessing": "scale", "center_crop": 0.875}
    (tmp_path / "run.json").write_text(json.dumps({"flags": flags}))
    model = LeNet(input_shape=(28, 28, 3))
    model.save(tmp_path / "model.keras")
    weights.save(model, tmp_path / "weights.h5")

    def crop(**flags):
        settings = Settings(output_dir=str(tmp_path), run=str(tmp_path), **flags)
        written = []

        def write(model, base_dir, version, **arguments):
            written.append(arguments.get("crop_fraction"))
            (tmp_path / "assets.extra").mkdir(exist_ok=True)
            (tmp_path / "assets.extra" / "README.md").write_text("")
            return tmp_path

        monkeypatch.setattr(kfeedback.serving, "export", write)
        export.main(settings)
        return written[0]

    assert crop() == crop(signatures=("image_bytes",)) == 0.875
    assert crop(crop_fraction=0.5) == 0.5
    assert crop(signatures=("early_exit",)) is None  # which `export` would refuse


@pytest.mark.slow
def test_a_model_trained_under_jax(tmp_path):
    pytest.importorskip("jax")
    arguments = ["--model=lenet", f"--output_dir={tmp_path / 'run'}"]
    run_alone("applications.train", *TRAIN, *arguments, KERAS_BACKEND="jax")
    run_alone(
        "applications.export",
        f"--run={tmp_path / 'run'}",
        f"--output_dir={tmp_path / 'served'}",
        NO_WARMUP,
        KERAS_BACKEND="jax",
    )
    images = digits()
    predict = f"""
import keras, numpy
images = numpy.load({str(tmp_path / "images.npy")!r})
assert keras.backend.backend() == "jax"
model = keras.models.load_model({str(tmp_path / "run" / "model.keras")!r})
numpy.save({str(tmp_path / "wanted.npy")!r}, model.predict(images / 255, verbose=0))
"""
    np.save(tmp_path / "images.npy", images)
    (tmp_path / "predict.py").write_text(predict)
    run_file(tmp_path / "predict.py")
    request = (tmp_path / "served" / "1", "serving_default", {"images": images})
    (answer,) = ask([request])
    np.testing.assert_allclose(
        answer.outputs["probabilities"], np.load(tmp_path / "wanted.npy"), atol=1e-5
    )


def run_file(path):
    """Runs a script under the JAX backend."""
    import os
    import subprocess
    import sys

    environment = {**os.environ, "KERAS_BACKEND": "jax"}
    subprocess.run([sys.executable, str(path)], check=True, env=environment)


# One process reads all these command lines, which saves imports.
REFUSED = {
    "--run or --keras_model or --weights must be given": [],
    "--run or --keras_model or --weights must": ["--run=a", "--weights=b"],
    "--run must be a folder": ["--run=nowhere"],
    "--run must lead to a .keras file": ["--run={folder}/run"],
    "--weights=nothing: weights must be None, the path": ["--weights=nothing"],
    "--keras_model must lead to a .keras file": ["--keras_model=nothing.keras"],
    "--preprocessing must be left out with --run": ["--run=a", "--preprocessing=scale"],
    "--keep must be left out with --format=onnx": [
        *("--run=a", "--format=onnx", "--keep=1"),
    ],
    "--preprocessing must be left out with --format=litert": [
        *("--keras_model=a", "--format=litert", "--preprocessing=scale"),
    ],
    "--calibration must be left out with --format=onnx": [
        *("--run=a", "--format=onnx", "--calibration=a.npy"),
    ],
    "--from_logits must be left out with --format=openvino and no --exit_threshold": [
        *("--run=a", "--format=openvino", "--from_logits"),
    ],
    "--exit_threshold must be left out with --format=onnx": [
        *("--run=a", "--format=onnx", "--exit_threshold=0.9"),
    ],
    "--calibration must be left out with --exit_threshold": [
        *("--run=a", "--format=openvino", "--exit_threshold=0.9"),
        "--calibration=a.npy",
    ],
    "--calibration must be a .npy file": [
        *("--weights=lenet_mnist_bg_sample", "--format=openvino"),
        "--calibration=nothing.npy",
    ],
    "--calibration must be a .npy file, got '{folder}/empty.npy'": [
        *("--weights=lenet_mnist_bg_sample", "--format=openvino"),
        "--calibration={folder}/empty.npy",
    ],
    "model must give the predictions of all its timesteps": [
        *("--weights=lenet_mnist_bg_sample", "--format=openvino"),
        "--exit_threshold=0.5",
    ],
    "--warmup_batches must be different integers": [
        *("--weights=lenet_mnist_bg_sample", "--warmup_batches=one"),
    ],
}
SERVED = [
    ["--output_dir={folder}/tag", "--weights=lr_lenet_mnist_bg_sample", NO_WARMUP],
    [
        *("--output_dir={folder}/file", "--keras_model={folder}/tiny.keras"),
        *("--class_names=a,b,c", "--preprocessing=center", "--version=20251121"),
        *("--top=2", NO_WARMUP),
    ],
    [
        *("--output_dir={folder}/xml", "--weights=lr_lenet_mnist_bg_sample"),
        *("--format=openvino", "--exit_threshold=0.9"),
    ],
]


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Of every command line, and the folder in which they ran."""
    folder = tmp_path_factory.mktemp("export")
    (folder / "run").mkdir()
    (folder / "run" / "run.json").write_text(json.dumps({"flags": {}}))
    tiny().save(folder / "tiny.keras")
    (folder / "empty.npy").touch()
    refused = [["--output_dir={folder}/none", *line] for line in REFUSED.values()]
    lines = [
        [text.format(folder=folder) for text in line] for line in [*SERVED, *refused]
    ]
    return folder, run_each("applications.export", lines)


@pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="TensorFlow's affair"
)
def test_published_weights_and_keras_files(results):
    folder, [tag, file, *_] = results
    assert tag[0] == file[0] == 0, (tag, file)
    assert "| Measured | 4.42 % error" in tag[1]
    assert "| `timesteps` |" in tag[1] and "| `early_exit` |" in tag[1]
    assert "`image_bytes` string (B)" in file[1]
    images = digits()
    answers = ask(
        [
            (folder / "tag" / "1", "serving_default", {"images": images}),
            (
                *(folder / "file" / "20251121", "serving_default"),
                {"images": images[:, :4, :4]},
            ),
        ]
    )
    model = kfeedback.load_pretrained("lr_lenet_mnist_bg_sample")
    wanted = model.predict(images / 255, verbose=0)
    np.testing.assert_allclose(answers[0].outputs["probabilities"], wanted, atol=1e-6)
    assert answers[1].outputs["top_labels"].shape == (5, 2)
    prepared = images[:, :4, :4] / 127.5 - 1
    wanted = keras.models.load_model(folder / "tiny.keras").predict(prepared, verbose=0)
    best = np.argsort(-wanted)[:, :2]
    np.testing.assert_array_equal(
        answers[1].outputs["top_labels"], np.array([b"a", b"b", b"c"])[best]
    )


def test_a_file_with_early_exit(results):
    openvino = pytest.importorskip("openvino")
    folder, [_, _, (code, output), *_] = results
    assert code == 0 and f"wrote {folder / 'xml' / 'xml.xml'}" in output, output
    model = kfeedback.load_pretrained("lr_lenet_mnist_bg_sample", return_sequences=True)
    images = digits(200) / 255
    predictions, timesteps = kfeedback.early_exit(model, 0.9).predict(images)
    options = {"INFERENCE_PRECISION_HINT": "f32"}
    path = folder / "xml" / "xml.xml"
    found = openvino.Core().compile_model(str(path), "CPU", options)(images)
    np.testing.assert_allclose(found["predictions"], predictions, rtol=0, atol=1e-4)
    np.testing.assert_array_equal(found["timesteps"], timesteps)
    assert set(timesteps) == {1, 2}, "all images stop at one timestep"


@pytest.mark.parametrize("place, start", enumerate(REFUSED))
def test_refuses_flags_in_one_sentence(results, place, start):
    folder, answers = results
    code, output = answers[len(SERVED) + place]
    assert code == 1, output
    assert output.splitlines()[-1].startswith(
        f"error: {start.format(folder=folder)}"
    ), output
    assert not (folder / "none").exists()
