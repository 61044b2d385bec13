"""Small models and what the tests of weights do with files."""

import hashlib
import pathlib

import h5py
import keras
import numpy as np
import pytest

from kfeedback import LRNet, weights
from kfeedback.weights import _digests
from tests import harness
from tests.models import common


def dense_net(units=3, names=("a", "b"), classes=2):
    image = keras.Input((4,))
    x = keras.layers.Dense(units, name=names[0])(image)
    return keras.Model(image, keras.layers.Dense(classes, name=names[1])(x), name="net")


def lrnet(timesteps=2, classes=4, **kwargs):
    return LRNet(common.conv_net(classes=classes), timesteps=timesteps, **kwargs)


def values(model):
    return {w.path: np.asarray(w.numpy()).copy() for w in model.weights}


def assert_same(actual, expected):
    assert actual.keys() == expected.keys()
    for name in actual:
        harness.assert_bit_equal(actual[name], expected[name], name)


def refused(model, path, *words):
    """Asserts that the file is refused and the model left as it was."""
    before = values(model)
    with pytest.raises(ValueError) as caught:
        weights.load(model, path)
    assert type(caught.value) is ValueError
    harness.assert_one_sentence(caught.value, "weights")
    for word in (*words, *[str(path)] * isinstance(path, pathlib.Path)):
        assert word in str(caught.value)
    assert_same(values(model), before)


def rewrite(path, name, item=None, **kwargs):
    """Replaces a tensor by a link or another data set, under a seal that is right.

    What is refused then is not refused for the seal.
    """
    with h5py.File(path, "r+") as file:
        del file[name]
        if isinstance(item, h5py.VirtualLayout):
            file.create_virtual_dataset(name, item)
        elif item is not None:
            file[name] = item
        else:
            item = file.create_dataset(name, **kwargs)
            item.attrs["feedback"] = np.bytes_(b"false")
            if "data" in kwargs:
                value = np.asarray(kwargs["data"])
                digest = _digests.of(name, value, "false")
                item.attrs["xxh128"] = np.bytes_(digest)
    reseal(path)


def reseal(path):
    data = path.read_bytes()
    line = f"kfeedback.weights 4 {len(data)} - ".encode()
    digest = hashlib.sha256(line + data[512:]).hexdigest()
    line += f"{digest}\n".encode()
    path.write_bytes(line.ljust(512, b"\0") + data[512:])
