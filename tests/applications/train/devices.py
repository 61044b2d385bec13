"""Trains small networks for a few batches on the devices that its arguments name.

    python -m tests.applications.train.devices '{"distribution": "mirrored",
        "logical_cpus": 2, "families": ["lenet"], "output": "losses.npz"}'

`tests/applications/train/test_distribution.py` starts it, a process or more for each
distribution: a strategy of TensorFlow cannot be left. In the name of the output `{}`
stands for "chief" or "other".
"""

import json
import sys
import types

import keras
import numpy as np

import kfeedback
from applications.common import optimization
from applications.train import distribution
from applications.train.network import with_timesteps
from kfeedback import datasets, graph
from kfeedback.models import backbones

SHAPE, BATCH = (32, 32, 3), 16


def _vgg(width=0.125):
    return backbones.VGGSmall(width=width)


FAMILIES = {
    "lenet": lambda: backbones.LeNet(input_shape=SHAPE),
    "lrnet": lambda: kfeedback.LRNet(
        backbones.LeNet(input_shape=SHAPE), return_sequences=True
    ),
    "lnin": lambda: backbones.LNIN(dropout=0.0),
    "vgg_small": _vgg,
    "crcn": lambda: kfeedback.CRCN(_vgg(), timesteps=2, return_sequences=True),
    "cliquenet": lambda: kfeedback.CliqueNet(filters=4, layers=6, dropout=0.0),
    "cliquenet_s0": lambda: kfeedback.CliqueNetS0(input_shape=SHAPE, classes=10),
    "feedback_convlstm": lambda: kfeedback.FeedbackConvLSTMNet(
        cells=[[(4, 1), (4, 1)], [(8, 2)]],
        timesteps=2,
        head_units=16,
        head_dropout=0.0,
        return_sequences=True,
    ),
    "dropout": lambda: backbones.LeNet(input_shape=SHAPE, dropout=0.5),
}


class _Losses(keras.callbacks.Callback):
    def __init__(self):
        super().__init__()
        self.found = []

    def on_train_batch_end(self, batch, logs=None):
        self.found.append(float(logs["loss"]))


def _data(count):
    """Batches, of which the last is not full."""
    images, labels, _ = datasets.load_arrays("synthetic", f"train[:{count}]")
    images = images.astype("float32") / 255
    if keras.backend.backend() == "jax":
        return datasets.ArrayDataset(images, labels, BATCH)
    import tensorflow as tf

    return tf.data.Dataset.from_tensor_slices((images, labels)).batch(BATCH)


def train(devices, make, count):
    """Dict of the losses, the scores and the weights of one network."""
    keras.utils.set_random_seed(0)
    settings = optimization.Training(output_dir="-", weight_decay=1e-3)
    with devices.scope():
        model = with_timesteps(make())
        optimization.compile_model(model, settings, 4)
        model.optimizer.build(model.trainable_variables)
    losses = _Losses()
    with devices.prepared(model):
        devices.fit(model, _data(count), 0, losses)
        scores = devices.evaluate(model, _data(count - 4))
    for layer in graph.all_layers(model):  # JAX would refuse the saved layer
        assert not getattr(layer, "synchronized", False), layer.name
    weights = [keras.ops.convert_to_numpy(v) for v in model.variables]
    found = {"losses": losses.found, "scores": [scores[k] for k in sorted(scores)]}
    return found | {f"weight{n}": weight for n, weight in enumerate(weights)}


def main(text):
    """Writes what came of each family."""
    given = json.loads(text)
    settings = types.SimpleNamespace(logical_cpus=0, wait_minutes=1.0)
    settings.__dict__.update(given)
    found = {}
    with distribution.create(settings) as devices:
        for family in given["families"]:
            one = train(devices, FAMILIES[family], given["count"])
            found |= {f"{family}/{name}": value for name, value in one.items()}
        devices.wait()
    who = "chief" if devices.is_chief else "other"
    np.savez(given["output"].replace("{}", who), **found)


if __name__ == "__main__":
    main(sys.argv[1])
