import keras
import numpy as np
import pytest

import kfeedback
from applications.common import early_exit
from kfeedback.datasets import load_arrays
from tests.applications.command import read_rows, run, run_each

DATA = ("--dataset=synthetic", "--train_split=train[:256]", "--eval_split=test[:128]")


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """An lrnet of three timesteps, and its backbone alone."""
    folder = tmp_path_factory.mktemp("runs")
    common = ("--epochs=1", *DATA)
    run("applications.train", "--timesteps=3", f"--output_dir={folder / 'lr'}", *common)
    run(
        "applications.train",
        "--model=lenet",
        f"--output_dir={folder / 'lenet'}",
        *common,
    )
    return folder


def test_evaluate_measures_early_exit(runs):
    results = runs / "exits.csv"
    output = run(
        "applications.evaluate",
        f"--run={runs / 'lr'}",
        "--early_exit",
        "--exit_batch_size=16",
        f"--exit_results={results}",
    )
    rows = read_rows(runs / "lr" / "early_exit.csv")
    assert [float(row["threshold"]) for row in rows] == list(early_exit.THRESHOLDS)
    passes = [float(row["mean_timesteps"]) for row in rows]
    assert passes == sorted(passes) and passes[-1] <= 3
    (row,) = read_rows(results)
    assert row["examples"] == "64" and row["batch_size"] == "16"
    assert float(row["images_per_s_early"]) > 0
    # What is measured is what the curve says of that threshold.
    (same,) = [r for r in rows if float(r["threshold"]) == float(row["threshold"])]
    assert same["accuracy"] == row["accuracy_early"]
    assert same["mean_multiply_adds"] == row["mean_multiply_adds"]
    assert (runs / "lr" / "early_exit.png").stat().st_size > 10_000
    assert "early_exit.png" in output


def test_published_weights_are_measured_at_every_timestep(tmp_path):
    output = run(
        "applications.evaluate",
        "--weights=lr_lenet_mnist_bg_sample",
        f"--output_dir={tmp_path}",
        "--early_exit",
        f"--exit_results={tmp_path / 'exits.csv'}",
    )
    last = read_rows(tmp_path / "evaluation.csv")[-1]
    assert last["timestep"] == "2"
    card = kfeedback.weights.card("lr_lenet_mnist_bg_sample")
    assert f"{last['top1_error']} % error at timestep 2" in card
    (row,) = read_rows(tmp_path / "exits.csv")
    assert row["run"] == "lr_lenet_mnist_bg_sample" and "early_exit.png" in output


def test_a_run_is_written_elsewhere_and_as_a_file_is_the_same_network(runs, tmp_path):
    data = [DATA[0], "--eval_split=test[:30]", "--batch_size=5"]
    lines = [
        [f"--run={runs / 'lr'}", f"--output_dir={tmp_path / 'run'}", *data],
        [
            *(f"--weights={runs / 'lr' / 'weights.h5'}", *data, "--early_exit"),
            *(f"--output_dir={tmp_path / 'file'}", "--exit_batch_size=8"),
            f"--exit_results={tmp_path / 'exits.csv'}",
        ],
    ]
    before = sorted((runs / "lr").iterdir())
    for code, output in run_each("applications.evaluate", lines):
        assert code == 0, output
    one, other = (read_rows(tmp_path / x / "evaluation.csv") for x in ("run", "file"))
    assert one == other and len(one) == 3
    (row,) = read_rows(tmp_path / "exits.csv")
    assert row["run"] == "lr" and row["examples"] == "15"
    model = keras.models.load_model(runs / "lr" / "model.keras")
    images, labels, _ = load_arrays("synthetic", "test[:30]")
    posteriors = model.predict(images / 255.0, verbose=0)
    # Chosen on the images of even numbers, measured on the others.
    cost = early_exit.costs(model)
    chosen = early_exit.choose(posteriors[::2], labels[::2], cost, 0.2)
    assert float(row["threshold"]) == chosen
    accuracy = 100 * (posteriors[1::2, -1].argmax(-1) == labels[1::2]).mean()
    assert float(row["accuracy_all"]) == pytest.approx(accuracy, abs=0.01)
    assert sorted((runs / "lr").iterdir()) == before


