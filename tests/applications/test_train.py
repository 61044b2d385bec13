import json
import re

import keras
import numpy as np
import pytest

from applications.train.settings import Settings
from kfeedback import preprocessing
from kfeedback.models.backbones import LeNet
from tests.applications.command import read_rows, run, run_alone, run_each

DATA = ("--dataset=synthetic", "--train_split=train[:256]", "--eval_split=test[:128]")


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """LeNet for one epoch, then LR-LeNet from it for one more."""
    folder = tmp_path_factory.mktemp("runs")
    results = folder / "results.csv"
    run(
        "applications.train",
        "--model=lenet",
        "--epochs=1",
        f"--output_dir={folder / 'lenet'}",
        f"--results={results}",
        *DATA,
    )
    run(
        "applications.train",
        "--config=lr_lenet_mnist_bg",
        "--epochs=1",
        f"--init_from={folder / 'lenet' / 'weights.h5'}",
        f"--output_dir={folder / 'lr'}",
        f"--results={results}",
        "--seed=3",
        *DATA,
    )
    return folder


def test_row_per_run(runs):
    baseline, feedback = read_rows(runs / "results.csv")
    assert baseline["error_t1"] and not baseline["error_t2"]
    assert feedback["error_t1"] and feedback["error_t2"]
    assert feedback["seed"] == "3" and feedback["epochs"] == "1"
    assert feedback["config"] == "lr_lenet_mnist_bg"
    assert float(feedback["seconds"]) >= 0
    assert feedback["eval_examples"] == "128"


def test_saved_models_reload(runs):
    import kfeedback  # noqa: F401

    baseline = keras.models.load_model(runs / "lenet" / "model.keras")
    feedback = keras.models.load_model(runs / "lr" / "model.keras")
    assert baseline.output_shape == (None, 10)
    assert feedback.output_shape == (None, 2, 10)


def test_evaluate_repeats_the_errors_of_training(runs):
    run("applications.evaluate", f"--run={runs / 'lr'}", "--figures")
    trained = read_rows(runs / "results.csv")[1]
    for row in read_rows(runs / "lr" / "evaluation.csv"):
        assert row["top1_error"] == trained[f"error_t{row['timestep']}"]
        assert float(row["top5_error"]) <= float(row["top1_error"])
    for name in ("emphasis.png", "channels.png", "top_k.png"):
        assert (runs / "lr" / name).stat().st_size > 10_000


def test_run_json_holds_every_flag(runs):
    flags = json.loads((runs / "lr" / "run.json").read_text())["flags"]
    assert flags["dataset"] == "synthetic" and flags["seed"] == 3
    # Also those that a helper defines for the program.
    assert {"lr", "discount", "momentum", "weight_decay", "feedback_init"} <= set(flags)


@pytest.mark.slow
def test_cliquenet_trains_and_is_drawn(tmp_path):
    run(
        "applications.train",
        "--config=cliquenet_cifar10",
        '--model_args={"filters": 4, "layers": 6}',
        "--epochs=1",
        f"--output_dir={tmp_path}",
        *DATA,
    )
    assert (tmp_path / "standardize.npz").is_file()
    run("applications.evaluate", f"--run={tmp_path}", "--figures")
    assert len(read_rows(tmp_path / "evaluation.csv")) == 1
    for name in ("clique_weights.png", "clique_stages.png"):
        assert (tmp_path / name).stat().st_size > 10_000


CONVLSTM = (
    "--model=feedback_convlstm",
    '--model_args={"cells": [[[4, 2], [4, 1]], [[6, 2]]], "head_units": 8}',
    "--timesteps=2",
    "--discount=1.2",
    "--optimizer=adam",
    "--lr=0.01",
    "--epochs=1",
)


@pytest.fixture(scope="module")
def several_labels(tmp_path_factory):
    """Runs with Adam, most of them on images of any number of three classes."""
    folder = tmp_path_factory.mktemp("several_labels")
    random = np.random.default_rng(0)
    labels = random.integers(0, 2, (96, 3), "uint8")
    images = random.integers(0, 100, (96, 32, 32, 3), "uint8")
    images += 150 * labels[:, None, None]  # a channel for each class
    data = folder / "several.npz"
    np.savez(
        data,
        x_train=images[:64],
        y_train=labels[:64],
        x_test=images[64:],
        y_test=labels[64:],
    )
    lenet = ["--model=lenet", f"--dataset={data}", "--optimizer=adam", "--lr=0.003"]
    lenet += ["--epochs=4", "--batch_size=16"]
    lines = {
        "one label": [*CONVLSTM, *DATA],
        "convlstm": [*CONVLSTM, f"--dataset={data}"],
        "lenet": lenet,
        "softmax": [*lenet, '--model_args={"classifier_activation": "softmax"}'],
    }
    done = run_each(
        "applications.train",
        [
            [
                *line,
                f"--output_dir={folder / name}",
                f"--results={folder / 'results.csv'}",
            ]
            for name, line in lines.items()
        ],
    )
    return folder, dict(zip(lines, done, strict=True))


