"""Wrote the files of this folder, at commit 4c8c3a5, before arguments were renamed.

    git worktree add ../before 4c8c3a5
    PYTHONPATH=../before python tests/old_files/make.py tests/old_files

Each network is saved as `.keras` and as a weights file, beside the images it was shown
and what it gave for them. `test_old_files.py` reads them.
"""

import pathlib
import sys

import keras
import numpy as np

import kfeedback
from kfeedback.models.backbones import VGGAttention, VGGSmall


def small(name):
    """A classifier of two convolutions, for feedback."""
    image = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(4, 3, padding="same", activation="relu", name="low")(image)
    x = keras.layers.MaxPooling2D(2, name="pool")(x)
    x = keras.layers.Conv2D(4, 3, padding="same", activation="relu", name="high")(x)
    x = keras.layers.GlobalAveragePooling2D(name="average")(x)
    x = keras.layers.Dense(3, activation="softmax", name="predictions")(x)
    return keras.Model(image, x, name=name)


NETWORKS = {
    "cliquenet": lambda: kfeedback.CliqueNet(
        input_shape=(8, 8, 3), filters=2, layers=6, loops=2, classes=3
    ),
    "clique_stage_one": lambda: kfeedback.CliqueNet(
        input_shape=(8, 8, 3),
        filters=2,
        layers=6,
        loops=0,
        block_feature="I",
        transition_feature="I",
        classes=3,
    ),
    "convlstm": lambda: kfeedback.FeedbackConvLSTMNet(
        input_shape=(8, 8, 3),
        cells=[[(2, 1), (2, 1)], [(2, 2)]],
        timesteps=2,
        head_units=4,
        classes=3,
        return_sequences=True,
    ),
    "vgg_attention": lambda: VGGAttention(
        width=1 / 64, classes=3, compatibility="parametrised"
    ),
    "lrnet": lambda: kfeedback.LRNet(small("small"), timesteps=2),
    "crcn": lambda: kfeedback.CRCN(small("small"), loops=[("high", "low")]),
    "feedback_cnn": lambda: kfeedback.FeedbackCNN(
        VGGSmall(width=1 / 64, classes=3), top=2, preprocess="centre", iterations=2
    ),
}


def main(folder):
    """Writes all of them."""
    for name, make in NETWORKS.items():
        keras.utils.set_random_seed(1)
        model = make()
        random = np.random.default_rng(2)
        for variable in model.trainable_variables:
            variable.assign(variable + random.normal(0, 0.1, variable.shape))
        images = random.integers(0, 256, (2, *model.input_shape[1:]))
        images = images.astype("float32")
        if name != "feedback_cnn":
            images = images / 127.5 - 1
        found = model(images)
        found = found if isinstance(found, dict) else {"output": found}
        model.save(folder / f"{name}.keras")
        network = model.backbone if name == "feedback_cnn" else model
        kfeedback.weights.save(network, folder / f"{name}.h5", licence="CC0-1.0")
        arrays = {key: np.asarray(value) for key, value in found.items()}
        np.savez_compressed(folder / f"{name}.npz", images=images, **arrays)


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
