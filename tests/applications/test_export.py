"""applications.export, from what training wrote to a version that answers."""

import json

import keras
import numpy as np
import pytest

from applications._bare_process import ask
from kfeedback import datasets
from kfeedback.models.backbones import LeNet
from tests.applications.command import run, run_each
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


@pytest.mark.slow
def test_a_model_trained_under_jax(tmp_path):
    pytest.importorskip("jax")
    arguments = ["--model=lenet", f"--output_dir={tmp_path / 'run'}"]
    run("applications.train", *TRAIN, *arguments, KERAS_BACKEND="jax")
    run(
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


@pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="TensorFlow's affair"
)
def test_published_weights_and_keras_files(tmp_path):
    tiny().save(tmp_path / "tiny.keras")
    served = [tmp_path / "tag", tmp_path / "file"]
    results = run_each(
        "applications.export",
        [
            ["--weights=lenet_mnist_bg_sample", f"--output_dir={served[0]}", NO_WARMUP],
            [
                f"--keras_model={tmp_path / 'tiny.keras'}",
                f"--output_dir={served[1]}",
                "--class_names=a,b,c",
                "--preprocessing=centre",
                "--version=20251121",
                "--top=2",
                NO_WARMUP,
            ],
        ],
    )
    assert [code for code, _ in results] == [0, 0], results
    assert "| Measured | 5.17 % error" in results[0][1]
    assert "`image_bytes` string (B)" in results[1][1]
    images = digits()
    answers = ask(
        [
            (served[0] / "1", "serving_default", {"images": images}),
            (served[1] / "20251121", "serving_default", {"images": images[:, :4, :4]}),
        ]
    )
    wanted = LeNet(weights="lenet_mnist_bg_sample").predict(images / 255, verbose=0)
    np.testing.assert_allclose(answers[0].outputs["probabilities"], wanted, atol=1e-6)
    assert answers[1].outputs["top_labels"].shape == (5, 2)
    assert set(answers[1].outputs["top_labels"].flat) <= {b"a", b"b", b"c"}


def test_refuses_flags_in_one_sentence(tmp_path):
    cases = {
        "--run or --keras_model or --weights must be given": [],
        "--run or --keras_model or --weights must": ["--run=a", "--weights=b"],
        "--run must be a folder": ["--run=nowhere"],
        "weights must be None, the path": ["--weights=nothing"],
        "--keras_model must lead to a .keras file": ["--keras_model=nothing.keras"],
        "--preprocessing must be left out with --run": [
            *("--run=a", "--preprocessing=scale"),
        ],
        "--keep must be left out with --format=onnx": [
            *("--run=a", "--format=onnx", "--keep=1"),
        ],
        "--warmup_batches must be whole numbers": [
            *("--weights=lenet_mnist_bg_sample", "--warmup_batches=one"),
        ],
    }
    served = tmp_path / "served"
    lines = [[f"--output_dir={served}", *arguments] for arguments in cases.values()]
    for (code, output), start in zip(
        run_each("applications.export", lines), cases, strict=True
    ):
        assert code == 1, output
        assert output.splitlines()[-1].startswith(f"error: {start}"), output
    assert not served.exists()


def test_run_json_without_names_is_no_error(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json").write_text(json.dumps({"flags": {}}))
    ((code, output),) = run_each(
        "applications.export",
        [[f"--run={tmp_path / 'run'}", f"--output_dir={tmp_path / 'served'}"]],
    )
    assert code == 1 and "--run must lead to a .keras file" in output
