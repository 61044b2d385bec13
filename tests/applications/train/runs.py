"""A small training run inside the process: a network with all that has a state."""

import os
import signal

import keras
import numpy as np

from applications.train.checkpoints import Checkpoints
from applications.train.distribution import Distribution
from applications.train.loop import Loop
from applications.train.progress import Progress
from kfeedback.datasets import ArrayDataset, load_arrays

EPOCHS, BATCHES, BATCH = 3, 5, 16


def batches(seed=0):
    """A function of `(epoch, batch)`: shuffled, mirrored and shifted images."""
    images, labels, _ = load_arrays("synthetic", f"train[:{BATCHES * BATCH}]")
    found = ArrayDataset(
        images[:, ::4, ::4],
        labels,
        BATCH,
        shuffle=True,
        seed=seed,
        flip=True,
        shift=1,
        preprocess=lambda x: x / 255,
    )
    return found.of_epoch


def network(average=False):
    """Compiled, with dropout, batch norm, momentum and a schedule."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            keras.layers.Conv2D(4, 3, name="conv"),
            keras.layers.BatchNormalization(name="norm"),
            keras.layers.ReLU(),
            keras.layers.Flatten(),
            keras.layers.Dropout(0.5),
            keras.layers.Dense(10, activation="softmax", name="predictions"),
        ]
    )
    schedule = keras.optimizers.schedules.CosineDecay(0.1, EPOCHS * BATCHES)
    model.compile(
        keras.optimizers.SGD(schedule, momentum=0.9, use_ema=average, ema_momentum=0.8),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    model.optimizer.build(model.trainable_variables)
    return model


class Training(Loop):
    """A run in a folder that can be broken off.

    Args:
        folder: of the checkpoints.
        at: `(epoch, batch)` after which a SIGTERM arrives; batch `None`: while that
            epoch is validated.
        before: function of the model and `(epoch, batch)`, called after each batch.
        **options: of `Loop`.
    """

    def __init__(self, folder, at=None, average=False, before=None, **options):
        self._at, self._before = at, before
        model = network(average)
        variables = [*model.variables, *model.optimizer.variables]
        options = {"save_seconds": 1e9, **options}
        super().__init__(
            model,
            batches(),
            epochs=EPOCHS,
            checkpoints=Checkpoints(folder, variables),
            validate=self._score,
            progress=Progress(BATCHES, EPOCHS, BATCH, verbose=0),
            **options,
        )

    def _score(self, check):
        epoch = len(self.history)
        if self._at == (epoch, None):
            os.kill(os.getpid(), signal.SIGTERM)
        return Distribution().evaluate(self.model, batches()(0, BATCHES - 1), check)

    def after_batch(self, epoch, batch, logs):
        """As a loop, after what a test wants to happen there."""
        if self._before:
            self._before(self.model, (epoch, batch))
        if self._at == (epoch, batch):
            os.kill(os.getpid(), signal.SIGTERM)
        super().after_batch(epoch, batch, logs)

    def values(self):
        """All that training changes, as arrays."""
        variables = [*self.model.variables, *self.model.optimizer.variables]
        return [np.array(keras.ops.convert_to_numpy(v)) for v in variables]
