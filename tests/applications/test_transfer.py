import json
import shutil
import sys
import types

import keras
import numpy as np
import pytest

import kfeedback
from applications.common import scores as scoring
from applications.transfer import classifiers, figures, heads
from applications.transfer.target import Target
from kfeedback.datasets.arrays import epoch_plan
from kfeedback.losses import TimestepLoss
from kfeedback.models.backbones import LeNet
from tests.applications.command import read_rows, run, run_each

CELLS = [[[4, 1]], [[8, 2]]]
TARGET = ("--classes=5,6,7", "--train_split=train[:200]", "--eval_split=test[:90]")
SHORT = ("--epochs=1", "--verbose=0")
BRIEF = (*SHORT, "--finetune_epochs=1")


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def _net(timesteps=2, classes=10, size=32):
    return kfeedback.FeedbackConvLSTMNet(
        input_shape=(size, size, 3),
        classes=classes,
        cells=CELLS,
        timesteps=timesteps,
        return_sequences=True,
    )


def test_the_head_sees_each_epoch_in_an_order_of_its_own(rng):
    """That of the images: by (seed, epoch), wherever `fit` stands."""
    embeddings = rng.normal(size=(10, 2, 3)).astype("float32")
    target = types.SimpleNamespace(
        train_embeddings=embeddings,
        train_labels=np.arange(10),
        _settings=types.SimpleNamespace(batch_size=4, seed=5),
    )
    batches = Target.embedded_batches(target)
    assert len(batches) == 3
    for epoch in range(3):
        order = epoch_plan(10, 5, epoch)[0]
        found = [batches.batch(epoch, index) for index in range(3)]
        for got, wanted in zip(
            map(np.concatenate, zip(*found, strict=True)),
            (embeddings[order], order),
            strict=True,
        ):
            np.testing.assert_array_equal(got, wanted)


BAD = {
    "--run=nowhere": "--run must be a folder",
    "--run=FEEDFORWARD": "--run must lead to a model with timesteps",
    "--run=FIVE --results=x.csv": "at most 4 timesteps",
    "--dataset=NONE": "--dataset must be given",
    "--dataset=mnist_background_images_sample": "--dataset must have images of as many",
    "--dataset=FOLDER/small.npz": "--image_size=32",
    "--dataset=FOLDER/unlabeled.npz": "--dataset=",
    "--classes=5": "--classes must keep at least two classes",
    "--train_split=train[:3]": "--train_split must hold an example of every class",
    "--dataset=FOLDER/always.npz": "with and one without every class",
    "--methods=head,heed": "--methods must be some of",
    "--methods=head --fit_iterations=1": "--fit_iterations must be left out",
    "--methods=head --finetune_lr=0.1": "--finetune_lr must be left out",
    "--methods=head --finetune_epochs=1": "--finetune_epochs must be left out",
    "--methods=forest --ema=0.9": "--ema must be left out",
    "--fit_iterations=3": "embeddings of an iteration that does not exist",
    "--embedding_layer=embeding": "--embedding_layer must name a layer",
    "--embedding_layer=stem_conv": "called 1 times",
    "--finetune_lr=-1": "--finetune_lr must be a number > 0",
    "--methods=head --lr=1e30": "--lr must be one at which",
    "--results=FOLDER/other.csv": "--results must be a file with the columns",
}


