import pathlib
import random
import subprocess
import sys

import h5py
import keras
import numpy as np
import pytest

from kfeedback import LRNet, weights
from tests import harness
from tests.models import common
from tests.weights.common import (
    assert_same,
    dense_net,
    lrnet,
    refused,
    reseal,
    rewrite,
    values,
)

REPOSITORY = pathlib.Path(__file__).parents[2]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.h5"


# --- Round trips ---------------------------------------------------------------------


def test_round_trip(path):
    model = harness.randomize(lrnet())
    expected = values(model)
    weights.save(model, path)
    harness.randomize(model, seed=7)
    weights.load(model, str(path))
    assert_same(values(model), expected)
    assert list(path.parent.iterdir()) == [path]  # no temporary file stays


@pytest.mark.parametrize("policy", ["float16", "bfloat16", "float64"])
def test_round_trip_of_other_dtypes(path, policy):
    harness.fresh_names(policy)
    model = harness.randomize(dense_net())
    before = {w.path: harness.to_numpy(w) for w in model.weights}
    weights.save(model, path)
    harness.randomize(model, seed=7)
    weights.load(model, path)
    assert_same({w.path: harness.to_numpy(w) for w in model.weights}, before)


def test_round_trip_with_integer_and_scalar_variables(path):
    image = keras.Input((4,))
    normalize = keras.layers.Normalization(name="normalize")  # counts in an integer
    model = keras.Model(image, keras.layers.Dense(2, name="dense")(normalize(image)))
    assert any("int" in w.dtype for w in model.weights)
    harness.randomize(model)
    weights.save(model, path)
    expected = values(model)
    harness.randomize(model, seed=7)
    weights.load(model, path)
    assert_same(values(model), expected)


def test_the_order_of_layers_does_not_matter(path):
    model = harness.randomize(dense_net(4, ("a", "b"), 4))
    weights.save(model, path)
    kernels = {w.path: w.numpy() for w in model.weights}
    swapped = dense_net(4, ("b", "a"), 4)
    weights.load(swapped, path)
    assert_same(values(swapped), kernels)


def test_saving_replaces_a_file(path):
    model = dense_net()
    weights.save(harness.randomize(model, 1), path)
    weights.save(harness.randomize(model, 2), path)
    expected = values(model)
    weights.load(harness.randomize(model, 3), path)
    assert_same(values(model), expected)


def test_saving_through_a_link_and_under_a_long_name(tmp_path):
    model, file, link = dense_net(), tmp_path / ("n" * 252 + ".h5"), tmp_path / "link"
    link.symlink_to(file)
    weights.save(model, link)
    assert link.is_symlink() and file.is_file() and len(list(tmp_path.iterdir())) == 2
    other = dense_net()
    weights.load(other, link)
    assert_same(values(other), values(model))


def test_a_failed_save_leaves_the_old_file(path):
    model = harness.randomize(dense_net())
    weights.save(model, path)
    old = path.read_bytes()
    model.weights[0].assign(model.weights[0] * np.nan)
    with pytest.raises(ValueError) as caught:
        weights.save(model, path)
    harness.assert_one_sentence(caught.value, "model")
    assert path.read_bytes() == old
    assert list(path.parent.iterdir()) == [path]


# --- One timestep and several --------------------------------------------------------


def test_one_timestep_takes_a_file_of_two_and_only_that(path):
    two = harness.randomize(lrnet(2))
    weights.save(two, path)
    harness.fresh_names()
    one, three = lrnet(1), lrnet(3)
    refused(one, path, "conv1_feedback/kernel", "without_feedback")
    weights.load(one, path, without_feedback=True)
    weights.load(three, path)
    assert_same(values(three), values(two))
    feedback = {name for name in values(two) if "_feedback/" in name}
    assert len(feedback) == 4
    assert values(one).keys() == values(two).keys() - feedback
    for name, value in values(one).items():
        harness.assert_bit_equal(value, values(two)[name], name)
    # The other way round the feedback would be random.
    weights.save(one, path)
    refused(two, path, "conv1_feedback/kernel")


def test_a_part_of_the_feedback_is_not_left_out(path):
    weights.save(lrnet(2), path)
    harness.fresh_names()
    fewer = lrnet(2, emphasis_layers=["conv1"])
    refused(fewer, path, "bn2_feedback/kernel")
    weights.save(fewer, path)
    refused(lrnet(2), path, "bn2_feedback/kernel")


