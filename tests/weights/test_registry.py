"""The published weights: they load offline, and are what the table says."""

import pathlib

import h5py
import numpy as np
import pytest

import kfeedback
from kfeedback import weights
from kfeedback.models.backbones import LNIN, LeNet, VGGAttention
from kfeedback.weights import registry
from tests import harness
from tests.weights.common import refused, reseal, values

TAG = "lenet_mnist_bg_sample"


@pytest.mark.parametrize("tag", registry.ENTRIES)
def test_the_table_is_what_the_files_say(tag):
    entry = registry.ENTRIES[tag]
    assert entry.tag == tag
    assert set(entry.about) <= set(weights.ABOUT)
    for name in ("factory", "arguments", "preprocessing", "license", "score", "source"):
        assert entry.about[name]
    if entry.file:
        found = weights.describe(tag)
        assert found["about"] == entry.about
        assert found["bytes"] == entry.size


def test_every_shipped_file_is_in_the_table():
    folder = pathlib.Path(registry.__file__).parent / "published"
    shipped = {path.name: path.stat().st_size for path in folder.glob("*.h5")}
    assert set(shipped) == {x.file for x in registry.ENTRIES.values() if x.file}
    assert max(shipped.values()) <= 8e6 and sum(shipped.values()) <= 30e6
    others = {path.name for path in folder.iterdir()} - set(shipped)
    assert others == {registry.INDEX}


def test_no_connection_is_made(monkeypatch):
    monkeypatch.setattr("socket.socket.connect", None)
    LeNet(weights=TAG)
    assert kfeedback.list_weights() == list(registry.ENTRIES)
    assert TAG in kfeedback.list_weights()


@pytest.mark.parametrize(
    "make, words",
    [
        (lambda: LeNet(classes=3, weights=TAG), ("predictions/kernel", "replace_head")),
        (lambda: LeNet(input_shape=(28, 28, 3), weights=TAG), ("adapt_channels",)),
        (lambda: LeNet(input_shape=(32, 32, 1), weights=TAG), ("fc1/kernel",)),
        (lambda: LNIN(weights=TAG), ("LNIN(", "LeNet(", "another factory")),
        (lambda: kfeedback.LRNet("lenet", weights=TAG), ("conv1_feedback/kernel",)),
        (lambda: kfeedback.CliqueNet(weights=TAG), ("CliqueNet(", "LeNet(")),
        (lambda: LeNet(weights="lenet_of_somebody"), (TAG,)),
    ],
)
def test_another_architecture_is_refused(make, words):
    with pytest.raises(ValueError) as caught:
        make()
    harness.assert_one_sentence(caught.value, "weights")
    assert all(word in str(caught.value) for word in words)


def test_feedback_on_published_weights():
    backbone = LeNet(weights=TAG)
    images = harness.random_images((28, 28, 1))
    model = kfeedback.LRNet(backbone)
    harness.assert_bit_equal(
        harness.to_numpy(model(images)), harness.to_numpy(backbone(images)), "LRNet"
    )
    one = kfeedback.LRNet("lenet", timesteps=1, weights=TAG)
    harness.assert_bit_equal(
        harness.to_numpy(one(images)), harness.to_numpy(backbone(images)), "T = 1"
    )


def test_a_changed_shipped_file_is_refused(monkeypatch, tmp_path):
    name = registry.ENTRIES[TAG].file
    data = (registry._FILES / name).read_bytes()
    monkeypatch.setattr(registry, "_FILES", tmp_path)
    refused(LeNet(), TAG, name)  # missing
    other = LeNet()
    weights.save(other, tmp_path / name)  # valid, but another
    refused(other, TAG, "SHA-256")
    (tmp_path / name).write_bytes(data)
    weights.load(other, TAG)


def test_card(tmp_path):
    text = weights.card(TAG)
    about = registry.ENTRIES[TAG].about
    for name in ("score", "license", "dataset", "commit", "command", "source"):
        assert about[name] in text
    assert text.startswith(f"# {TAG}\n") and "LeNet(" in text
    path = tmp_path / "model.h5"
    weights.save(LeNet(), path, license="CC0 | none\nat all", score="5 %")
    text = weights.card(path)
    assert "CC0 \\| none at all" in text and "431,080" in text
    assert "| Trained on | not known |" in text
    assert len({line.count(" | ") for line in text.splitlines()[4:]}) == 1
    with pytest.raises(ValueError):
        weights.card("nothing")


def test_a_licence_of_an_earlier_version_is_a_license(tmp_path):
    path = tmp_path / "model.h5"
    model = LeNet()
    weights.save(model, path, license="CC0-1.0")
    with h5py.File(path, "r+") as file:
        file.attrs["licence"] = file.attrs["license"]
        del file.attrs["license"]
    reseal(path)
    assert weights.describe(path)["about"]["license"] == "CC0-1.0"
    assert "CC0-1.0" in weights.card(path)
    weights.load(model, path)


def test_values_of_an_earlier_version_are_compared_as_todays(tmp_path):
    path = tmp_path / "model.h5"
    model = VGGAttention(width=1 / 32)
    arguments = weights.origin(model)["arguments"]
    for value, words in (("parametrised", ()), ("dotted", ("another compatibility",))):
        about = {**arguments, "compatibility": value}
        weights.save(model, path, factory="VGGAttention", arguments=about)
        if words:
            refused(model, path, *words)
        else:
            weights.load(model, path)


def test_about_round_trip(tmp_path):
    path = tmp_path / "model.h5"
    given = {
        "preprocessing": "scale",
        "classes": 2,
        "class_names": ["Köln", "東京"],
        "arguments": {"classes": 2},
        "factory": "Mine",
    }
    model = LeNet(classes=2)
    weights.save(model, path, **given)
    assert weights.describe(path)["about"] == given
    found = weights.describe(path)
    assert found["parameters"] == model.count_params()
    assert found["bytes"] == path.stat().st_size
    assert found["tensors"].keys() == {f"{x.path}" for x in model.weights}
    weights.save(LeNet(input_shape=np.array([28, 28, 1]).tolist()), path)
    about = weights.describe(path)["about"]
    assert about["factory"] == "LeNet"
    assert about["arguments"]["input_shape"] == [28, 28, 1]


@pytest.mark.parametrize(
    "about",
    [
        {"author": "me"},
        {"classes": "ten"},
        {"classes": True},
        {"class_names": "a,b"},
        {"score": 3.5},
        {"arguments": {"x": object()}},
        {"paper": "x" * 70_000},
    ],
    ids=lambda about: next(iter(about)),
)
def test_bad_about(tmp_path, about):
    with pytest.raises(ValueError) as caught:
        weights.save(LeNet(), tmp_path / "model.h5", **about)
    harness.assert_one_sentence(caught.value, "about")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("options", [{"dtype": "int8"}, {"compress": 1}], ids=str)
def test_bad_options(tmp_path, options):
    with pytest.raises((TypeError, ValueError)) as caught:
        weights.save(LeNet(), tmp_path / "model.h5", **options)
    harness.assert_one_sentence(caught.value, next(iter(options)))


def test_values_are_those_of_the_file():
    model = LeNet(weights=TAG)
    for value in values(model).values():
        np.testing.assert_array_equal(value, value.astype("float16").astype("float32"))