def _make_files(folder):
    """What the command lines of this file name."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (120, 32, 32, 3), dtype=np.uint8)
    labels = rng.integers(0, 2, (120, 4))
    split = {"x_train": images, "y_train": labels, "x_test": images[:50]}
    tested = labels[:50].copy()
    tested[:, 3] = 0  # has no precision
    np.savez(folder / "several.npz", y_test=tested, **split)
    split["y_train"] = np.where(np.arange(4) == 2, 1, labels)
    np.savez(folder / "always.npz", y_test=tested, **split)
    np.savez(folder / "unlabeled.npz", x_train=images, x_test=images)
    small = {"x_train": images[:, :16, :16], "x_test": images[:, :16, :16]}
    single = {"y_train": labels[:, 0], "y_test": labels[:, 0]}
    np.savez(folder / "small.npz", **small, **single)
    (folder / "other.csv").write_text("a,b\n")
    for name, model in (
        ("feedforward", LeNet(input_shape=(32, 32, 3))),
        ("five", _net(5)),
    ):
        (folder / name).mkdir()
        model.save(folder / name / "model.keras")
        shutil.copy(folder / "source" / "run.json", folder / name)


def _bad_line(argument, folder):
    words = argument.replace("FOLDER", str(folder)).split()
    words = [word.replace("FEEDFORWARD", str(folder / "feedforward")) for word in words]
    words = [word.replace("FIVE", str(folder / "five")) for word in words]
    words = [word for word in words if "NONE" not in word]
    given = {word.split("=")[0] for word in words}
    if "npz" in argument or "sample" in argument:
        given |= {"--classes", "--train_split", "--eval_split"}
    defaults = (f"--run={folder / 'source'}", "--dataset=synthetic", *TARGET)
    if "NONE" in argument:
        given |= {"--dataset"}
    words += [word for word in defaults if word.split("=")[0] not in given]
    return [*words, *SHORT, "--nofigures", f"--output_dir={folder / 'bad'}"]


@pytest.fixture(scope="module")
def outcome(tmp_path_factory):
    """Folder, and `(exit code, output)` of good and of bad command lines."""
    folder = tmp_path_factory.mktemp("transfer")
    run(
        "applications.train",
        "--config=feedback_convlstm_cifar10",
        "--dataset=synthetic",
        "--classes=0,1,2,3,4",
        "--train_split=train[:400]",
        "--eval_split=test[:50]",
        f"--model_args={json.dumps({'cells': CELLS})}",
        "--timesteps=2",
        "--epochs=1",
        f"--output_dir={folder / 'source'}",
    )
    _make_files(folder)
    source = f"--run={folder / 'source'}"
    several = f"--dataset={folder / 'several.npz'}"
    lines = {
        "single": [source, "--dataset=synthetic", *TARGET, *BRIEF],
        "several": [
            source,
            several,
            *SHORT,
            "--methods=logistic,head,forest",
            "--fit_iterations=2,all",
            f"--results={folder / 'rows.csv'}",
            "--experiment=several",
        ],
        "alone": [
            *(source, "--dataset=synthetic", *TARGET, *BRIEF),
            *("--methods=finetune", "--nofigures"),
        ],
    }
    for name, line in lines.items():
        line.append(f"--output_dir={folder / name}")
    lines |= {argument: _bad_line(argument, folder) for argument in BAD}
    done = run_each("applications.transfer", list(lines.values()))
    return folder, dict(zip(lines, done, strict=True))


def test_row_per_method_and_fit(outcome):
    folder, done = outcome
    assert done["single"][0] == 0, done["single"][1]
    rows = read_rows(folder / "single" / "transfer.csv")
    fits = [(row["method"], row["fitted_on"]) for row in rows]
    networks = [(name, "all") for name in ("head", "finetune", "scratch")]
    each = [(name, n) for name in ("forest", "logistic") for n in ("1", "2", "all")]
    assert fits == networks + each
    for row in rows:
        assert 0 <= float(row["accuracy_t1"]) <= 100 and row["accuracy_t2"]
        assert not row["accuracy_t3"] and not row["map_t1"]
        assert row["run"] == "source" and row["experiment"] == "single"
        assert row["classes"] == "5,6,7" and str(folder) not in row["flags"]
        assert 0 < int(row["train_examples"]) < 200 and row["eval_examples"]
    assert "accuracy in % at iteration" in done["single"][1]


def test_figures_are_drawn(outcome):
    folder, _ = outcome
    for name in ("accuracy.png", "forest.png", "logistic.png"):
        assert (folder / "single" / name).stat().st_size > 10_000
    assert not (folder / "alone" / "accuracy.png").exists()


def test_a_method_does_not_depend_on_the_others(outcome):
    folder, _ = outcome
    (alone,) = read_rows(folder / "alone" / "transfer.csv")
    among = read_rows(folder / "single" / "transfer.csv")[1]
    assert alone["method"] == among["method"] == "finetune"
    assert alone["accuracy_t2"] == among["accuracy_t2"]


def test_several_labels_have_a_mean_average_precision(outcome):
    folder, done = outcome
    assert done["several"][0] == 0, done["several"][1]
    rows = read_rows(folder / "rows.csv")
    assert [row["fitted_on"] for row in rows] == ["all", "2", "all", "2", "all"]
    assert all(0 < float(row["map_t2"]) <= 100 for row in rows)
    assert "leaves out, without an example: 3" in done["several"][1]
    assert not (folder / "several" / "transfer.csv").exists()


@pytest.mark.parametrize("argument", BAD)
def test_bad_input_is_one_sentence(outcome, argument):
    code, output = outcome[1][argument]
    assert code == 1, output
    assert "Traceback" not in output
    assert BAD[argument] in output


def test_a_wrong_layer_is_told_the_right_ones(outcome):
    _, output = outcome[1]["--embedding_layer=embeding"]
    assert "group1_cell1" in output and "embedding," in output
    assert "stem_conv" not in output


def test_sklearn_is_asked_for(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(ImportError, match=r"kfeedback\[data\]"):
        classifiers.classifier("forest", False, 0)


def test_embeddings_are_in_the_order_of_time(rng):
    images = rng.random((3, 16, 16, 3), "float32")
    model = _net(timesteps=3, size=16)
    found = heads.embedding_model(model, "embedding").predict(images, verbose=0)
    head = [model.get_layer(name) for name in ("flatten", "dense", "predictions")]
    for step in range(3):
        x = found[:, step]
        for layer in head:
            x = layer(x)
        expected = model.predict(images, verbose=0)[:, step]
        np.testing.assert_allclose(x, expected, rtol=1e-5, atol=1e-6)


def test_layers_of_any_network_with_timesteps():
    model = kfeedback.LRNet(LeNet(), timesteps=3, return_sequences=True)
    assert heads.embedding_model(model, "fc1").output_shape[1] == 3


def test_a_head_leaves_the_frozen_layers_alone(rng):
    images = rng.random((20, 16, 16, 3), "float32")
    labels = rng.integers(0, 4, 20)
    model = _net(size=16)
    before = [np.array(variable) for variable in model.variables]
    found = heads.embedding_model(model, "embedding").predict(images, verbose=0)
    new = heads.NewHead(4, multi_label=False)
    alone, whole = new.alone(found.shape[1:]), new.on(model, "embedding")
    untrained = alone.predict(found, verbose=0)
    loss = TimestepLoss("sparse_categorical_crossentropy")
    alone.compile(keras.optimizers.Adam(0.01), loss)
    alone.fit(found, labels, epochs=2, verbose=0)
    for variable, value in zip(model.variables, before, strict=True):
        np.testing.assert_array_equal(variable, value)
    predicted = alone.predict(found, verbose=0)
    assert np.abs(predicted - untrained).max() > 0.01
    expected = whole.predict(images, verbose=0)
    np.testing.assert_allclose(predicted, expected, rtol=1e-5, atol=1e-6)


def test_scratch_is_the_same_network_with_other_weights(rng):
    images = rng.random((4, 16, 16, 3), "float32")
    whole = heads.NewHead(4, multi_label=True).on(_net(size=16), "embedding")
    fresh = keras.models.clone_model(whole)
    kernels = [network.get_layer("stem_conv").kernel for network in (whole, fresh)]
    assert np.abs(np.array(kernels[0]) - np.array(kernels[1])).max() > 0.01
    fresh.set_weights(whole.get_weights())
    np.testing.assert_array_equal(
        fresh.predict(images, verbose=0), whole.predict(images, verbose=0)
    )


def test_all_iterations_are_so_many_examples(rng):
    embeddings, labels = rng.random((5, 3, 2, 2, 4)), np.arange(5)
    vectors, repeated = classifiers.examples(embeddings, labels, "all")
    assert vectors.shape == (15, 16)
    np.testing.assert_array_equal(repeated, np.repeat(labels, 3))
    vectors, same = classifiers.examples(embeddings, labels, 2)
    np.testing.assert_array_equal(vectors, embeddings[:, 1].reshape(5, 16))
    assert same is labels


def test_scores():
    scores = np.array([[[0.9, 0.1], [0.2, 0.8]], [[0.6, 0.4], [0.7, 0.3]]])
    np.testing.assert_array_equal(scoring.accuracy(scores, np.array([0, 1])), [50, 0])
    both = np.array([[0, 1], [1, 0]])
    np.testing.assert_array_equal(scoring.accuracy(scores, both), [50, 100])
    precision = scoring.mean_average_precision(scores, both)
    np.testing.assert_allclose(precision, [50, 100])
    one = np.array([[0, 0], [1, 0]])  # the second class has no example
    np.testing.assert_allclose(scoring.mean_average_precision(scores, one), [50, 100])


def test_forest_and_regression_know_every_class(rng):
    embeddings = rng.random((40, 2, 1, 1, 3))
    for labels in (rng.integers(0, 3, 40), rng.integers(0, 2, (40, 3))):
        for method in ("forest", "logistic"):
            fitted = classifiers.classifier(method, labels.ndim == 2, seed=0)
            fitted.fit(*classifiers.examples(embeddings, labels, 1))
            scores = classifiers.scores_of(fitted, embeddings)
            assert scores.shape == (40, 2, 3)
            expected = fitted.predict(embeddings[:, 1].reshape(40, 3))
            if labels.ndim == 1:
                np.testing.assert_array_equal(scores[:, 1].argmax(-1), expected)
            else:
                np.testing.assert_array_equal(scores[:, 1] > 0.5, expected)


def test_figures_of_two_metrics(tmp_path):
    values = {"exact match": np.array([10.0, 20]), "mean average precision": [30, 40.5]}
    keys = [("head", "all"), ("forest", 2), ("logistic", 1), ("logistic", "all")]
    results = dict.fromkeys(keys, values)
    paths = figures.draw_all(results, tmp_path, "title")
    assert [path.name for path in paths] == [
        "accuracy.png",
        "forest.png",
        "logistic.png",
    ]


def test_axes_do_not_zoom_into_noise():
    assert figures.span([50, 51]) == (45.5, 55.5)
    assert figures.span([0.0, 1]) == (0, 10)
    assert figures.span([99.0, 100]) == (90, 100)
    assert figures.span([20, 80]) == (20, 80)