# --- Refusals ------------------------------------------------------------------------


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


def test_every_bit_flip_is_refused(path, tmp_path):
    model = harness.randomize(dense_net())
    weights.save(model, path)
    data = path.read_bytes()
    bad = tmp_path / "bad.h5"
    draw = random.Random(0)
    expected = values(model)
    for place in range(0, len(data), 7):
        flipped = bytearray(data)
        flipped[place] ^= 1 << draw.randrange(8)
        bad.write_bytes(flipped)
        with pytest.raises(ValueError):
            weights.load(model, bad)
    assert_same(values(model), expected)


def test_check():
    weights.check_weights(None)
    weights.check_weights(__file__)
    for wrong in ("imagenet", "", 3, True, b"x", "/", "x" * 5000, "x\0"):
        with pytest.raises(ValueError) as caught:
            weights.check_weights(wrong)
        harness.assert_one_sentence(caught.value, "weights")


def test_another_process_reads_the_file(path):
    model = harness.randomize(dense_net())
    weights.save(model, path)
    code = (
        "import sys; from tests.weights.test_files import *\n"
        "model = dense_net(); weights.load(model, sys.argv[1])\n"
        "np.savez(sys.argv[2], **{w.path: w.numpy() for w in model.weights})\n"
    )
    copy = path.parent / "copy.npz"
    subprocess.run([sys.executable, "-c", code, path, copy], check=True, cwd=REPOSITORY)
    with np.load(copy) as file:
        assert_same(dict(file), values(model))


def test_a_reloaded_flat_model_takes_weights_of_a_nested_one(path, tmp_path):
    """Keras keeps the path of the model in which a layer was first built."""
    model = harness.randomize(LRNet(common.nested()))
    model.save(tmp_path / "model.keras")
    weights.save(model, path)
    again = keras.models.load_model(tmp_path / "model.keras")
    harness.randomize(again, seed=5)
    weights.load(again, path)
    for old, new in zip(model.weights, again.weights, strict=True):
        np.testing.assert_array_equal(old.numpy(), new.numpy())


def test_an_adapted_normalization_normalizes_after_loading(path):
    def make():
        harness.fresh_names()
        image = keras.Input((3,))
        norm = keras.layers.Normalization(name="norm")
        return keras.Model(image, norm(image)), norm

    data = np.random.default_rng(1).normal(3, 2, (50, 3)).astype("float32")
    model, norm = make()
    norm.adapt(data)
    weights.save(model, path)
    again, _ = make()
    weights.load(again, path)
    np.testing.assert_array_equal(
        harness.to_numpy(again(data)), harness.to_numpy(model(data))
    )


def test_weights_of_no_layer_are_kept(path):
    class Scaled(keras.Model):
        def __init__(self):
            super().__init__(name="scaled")
            self.scale = self.add_weight(shape=(2,), name="scale")

        def call(self, x):
            return x * self.scale

    model, again = Scaled(), Scaled()
    model.scale.assign([3.0, 4.0])
    weights.save(model, path)
    again.scale.assign([0.0, 0.0])
    weights.load(again, path)
    np.testing.assert_array_equal(again.scale.numpy(), [3.0, 4.0])


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


def test_a_model_may_have_the_name_of_its_layer(path, tmp_path):
    layers = [
        keras.Input((8, 8, 2)),
        keras.layers.Conv2D(4, 3, name="conv"),
        keras.layers.GlobalAveragePooling2D(),
        keras.layers.Dense(3, activation="softmax", name="dense"),
    ]
    model = harness.randomize(LRNet(keras.Sequential(layers, name="conv")))
    model.save(tmp_path / "model.keras")
    weights.save(model, path)
    again = keras.models.load_model(tmp_path / "model.keras")
    weights.load(again, path)
    for old, new in zip(model.weights, again.weights, strict=True):
        np.testing.assert_array_equal(old.numpy(), new.numpy())


def test_feedback_is_known_at_any_depth(path):
    def outer(timesteps):
        harness.fresh_names()
        image = keras.Input((8, 8, 2))
        return keras.Model(image, lrnet(timesteps)(image))

    weights.save(outer(2), path)
    assert weights.holds_feedback(path)
    weights.load(outer(1), path, without_feedback=True)
    weights.save(outer(1), path)
    assert not weights.holds_feedback(path)
