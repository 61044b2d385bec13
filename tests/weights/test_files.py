"""A saved file gives a model its weights back, wherever and however it was built."""

import pathlib
import subprocess
import sys

import keras
import numpy as np
import pytest

from kfeedback import LRNet, weights
from tests import harness
from tests.models import common
from tests.weights.common import assert_same, dense_net, lrnet, refused, values

REPOSITORY = pathlib.Path(__file__).parents[2]


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


# --- Other processes, other models ---------------------------------------------------


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