def test_weights_must_say_a_preprocessing_that_is_not_fitted(tmp_path):
    lenet = kfeedback.models.backbones.LeNet(weights=None)
    kfeedback.weights.save(lenet, tmp_path / "none.h5")
    fitted = tmp_path / "fitted.h5"
    kfeedback.weights.save(lenet, fitted, preprocessing="standardize")
    lenet.save(tmp_path / "lenet.keras")
    lines = [
        [f"--weights={tmp_path / name}", f"--output_dir={tmp_path / 'out'}"]
        for name in ("none.h5", "fitted.h5", "lenet.keras")
    ]
    words = ("which say None", "which say 'standardize'", "lenet.keras: weights must")
    results = run_each("applications.evaluate", lines)
    for (code, output), word in zip(results, words, strict=True):
        assert code == 1 and "error: --weights" in output and word in output, output
        assert "Traceback" not in output
    assert not (tmp_path / "out").exists()


def test_refusals(runs):
    lines = [
        ["--early_exit"],
        [f"--run={runs / 'lr'}", "--weights=lenet_mnist_bg_sample"],
        ["--weights=lenet_mnist_bg_sample"],
        ["--weights=lenet", "--output_dir=any"],
        ["--weights=lenet_mnist_bg_sample", "--output_dir=a", "--preprocessing=torch"],
        [f"--run={runs / 'lenet'}", "--early_exit"],
        [f"--run={runs / 'lr'}", "--exit_loss=0.5"],
        [f"--run={runs / 'lr'}", "--early_exit", "--flip_average"],
        [f"--run={runs / 'lr'}", "--early_exit", "--eval_split=test[:1]"],
    ]
    named = ("run or --weights", "run or --weights", "output_dir", "weights")
    named += ("preprocessing", "early_exit", "exit_loss", "flip_average", "eval_split")
    found = run_each("applications.evaluate", lines)
    for (code, output), flag in zip(found, named, strict=True):
        assert code == 1 and f"error: --{flag}" in output
        assert "Traceback" not in output


POSTERIORS = np.array(
    [
        [[0.9, 0.1], [0.2, 0.8]],  # sure at once, and right
        [[0.4, 0.6], [0.9, 0.1]],  # right after the second look only
        [[0.3, 0.7], [0.4, 0.6]],  # never sure
    ]
)
LABELS = np.array([0, 0, 1])
COST = np.array([10, 30])


def test_exits_at_the_first_sure_timestep():
    assert early_exit.exits(POSTERIORS, 0.75).tolist() == [0, 1, 1]
    assert early_exit.exits(POSTERIORS, 0.6).tolist() == [0, 0, 0]
    assert early_exit.exits(POSTERIORS, 1.0).tolist() == [1, 1, 1]


def test_curve_by_hand():
    rows = {r["threshold"]: r for r in early_exit.curve(POSTERIORS, LABELS, COST)}
    assert rows[0.75]["accuracy"] == 100.0
    assert rows[0.75]["mean_timesteps"] == round(5 / 3, 3)
    assert rows[0.75]["mean_multiply_adds"] == round(70 / 3)
    assert rows[0.75]["saved_percent"] == round(100 * (1 - 70 / 90), 1)
    assert rows[1.0]["accuracy"] == round(200 / 3, 2)
    assert rows[1.0]["saved_percent"] == 0


def test_choose_takes_the_cheapest_that_loses_no_more():
    # At 0.65 one image is right for stopping, give or take one.
    assert early_exit.choose(POSTERIORS, LABELS, COST, 0.0) == 0.65
    # Of three that are right at the end the first is wrong, and sure at 0.7, at once:
    # one is lost, give or take one.
    late = np.repeat([[[0.3, 0.7], [0.9, 0.1]]], 3, axis=0)
    late[1:, 0] = [0.6, 0.4]
    labels = np.zeros(3, int)
    assert early_exit.choose(late, labels, COST, 0.0) == 0.75
    assert early_exit.choose(late, labels, COST, 66.0) == 0.75
    assert early_exit.choose(late, labels, COST, 67.0) == 0.2


def test_choose_where_every_threshold_loses():
    posteriors = np.array([[[0.0, 1.0], [1.0, 0.0]]] * 3)
    assert early_exit.choose(posteriors, np.zeros(3, int), COST, 0.2) == 1.0