@pytest.mark.slow
def test_feedback_convlstm_trains_with_adam(several_labels):
    folder, done = several_labels
    code, output = done["one label"]
    assert code == 0, output
    row = read_rows(folder / "results.csv")[0]
    assert row["error_t1"] and row["error_t2"] and not row["error_t3"]
    model = keras.models.load_model(folder / "one label" / "model.keras")
    assert model.output_shape == (None, 2, 10)
    flags = json.loads((folder / "one label" / "run.json").read_text())["flags"]
    assert flags["optimizer"] == "adam" and flags["timesteps"] == 2


@pytest.mark.parametrize("name, steps", [("convlstm", 2), ("lenet", 1)])
def test_trains_on_several_labels_an_image(several_labels, name, steps):
    """The errors are those of the saved model: not exactly all labels right."""
    folder, done = several_labels
    code, output = done[name]
    assert code == 0, output
    model = keras.models.load_model(folder / name / "model.keras")
    with np.load(folder / "several.npz") as file:
        images, labels = file["x_test"], file["y_test"]
    images = preprocessing.preprocess_input(images, "scale")
    found = model.predict(images, verbose=0).reshape(len(labels), steps, 3) > 0.5
    wrong = 100 * (found != labels[:, None]).any(axis=-1).mean(axis=0)
    rows = {row["experiment"]: row for row in read_rows(folder / "results.csv")}
    for step in range(4):
        expected = f"{wrong[step]:.2f}" if step < steps else ""
        assert rows[name][f"error_t{step + 1}"] == expected
    if name == "lenet":  # guessing errs on seven of eight images
        assert wrong[0] < 70
        run("applications.evaluate", f"--run={folder / name}")
        (row,) = read_rows(folder / name / "evaluation.csv")
        assert row["exact_match_error"] == rows[name]["error_t1"]
        # Guessing has the share of the labels, a half.
        assert float(row["mean_average_precision"]) > 60


def test_several_labels_want_a_sigmoid(several_labels):
    code, output = several_labels[1]["softmax"]
    assert code == 1
    assert "error: --model must lead to a model that ends in a sigmoid" in output
    assert "Traceback" not in output


def test_a_file_with_feedback_is_not_taken_without_it(runs):
    """A trained lrnet goes on as one; a network without feedback refuses the file."""
    weights = f"--init_from={runs / 'lr' / 'weights.h5'}"
    common = [weights, "--epochs=1", f"--output_dir={runs / 'again'}", *DATA]
    lines = [["--model=lenet", *common], ["--backbone_args={}", *common]]
    (code, output), (_, again) = run_each("applications.train", lines)
    assert code == 1 and "without_feedback" in output and "Traceback" not in output
    assert "error at timestep 2" in again


@pytest.mark.slow
def test_mirrored_strategy_trains(tmp_path):
    output = run(
        "applications.train",
        "--model=lenet",
        "--epochs=1",
        "--distribution=mirrored",
        "--logical_cpus=2",
        f"--output_dir={tmp_path}",
        *DATA,
    )
    assert "error at timestep 1" in output


@pytest.mark.slow
def test_jax_backend_trains_without_tensorflow(tmp_path):
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\nsys.modules['tensorflow'] = None\n"
    )
    output = run_alone(
        "applications.train",
        "--model=lrnet",
        "--epochs=1",
        f"--output_dir={tmp_path / 'run'}",
        *DATA,
        KERAS_BACKEND="jax",
        PYTHONPATH=str(tmp_path),
    )
    assert "error at timestep 2" in output


