"""A published file: rounded, described, measured, the same bytes again."""

import hashlib
import json

import keras
import numpy as np
import pytest

import kfeedback
from applications.common.command_line import parse
from kfeedback import weights
from kfeedback.models import registry
from kfeedback.models.backbones import LeNet
from kfeedback.weights.registry import INDEX, Entry, read_index
from tests import harness
from tools import publish_weights

ABOUT = {"license": "CC0-1.0", "preprocessing": "scale"}


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    path = tmp_path_factory.mktemp("source") / "weights.h5"
    weights.save(harness.randomize(LeNet(classes=3)), path, dataset="mine")
    return path


def publish(source, folder, tag="mine", **about):
    return publish_weights.publish(
        source, folder, tag, ABOUT | about, lambda network: f"{network.name}: good"
    )


def test_an_entry_is_what_the_file_is(source, tmp_path):
    row = publish(source, tmp_path)
    path = tmp_path / "mine.h5"
    content = path.read_bytes()
    assert row["size"] == len(content) < 0.5 * source.stat().st_size
    assert row["sha256"] == hashlib.sha256(content).hexdigest()
    assert read_index(tmp_path / INDEX) == [row]
    assert Entry(**row).about == weights.describe(path)["about"]
    about = row["about"]
    known = [about[x] for x in ("factory", "dataset", "license", "score")]
    assert known == ["LeNet", "mine", "CC0-1.0", "lenet: good"]
    for before, after in zip(
        LeNet(classes=3, weights=source).weights,
        LeNet(classes=3, weights=path).weights,
        strict=True,
    ):
        rounded = before.numpy().astype("float16").astype("float32")
        np.testing.assert_array_equal(after.numpy(), rounded)
    outputs = publish_weights.probe(LeNet(classes=3, weights=path), "scale")
    np.testing.assert_allclose(row["outputs"], outputs, rtol=0, atol=1e-5)


def test_the_same_weights_give_the_same_bytes(source, tmp_path):
    folders = [tmp_path / name for name in "ab"]
    for folder in folders:
        folder.mkdir()
        publish(source, folder)
    for name in ("mine.h5", INDEX):
        assert len({(folder / name).read_bytes() for folder in folders}) == 1


def test_a_tag_is_replaced_and_the_others_stay(source, tmp_path):
    first = publish(source, tmp_path, "one")
    publish(source, tmp_path, "two")
    again = publish(source, tmp_path, "two", paper="a new one")
    assert read_index(tmp_path / INDEX) == [first, again]


def test_an_entry_with_feedback_gives_its_last_prediction(tmp_path):
    model = harness.randomize(kfeedback.LRNet("lenet", return_sequences=True))
    weights.save(model, tmp_path / "weights.h5")
    seen = []

    def measure(network):
        seen.append(network.output_shape)
        return "good"

    row = publish_weights.publish(
        tmp_path / "weights.h5", tmp_path, "mine", ABOUT, measure
    )
    assert seen == [(None, 2, 10)]
    last = registry.build(row["about"])
    assert last.output_shape == (None, 10)
    weights.load(last, tmp_path / "mine.h5")
    outputs = publish_weights.probe(last, "scale")
    np.testing.assert_allclose(row["outputs"], outputs, rtol=0, atol=1e-5)


def test_too_large_a_file_is_refused_and_an_earlier_one_stays(
    source, tmp_path, monkeypatch
):
    publish(source, tmp_path, "one")
    before = (tmp_path / "one.h5").read_bytes()
    for name, least, tag in (
        ("LARGEST", 10**5, "two"),
        ("LARGEST", 10**5, "one"),
        ("LARGEST_IN_ALL", 10**6, "two"),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(publish_weights, name, least)
            with pytest.raises(ValueError) as caught:
                publish(source, tmp_path, tag)
        assert (tmp_path / "one.h5").read_bytes() == before
        harness.assert_one_sentence(caught.value, "weights must have at most")
        assert {x.name for x in tmp_path.iterdir()} == {"one.h5", INDEX}
    assert [row["tag"] for row in read_index(tmp_path / INDEX)] == ["one"]


def test_a_run_is_enough(tmp_path, monkeypatch, capsys):
    run, folder = tmp_path / "run", tmp_path / "published"
    run.mkdir(), folder.mkdir()
    model = harness.randomize(kfeedback.LRNet("lenet", return_sequences=True))
    weights.save(model, run / "weights.h5")
    stored = {"dataset": "mnist_background_images_sample", "eval_split": "test[:50]"}
    about = {"flags": stored, "commit": "abc1234", "class_names": None}
    (run / "run.json").write_text(json.dumps(about))
    arguments = [f"--run={run}", f"--folder={folder}", "--tag=mine"]
    arguments += ['--about={"license": "CC0-1.0"}']
    publish_weights.main(parse(publish_weights.Settings, arguments))
    (row,) = read_index(folder / INDEX)
    for name, value in {
        "preprocessing": "scale",
        "classes": 10,
        "class_names": [str(n) for n in range(10)],
        "commit": "abc1234",
        "license": "CC0-1.0",
        "dataset": "mnist_background_images_sample, train",
    }.items():
        assert row["about"][name] == value
    images, labels, _ = kfeedback.datasets.load_arrays(
        "mnist_background_images_sample", "test[:50]"
    )
    rounded = kfeedback.LRNet("lenet", weights=folder / "mine.h5")
    wrong = rounded.predict(images / np.float32(255), verbose=0).argmax(-1) != labels
    start = f"{100 * wrong.mean():.2f} % error at timestep 2 on the 50 images of the "
    assert row["about"]["score"].startswith(f"{start}test[:50] split, as stored")
    assert row["about"]["score"] in capsys.readouterr().out


@pytest.mark.parametrize(
    "stored, start",
    [
        ({"flags": {"preprocessing": "standardize"}}, "--preprocessing must be one"),
        ({"class_names": ["dog", "cat"]}, "--dataset must have the classes of --run"),
    ],
)
def test_refuses_a_run_that_it_cannot_publish(stored, start, tmp_path):
    """Its flags are those that the command line leaves out."""
    (tmp_path / "run.json").write_text(json.dumps({"flags": {}} | stored))
    flags = [f"--run={tmp_path}", "--tag=x", f"--folder={tmp_path}"]
    if "class_names" in stored:
        folder = tmp_path / "pictures" / "test"
        for name in ("cat", "dog"):
            (folder / name).mkdir(parents=True)
            keras.utils.save_img(folder / name / "0.png", np.zeros((8, 8, 3)))
        flags += [f"--dataset={folder.parent}", "--image_size=8"]
    with pytest.raises(ValueError) as error:
        publish_weights.main(parse(publish_weights.Settings, flags))
    harness.assert_one_sentence(error.value, start)


@pytest.mark.parametrize(
    "arguments, start",
    [
        (["--run=x", "--tag=../x"], "--tag must be of"),
        (["--run=x", "--tag=x", "--preprocessing=standardize"], "--preprocessing"),
        (["--run=nowhere", "--tag=x"], "--run must be a folder"),
    ],
)
def test_refuses_in_one_sentence(arguments, start, tmp_path):
    if "--run=x" in arguments:
        (tmp_path / "run.json").write_text('{"flags": {}}')
        arguments = [f"--run={tmp_path}", *arguments[1:]]
    with pytest.raises(ValueError) as error:
        publish_weights.main(parse(publish_weights.Settings, arguments))
    harness.assert_one_sentence(error.value, start)
