"""Reading what TFDS has prepared, for builders that compose a set from another."""

import os

import tensorflow_datasets as tfds


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