BAD = {
    "--dataset=cifra10": "dataset",
    "--lr=nan": "lr",
    "--lr=-1": "lr",
    "--epochs=0": "epochs",
    "stray": "stray",
    "--config=nowhere": "config",
    "--config=UNKNOWN_KEY": "learning_rat",
    "--backbone=lenat": "lenat",
    "--model=lenat": "model",
    "--timesteps=0": "timesteps",
    "--model_args=[1]": "model_args",
    '--model_args={"emphasis_layers": ["conv9"]}': "conv9",
    "--init_from=nowhere.keras": "init_from",
    "--lr_drops=0.7,0.2": "lr_drops",
    "--train_split=tran": "tran",
    "--manual_dir=/nowhere": "manual_dir must",
    "--momentum=2": "momentum",
    "--seed=-1": "seed",
    "--model=lenet --timesteps=3": "timesteps",
    "--model=lenet --init_from=some.keras": "init_from",
    "--init_from=some.keras --backbone=nin": "backbone",
    "--timesteps=1 --feedback_init=0.5": "feedback_init",
    "--logical_cpus=2": "logical_cpus",
    "--results=OTHER_COLUMNS": "results",
    "--freeze_batch_norm": "freeze_batch_norm",
    "--lr=1e30": "lr",
    "--init_from=DAMAGED.keras": "init_from",
    "--init_from=LOGITS.keras": "softmax",
    "--init_from=GREY.keras": "init_from",
    "--timesteps=1 --discount=1.2": "discount",
    "--timesteps=5 --results=some.csv": "timesteps",
    "--results=FILE/x.csv": "results",
    "--experiment=abc": "experiment",
    "--lr_drops=0.5,0.5": "lr_drops",
    "--seed=5000000000": "seed",
    '--backbone_args={"foo": 1}': "backbone_args",
    '--model_args={"timesteps": 3}': "model_args",
    "--config=WRONG_TYPE": "config",
    "--dataset=TRUNCATED.npz": "npz",
    "--classes=3,cat": "classes must name",
    "--optimizer=adam --momentum=0.5": "--momentum must be left out with",
    "--optimizer=adam --nesterov": "--nesterov must be left out with",
    "--optimizer=adam --feedback_lr_mult=2": "--feedback_lr_mult must be left out",
    "--optimizer=adamant": "optimizer",
    "--model=feedback_convlstm --backbone=lenet": "--backbone must be left out with",
    '--model=feedback_convlstm;--model_args={"cells": [[]]}': "cells must be",
    '--model=feedback_convlstm;--model_args={"timesteps": 3}': "model_args",
}


@pytest.fixture(scope="module")
def bad_results(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bad")
    (folder / "unknown.toml").write_text("learning_rat = 1\n")
    (folder / "other.csv").write_text("a,b\n1,2\n")
    (folder / "damaged.keras").write_bytes(b"PK" + bytes(100))
    np.savez(folder / "x.npz", x_train=np.zeros((9, 32, 32, 3), np.uint8))
    (folder / "truncated.npz").write_bytes((folder / "x.npz").read_bytes()[:-40])
    (folder / "wrong.toml").write_text("epochs = [1]\n")
    logits = LeNet(input_shape=(32, 32, 3), classifier_activation=None)
    logits.save(folder / "logits.keras")
    LeNet().save(folder / "gray.keras")
    lines = []
    for argument in BAD:
        for word, file in (
            ("UNKNOWN_KEY", "unknown.toml"),
            ("OTHER_COLUMNS", "other.csv"),
            ("DAMAGED.keras", "damaged.keras"),
            ("TRUNCATED.npz", "truncated.npz"),
            ("LOGITS.keras", "logits.keras"),
            ("GREY.keras", "gray.keras"),
            ("WRONG_TYPE", "wrong.toml"),
            ("FILE", "unknown.toml"),
        ):
            argument = argument.replace(word, str(folder / file))
        extra = [] if "dataset" in argument else ["--dataset=synthetic"]
        if "manual_dir" in argument:
            extra = [
                "--dataset=mnist_background_images",
                f"--data_dir={folder / 'empty'}",
            ]
        words = argument.split(";") if "{" in argument else argument.split()
        output = folder / f"run{len(lines)}"
        lines.append([*words, *extra, f"--output_dir={output}"])
    return dict(zip(BAD, run_each("applications.train", lines), strict=True))


@pytest.mark.parametrize("argument", BAD)
def test_bad_input_is_one_sentence(bad_results, argument):
    code, output = bad_results[argument]
    assert code == 1, output
    assert "Traceback" not in output
    wanted = BAD[argument]
    if wanted in Settings.flags():
        assert re.search(rf"error: --{wanted}[ =]", output), output
    assert wanted in output


def test_output_dir_may_come_from_a_config(tmp_path):
    (tmp_path / "mine.toml").write_text(f'output_dir = "{tmp_path / "run"}"\n')
    lines = [
        [f"--config={tmp_path / 'mine.toml'}", "--dataset=nowhere"],
        ["--dataset=synthetic"],
    ]
    (_, with_config), (code, without) = run_each("applications.train", lines)
    assert "nowhere" in with_config and "output_dir" not in with_config
    assert code == 1 and "--output_dir must be given" in without


def test_evaluate_refuses_a_broken_run(tmp_path):
    (tmp_path / "run.json").write_text("{}")
    ((code, output),) = run_each("applications.evaluate", [[f"--run={tmp_path}"]])
    assert code == 1 and "--run" in output and "Traceback" not in output


def test_evaluate_refuses_a_folder_without_a_run(tmp_path):
    ((code, output),) = run_each("applications.evaluate", [[f"--run={tmp_path}"]])
    assert code == 1 and "--run" in output and "Traceback" not in output
