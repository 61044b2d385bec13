"""applications.evaluate: what it refuses and draws."""

import json

import keras
import numpy as np
import pytest

from applications.common.command_line import parse
from applications.evaluate import __main__ as evaluate
from applications.evaluate import lrnet_figures
from kfeedback import LRNet
from kfeedback.datasets import DatasetInfo
from kfeedback.models.backbones import LeNet
from tests import harness

TAG = "lr_lenet_mnist_bg_sample"


def test_classes_in_another_order_are_refused(tmp_path):
    for name in ("cat", "dog"):
        folder = tmp_path / "pictures" / "test" / name
        folder.mkdir(parents=True)
        keras.utils.save_img(folder / "0.png", np.zeros((28, 28, 3)))
    LeNet(input_shape=(28, 28, 3), classes=2).save(tmp_path / "model.keras")
    about = {"flags": {}, "class_names": ["dog", "cat"]}
    (tmp_path / "run.json").write_text(json.dumps(about))
    flags = [f"--run={tmp_path}", f"--dataset={tmp_path / 'pictures'}"]
    settings = parse(evaluate.Settings, [*flags, "--image_size=28"])
    with pytest.raises(ValueError) as error:
        evaluate.main(settings)
    start = "--dataset must have the classes of --run in their order"
    harness.assert_one_sentence(error.value, start)


def test_other_columns_are_refused_before_the_work(tmp_path, monkeypatch):
    path = tmp_path / "rows.csv"
    path.write_text("date,error\n")
    flags = [f"--weights={TAG}", "--early_exit", f"--exit_results={path}"]
    settings = parse(evaluate.Settings, [*flags, f"--output_dir={tmp_path}"])
    monkeypatch.setattr(evaluate, "predict", None)
    with pytest.raises(ValueError, match="--exit_results must be a file with the col"):
        evaluate.main(settings)


def test_a_row_of_early_exit_has_its_columns(tmp_path):
    path = tmp_path / "rows.csv"
    flags = [f"--weights={TAG}", "--early_exit", f"--exit_results={path}"]
    flags += ["--eval_split=test[:40]", f"--output_dir={tmp_path}"]
    evaluate.main(parse(evaluate.Settings, flags))
    header, _ = path.read_text().splitlines()
    assert header.split(",") == ["date", "commit", *evaluate.EXITS]


def test_figures_of_several_labels_an_image_are_refused():
    model = LRNet(LeNet(classifier_activation="sigmoid"), return_sequences=True)
    several = DatasetInfo("several", "test", 9, 10, (28, 28, 1), (), multi_label=True)
    with pytest.raises(ValueError, match="--dataset must have one label an image"):
        evaluate.drawing(model, several)


def test_what_confuses_no_classes_has_one_figure(tmp_path, capsys):
    posteriors = np.eye(10)[:, None].repeat(2, axis=1)
    labels = np.arange(10)
    assert lrnet_figures.most_confused(posteriors[:, 0], labels) is None
    model = LRNet("lenet", return_sequences=True)
    batches = [(harness.random_images((28, 28, 1), 10), labels)]
    paths = lrnet_figures.draw_all(
        model, tmp_path, (batches, posteriors, labels), (posteriors, labels)
    )
    assert [path.name for path in paths] == ["top_k.png"]
    assert "it confuses none" in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir()] == ["top_k.png"]
    first = np.roll(labels, 1)  # each is taken for its neighbor
    assert lrnet_figures.most_confused(posteriors[:, 0], first) == (0, 1)
