"""Images with objects, some at a time, and how much time is left."""

import datetime
import itertools
import sys
import time

import keras
import numpy as np

from applications.common.models import check_class_names
from kfeedback import checks
from kfeedback.datasets import stream_boxes

_SIZE = 16  # images; memory depends on it


class Chunk:
    """Some images, and the targets in them: a class and all its objects in an image.

    Args:
        examples: list of N `BoxedImage`s.

    Attributes:
        examples: the same.
        images: uint8 `(N, H, W, C)`.
        index: int64 `(M,)`, the image of each target.
        labels: int32 `(M,)`, its class.
        boxes: M int64 arrays `(k, 4)`.
    """

    def __init__(self, examples):
        if len({one.image.shape for one in examples}) > 1:
            raise ValueError("--image_size must be given, as images differ in size.")
        targets = [
            (n, label, one.boxes[one.labels == label])
            for n, one in enumerate(examples)
            for label in np.unique(one.labels)
        ]
        index, labels, self.boxes = zip(*targets, strict=True)
        self.examples, self.images = examples, np.stack([x.image for x in examples])
        self.index, self.labels = np.array(index), np.array(labels, np.int32)

    @property
    def pictures(self):
        """The image of each target: float32 `(M, H, W, C)`."""
        return self.images[self.index].astype(np.float32)


def open_stream(settings, network, split, count):
    """The images of a split, as the flags say."""
    size = own = network.model.inputs[0].shape[1:3]
    if settings.image_size:
        size = settings.image_size, settings.image_size
    if not checks.fits(size, own):
        raise ValueError(
            f"--image_size must be what the model takes, {own[0]} × {own[1]} pixels, "
            f"got {settings.image_size}."
        )
    class_names = settings.names()
    try:
        found = stream_boxes(
            settings.dataset,
            split,
            image_size=None if None in size else size,
            center_crop=settings.center_crop,
            data_dir=settings.data_dir,
            class_names=class_names,
            count=count,
        )
    except ValueError as error:
        raise ValueError(f"--dataset={settings.dataset}: {error}") from error
    names = found.class_names
    if names and len(names) != network.classes:
        raise ValueError(
            f"--dataset must have the {network.classes} classes of the model, got "
            f"{settings.dataset} with {len(names)}; --class_names names those of a "
            "folder."
        )
    if not settings.class_names:  # else they say what the classes of the data are
        check_class_names("run", class_names, settings.dataset, names)
    return found


def chunks(stream, what):
    """The images of a stream that have objects, as `Chunk`s; says how long it takes.

    Args:
        stream: `BoxStream`.
        what: what is done, for the line after the first chunk.
    """
    total, start = len(stream), time.monotonic()
    bar = keras.utils.Progbar(total, unit_name="image", verbose=sys.stdout.isatty())
    images, done, found = iter(stream), 0, False
    while some := list(itertools.islice(images, _SIZE)):
        done += len(some)
        some = [one for one in some if len(one.labels)]
        if some:
            found = True
            yield Chunk(some)
        if done == _SIZE < total:
            left = (time.monotonic() - start) / done * (total - done)
            left = datetime.timedelta(seconds=round(left))
            print(f"{what}: {done} of {total} images, at most {left} left", flush=True)
        bar.update(done)
    if not found:
        raise ValueError(f"--dataset must have images with boxes, got none for {what}.")
