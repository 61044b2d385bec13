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
    "cliquenet_parts": lambda: kfeedback.CliqueNet(
        filters=4,
        layers=12,
        dropout=0.0,
        bottleneck=True,
        compression=True,
        attentional_transition=True,
    ),
    "cliquenet_s0": lambda: kfeedback.CliqueNetS0(input_shape=(64, 64, 3), classes=10),
    "feedback_convlstm": lambda: kfeedback.FeedbackConvLSTMNet(
        cells=[[(4, 1), (4, 1)], [(8, 2)]],
        timesteps=2,
        head_units=16,
        head_dropout=0.0,
        return_sequences=True,
    ),
    "dropout": lambda: backbones.LeNet(input_shape=SHAPE, dropout=0.5),
}


# With these, images that differ by 1e-6 change weights by up to 1e-3 on one device, of
# CliqueNet-S0 the first gradient by 13 %: at a lower rate losses can be compared.
SENSITIVE = dict.fromkeys(("lrnet", "vgg_small", "cliquenet", "cliquenet_parts"), 1e-3)
SENSITIVE |= {"crcn": 3e-4, "cliquenet_s0": 1e-6}


class _Losses(keras.callbacks.Callback):
    def __init__(self):
        super().__init__()
        self.found = []

    def on_train_batch_end(self, batch, logs=None):
        self.found.append(float(logs["loss"]))


def _data(count, shape):
    """Batches, of which the last is not full."""
    # Smooth images would make networks so sensitive at first that rounding shows.
    random = np.random.default_rng(0)
    images = random.uniform(size=(count, *shape)).astype("float32")
    labels = random.integers(0, 10, count).astype("int32")
    if keras.backend.backend() == "jax":
        return datasets.ArrayDataset(images, labels, BATCH)
    import tensorflow as tf

    return tf.data.Dataset.from_tensor_slices((images, labels)).batch(BATCH)


def train(devices, family, count):
    """Dict of the losses, the scores and the weights of one network."""
    keras.utils.set_random_seed(0)
    settings = optimization.Training(
        output_dir="-", weight_decay=1e-3, lr=SENSITIVE.get(family, 0.01)
    )
    with devices.scope():
        model = with_timesteps(FAMILIES[family]())
        shape = model.input_shape[1:]
        optimization.compile_model(model, settings, 4)
        model.optimizer.build(model.trainable_variables)
    losses = _Losses()
    with devices.prepared(model):
        devices.fit(model, _data(count, shape), 0, losses)
        scores = devices.evaluate(model, _data(count - 4, shape))
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
            one = train(devices, family, given["count"])
            found |= {f"{family}/{name}": value for name, value in one.items()}
        devices.wait()
    who = "chief" if devices.is_chief else "other"
    np.savez(given["output"].replace("{}", who), **found)


if __name__ == "__main__":
    main(sys.argv[1])
