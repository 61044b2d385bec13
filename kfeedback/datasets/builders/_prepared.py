"""For builders that compose a set from another: reading that, and scenes with boxes."""

import os

import tensorflow_datasets as tfds

from kfeedback.datasets.objects import CANVAS_SIZE


def read_prepared(name, data_dir):
    """Reads the training and test sets of a TFDS image set, as arrays.

    The set is taken from `data_dir`, from the folder in the environment variable
    `TFDS_DATA_DIR` or from TFDS' own, whichever holds it first; if none does, TFDS
    downloads it into the first of them that is given.

    Args:
        name: the name of a TFDS set with the features `image` and `label`.
        data_dir: the folder to look in first, or `None`.

    Returns:
        A dict with the keys `"train"` and `"test"` of pairs `(images, labels)`: uint8
        `(N, H, W, C)` and int64 `(N,)`, in the order in which TFDS has them.
    """
    folders = [data_dir, os.environ.get("TFDS_DATA_DIR"), tfds.core.constants.DATA_DIR]
    builders = [tfds.builder(name, data_dir=f) for f in folders if f]
    builder = next((b for b in builders if b.is_prepared()), builders[0])
    builder.download_and_prepare()
    read = {}
    for split in ("train", "test"):
        arrays = tfds.as_numpy(builder.as_dataset(split=split, batch_size=-1))
        read[split] = arrays["image"], arrays["label"]
    return read


def objects_feature(label):
    """The TFDS feature of the objects in a scene, from that of their labels."""
    return tfds.features.Sequence({"label": label, "bbox": tfds.features.BBoxFeature()})


def example(number, scene, placed):
    """A scene as TFDS keeps it.

    Args:
        number: of the scene in its split.
        scene: uint8 `(CANVAS_SIZE, CANVAS_SIZE, C)`.
        placed: list of `(label, source, (top, left, bottom, right))`, in pixels.

    Returns:
        dict with `image`, `image/id` and `objects`.
    """
    objects = [
        {"label": label, "bbox": tfds.features.BBox(*(p / CANVAS_SIZE for p in box))}
        for label, _, box in placed
    ]
    return {"image": scene, "image/id": number, "objects": objects}
