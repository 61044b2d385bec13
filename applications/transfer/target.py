"""The data that applications.transfer transfers to."""

import time

import numpy as np

from applications.common import data, scores
from applications.common.models import predict_all
from kfeedback import checks
from kfeedback.datasets import ArrayDataset


class Target:
    """The data transferred to.

    Args:
        settings: `Settings`.
        source: the model that they have to fit.
        preprocess: function of a batch.

    Raises:
        ValueError: if they do not, or there are fewer than two classes.
    """

    def __init__(self, settings, source, preprocess):
        self._settings, self._preprocess = settings, preprocess
        self.train, self.info = data.load(settings, settings.train_split, preprocess)
        self.test, self.test_info = data.load(settings, settings.eval_split, preprocess)
        self.count = self.info.num_examples
        _check_images(source, self.info)
        if self.info.num_classes < 2 and not self.info.multi_label:
            raise ValueError(
                "--classes must keep at least two classes of "
                f"{self.info.name}, got {self.info.num_classes}."
            )
        if self.info.multi_label:
            scores.require_sklearn()

    def embed(self, model):
        """Computes the embeddings `(N, T, ...)` of both splits."""
        start = time.time()
        predict = model.predict_on_batch
        self.train_embeddings, self.train_labels = predict_all(predict, self.train)
        _check_classes(self.train_labels, self.info)
        self.test_embeddings, self.test_labels = predict_all(predict, self.test)
        scores.check_labels("eval_split", self.test_labels, self.test_info)
        count = self.count + self.test_info.num_examples
        seconds = time.time() - start
        print(f"embedded {count} images in {seconds:.1f} s")

    def embedded_batches(self):
        """The embeddings of the training split in the order of `batches`."""
        found = self.train_embeddings
        return ArrayDataset(
            found.reshape(len(found), 1, 1, -1),  # as it takes images alone
            self.train_labels,
            self._settings.batch_size,
            shuffle=True,
            seed=self._settings.seed,
            preprocess=lambda x: x.reshape(len(x), *found.shape[1:]),
        )

    def batches(self):
        """The training split in an order of its own every epoch, from the first one."""
        return data.load_training(self._settings, self._preprocess)[0]


def _check_images(source, info):
    shape = source.input_shape[1:]
    if checks.fits(info.image_shape, shape):
        return
    got = f"got {info.name} with {info.image_shape}."
    if len(shape) != 3 or shape[2] != info.image_shape[2]:
        raise ValueError(
            "--dataset must have images of as many channels as those of --run, "
            f"{shape}, {got}"
        )
    raise ValueError(
        f"--image_size must be given, such as --image_size={shape[0]}, where images "
        f"are of another size than those of --run, {shape}, {got}"
    )


def _check_classes(labels, info):
    """Refuses training data in which a class never, or always, occurs."""
    if info.multi_label:
        counts = labels.sum(0)
        lacks = (counts == 0) | (counts == len(labels))
        wanted = "an example with and one without every class"
    else:
        counts = np.bincount(labels.reshape(-1), minlength=info.num_classes)
        lacks = counts == 0
        wanted = "an example of every class"
    if lacks.any():
        names = [info.class_names[place] for place in np.flatnonzero(lacks)]
        raise ValueError(
            f"--train_split must hold {wanted} of {info.name}, got {info.split} "
            f"without one for {', '.join(names)}."
        )
