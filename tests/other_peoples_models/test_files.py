"""Files of old versions of Keras, of whole models, of arrays."""

import h5py
import keras
import numpy as np
import pytest
from keras import ops

import kfeedback
from kfeedback import weights
from kfeedback.models import backbones
from tests import harness
from tests.other_peoples_models.common import one_sentence, small

layers = keras.layers


def old_keras_file(path, tensors):
    """A `.h5` as Keras 1 and 2 wrote it: a group a layer, in it its weights."""
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [name.encode() for name in tensors]
        for layer, own in tensors.items():
            group = file.create_group(layer)
            group.attrs["weight_names"] = [name.encode() for name in own]
            for name, value in own.items():
                group.create_dataset(name, data=value)


def mobile():
    x = inputs = keras.Input((8, 8, 3))
    x = layers.DepthwiseConv2D(3, name="dw")(x)
    x = layers.SeparableConv2D(4, 3, name="sep")(x)
    x = layers.PReLU(shared_axes=(1, 2), name="prelu")(x)
    x = layers.BatchNormalization(name="bn")(x)
    x = layers.Dense(2, name="fc")(layers.GlobalAveragePooling2D()(x))
    return keras.Model(inputs, x)


KERAS_2 = "{layer}/{name}:0"
KERAS_1 = "{layer}_{name}:0"
OLD = {
    "kernel": "W",
    "bias": "b",
    "alpha": "alphas",
    "moving_mean": "running_mean",
    "moving_variance": "running_std",
}


@pytest.mark.parametrize("version", [1, 2])
def test_files_of_older_keras_load(tmp_path, version):
    first, second = mobile(), mobile()
    harness.randomize(first)
    tensors = {}
    for layer in first.layers:
        for variable in layer.weights:
            name = variable.name
            if layer.name == "dw" and name == "kernel":
                name = "depthwise_kernel"
            elif version == 1 and layer.name != "sep":
                name = OLD.get(name, name)
            if version == 1 and layer.name in ("dw", "sep"):
                name = f"{layer.name}/{name}:0"  # there was none of Keras 1's own
            else:
                template = KERAS_1 if version == 1 else KERAS_2
                name = template.format(layer=layer.name, name=name)
            own = tensors.setdefault(layer.name, {})
            own[name] = ops.convert_to_numpy(variable)
    old_keras_file(tmp_path / "old.h5", tensors)
    weights.load(second, tmp_path / "old.h5")
    for a, b in zip(first.get_weights(), second.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("suffix", [".h5", ".hdf5"])
def test_a_feedback_cnn_is_not_saved_as_h5(tmp_path, suffix):
    net = kfeedback.FeedbackCNN(small())
    for path in (tmp_path / f"a{suffix}", str(tmp_path / f"a{suffix}")):
        with pytest.raises(ValueError, match=r"must end in \.keras") as error:
            net.save(path)
        one_sentence(error)
    assert not list(tmp_path.iterdir())
    outer = keras.Sequential([keras.Input((28, 28, 1)), layers.Rescaling(2.0), net])
    for save in (
        lambda path: keras.saving.save_model(net, path),
        lambda path: outer.save(path),
    ):
        with pytest.raises(ValueError, match=r"must end in \.keras") as error:
            save(tmp_path / f"b{suffix}")
        one_sentence(error)
    net.save(tmp_path / "a.keras")


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
@pytest.mark.parametrize("name", ["nin", "lnin"])
def test_a_saved_model_remembers_its_factory(tmp_path, name, suffix):
    made = {"nin": backbones.NIN, "lnin": backbones.LNIN}
    made[name]().save(tmp_path / f"a{suffix}")
    again = keras.models.load_model(tmp_path / f"a{suffix}")
    assert weights.origin(again)["factory"] == name.upper()
    weights.save(again, tmp_path / "w.h5")
    other = made[{"nin": "lnin", "lnin": "nin"}[name]]()
    with pytest.raises(ValueError, match="they are of"):
        weights.load(other, tmp_path / "w.h5")
    weights.load(made[name](), tmp_path / "w.h5")
    net = kfeedback.LRNet(again)
    net.save(tmp_path / "net.keras")
    net = keras.models.load_model(tmp_path / "net.keras")
    inner = weights.origin(net)["arguments"]["backbone"]
    assert inner["factory"] == name.upper()


def test_a_split_of_a_file_with_other_arrays(tmp_path):
    np.savez(tmp_path / "a.npz", images=np.zeros((3, 4, 4), "uint8"))
    with pytest.raises(ValueError, match=r"x_<split> and y_<split>.*images") as error:
        kfeedback.datasets.load_arrays(tmp_path / "a.npz", "train")
    one_sentence(error)
