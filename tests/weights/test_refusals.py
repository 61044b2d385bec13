"""Files and models that are refused: each in one sentence, nothing assigned."""

import h5py
import keras
import numpy as np
import pytest

from kfeedback import weights
from tests import harness
from tests.models import common
from tests.weights.common import (
    dense_net,
    lrnet,
    refused,
    reseal,
    rewrite,
)


def test_refuses_other_names_and_lists_both_sides(path):
    weights.save(dense_net(names=("a", "b")), path)
    refused(dense_net(names=("a", "c")), path, "c/kernel", "b/kernel", "net")


def test_refuses_another_number_of_classes(path):
    weights.save(lrnet(classes=4), path)
    refused(lrnet(classes=5), path, "predictions")


def test_refuses_a_transposed_kernel(path):
    model = dense_net(4)
    weights.save(model, path)
    rewrite(path, "b/kernel", data=np.zeros((2, 4), "float32"))
    refused(model, path, "b/kernel", "(2, 4)", "(4, 2)")


def test_resealing_is_what_save_does(path):
    weights.save(dense_net(), path)
    data = path.read_bytes()
    reseal(path)
    assert path.read_bytes() == data


def test_refuses_changed_values(path):
    model = harness.randomize(dense_net())
    weights.save(model, path)
    with h5py.File(path, "r+") as file:
        file["a/bias"][0] += 1
    refused(model, path, "SHA-256")
    reseal(path)
    refused(model, path, "a/bias", "checksum")


@pytest.mark.parametrize(
    "data",
    [
        np.full(3, np.nan, "float32"),
        np.full(3, np.inf, "float32"),
        np.arange(3),
        np.array([b"one", b"two", b"six"]),
        np.ones(3, "complex64"),
        np.ones(3, bool),
        np.zeros((3, 1), "float32"),
        np.zeros(4, "float32"),
    ],
    ids=lambda data: f"{data.dtype}{data.shape}{data.flat[0]}",
)
def test_refuses_other_tensors(path, data):
    model = harness.randomize(dense_net())
    weights.save(model, path)
    rewrite(path, "a/bias", data=data)
    refused(model, path, "a/bias")


@pytest.mark.parametrize(
    "filters",
    [{"compression": "lzf"}, {"scaleoffset": 2}, {"maxshape": (None,), "chunks": (9,)}],
    ids=str,
)
def test_refuses_filters(path, filters):
    model = dense_net()
    weights.save(model, path)
    rewrite(path, "a/bias", data=np.zeros(3, "float32"), **filters)
    refused(model, path, "a/bias")


def test_refuses_links(path, tmp_path):
    model = dense_net()
    other = tmp_path / "other.h5"
    weights.save(model, other)
    for link in (
        h5py.ExternalLink(str(other), "/a/bias"),
        h5py.SoftLink("/a/kernel"),
        h5py.ExternalLink("/etc/passwd", "/"),
    ):
        weights.save(model, path)
        rewrite(path, "a/bias", link)
        refused(model, path, "a/bias")


def test_refuses_external_and_virtual_storage(path, tmp_path):
    model = dense_net()
    raw = tmp_path / "raw"
    raw.write_bytes(b"\0" * 12)
    weights.save(model, path)
    rewrite(path, "a/bias", shape=(3,), dtype="float32", external=[(str(raw), 0, 12)])
    refused(model, path, "a/bias")
    weights.save(model, path)
    layout = h5py.VirtualLayout((3,), "float32")
    layout[:] = h5py.VirtualSource(str(path), "b/bias", (3,))
    rewrite(path, "a/bias", layout)
    refused(model, path, "a/bias")


def test_a_huge_declared_shape_costs_no_memory(path):
    import resource

    model = dense_net()
    weights.save(model, path)
    rewrite(path, "a/bias", shape=(2**32,), dtype="float32")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    refused(model, path, "a/bias")
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert after - before < 100_000  # kB


def test_refuses_files_of_others(path, tmp_path):
    model = dense_net()
    keras_file = tmp_path / "model.weights.h5"
    model.save_weights(keras_file)
    refused(model, keras_file, "kfeedback.weights.save", "load_weights")
    text = tmp_path / "text.h5"
    text.write_text("no HDF5 at all")
    refused(model, text)
    empty = tmp_path / "empty.h5"
    empty.write_bytes(b"")
    refused(model, empty)
    refused(model, tmp_path / "missing.h5")
    refused(model, tmp_path)
    refused(model, None)
    refused(model, 3)
    weights.save(model, path)
    data = path.read_bytes()
    path.write_bytes(data.replace(b"weights 4", b"weights 9", 1))
    refused(model, path, "9")
    path.write_bytes(data.replace(b"kfeedback", b"_feedback", 1))
    refused(model, path)
    path.write_bytes(data[:512] + b"no HDF5 at all")
    reseal(path)
    refused(model, path)


def test_refuses_a_truncated_file(path):
    model = harness.randomize(dense_net())
    weights.save(model, path)
    data = path.read_bytes()
    for size in range(1, len(data), 499):
        path.write_bytes(data[:size])
        refused(model, path)


def test_two_variables_of_one_path_are_refused(path):
    model = dense_net()
    model.extra = keras.layers.Dense(2, name="a")
    model.extra.build((None, 2))
    with pytest.raises(ValueError) as caught:
        weights.save(model, path)
    harness.assert_one_sentence(caught.value, "model")


def test_check():
    weights.check_weights(None)
    weights.check_weights(__file__)
    for wrong in ("imagenet", "", 3, True, b"x", "/", "x" * 5000, "x\0"):
        with pytest.raises(ValueError) as caught:
            weights.check_weights(wrong)
        harness.assert_one_sentence(caught.value, "weights")


def test_refuses_what_has_no_weights_yet(path):
    unbuilt = keras.Sequential([keras.layers.Dense(3)])
    with pytest.raises(ValueError) as caught:
        weights.save(unbuilt, path)
    harness.assert_one_sentence(caught.value, "model")
    assert not path.exists()
    weights.save(dense_net(), path)
    with pytest.raises(ValueError) as caught:
        weights.load(unbuilt, path)
    harness.assert_one_sentence(caught.value, "model")
    for wrong in (3, None, dense_net().layers[1]):
        with pytest.raises(TypeError) as caught:
            weights.save(wrong, path)
        harness.assert_one_sentence(caught.value, "model")


@pytest.mark.parametrize(
    "name, text",
    [
        ("arguments", b"[1]"),
        ("arguments", b'{"backbone": {"factory": 1, "arguments": 2}}'),
        ("factory", b"3"),
        ("paper", b"{"),
        ("class_names", b"NaN"),
    ],
)
def test_attributes_are_read_as_they_are_written(path, name, text):
    weights.save(dense_net(), path, factory="Mine", arguments={})
    with h5py.File(path, "r+") as file:
        file.attrs[name] = np.bytes_(text)
    reseal(path)
    if b"backbone" in text:  # valid, if odd
        assert "backbone=" in weights.card(path)
        return
    refused(dense_net(), path, name, str(path))
    for read in (weights.describe, weights.card):
        with pytest.raises(ValueError) as caught:
            read(path)
        harness.assert_one_sentence(caught.value, "weights")


def test_refuses_a_missing_folder(tmp_path):
    with pytest.raises(ValueError) as caught:
        weights.save(common.conv_net(), tmp_path / "none" / "weights.h5")
    harness.assert_one_sentence(caught.value, "path")
