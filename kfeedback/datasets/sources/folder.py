"""Folders of images: one sub-folder per split, in it one per class."""

import os
import pathlib
import warnings

import numpy as np

from kfeedback import images
from kfeedback.datasets.arguments import is_path, readable, split_bounds, visible
from kfeedback.datasets.info import DatasetInfo
from kfeedback.datasets.sources import SOURCES, Examples, Source, shuffle

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png")


class Folder(Source):
    """Folders of images; what is read of them is written at `load`."""

    kinds = "an existing folder of images (with a slash: './birds')"

    def takes(self, name, data_dir):
        """As `Source.takes`."""
        return is_path(name) and os.path.isdir(os.path.expanduser(name))

    def open(self, name, split, *, data_dir, manual_dir, image_size):
        """As `Source.open`."""
        name = os.fspath(name)
        if image_size is None:
            raise ValueError(
                f"image_size must be given for the folder of images {name!r}."
            )
        splits, classes, others = _listed(pathlib.Path(name).expanduser())
        if not splits:
            raise ValueError(
                "name must be a folder with one sub-folder per split, in it one "
                f"sub-folder of images per class, got {name!r}, which holds no image "
                "there."
            )
        counts = {split: len(files) for split, files in splits.items()}
        chosen, start, stop = split_bounds(split, counts)
        if others[chosen]:
            warnings.warn(
                f"{name!r} holds in {chosen!r} what is no image in the folder of a "
                f"class and is left out: {len(others[chosen])} paths, the first "
                f"{str(others[chosen][0])!r}; images end in {', '.join(SUFFIXES)}.",
                stacklevel=4,  # the caller of `load`
            )
        files = splits[chosen][start:stop]
        index = {label: k for k, label in enumerate(classes)}
        labels = np.array([index[file.parent.name] for file in files], np.int32)
        keys = np.array([os.fsencode(file) for file in files], object)

        def stream(seed):
            import tensorflow as tf

            dataset = tf.data.Dataset.from_tensor_slices((tf.constant(keys), labels))
            return dataset if seed is None else shuffle(dataset, len(files), seed)

        def decode(key, label, crop):
            image = _decode(key)
            return images.resize(crop(image) if crop else image, image_size), label

        info = DatasetInfo(
            name,
            split,
            len(files),
            len(classes),
            (*image_size, 3),
            tuple(map(readable, classes)),
        )
        return Examples(info, stream=stream, decode=decode, blame=_blame)


def _listed(root):
    """Images by split, the names of all classes, and what is left out by split."""
    splits, classes, others = {}, set(), {}
    for split in filter(os.path.isdir, visible(root)):
        files, found, rest = [], set(), []
        for folder in visible(split):
            if not folder.is_dir():
                rest.append(folder)
                continue
            found.add(folder.name)
            inside = list(visible(folder))
            own = [x for x in inside if x.suffix.lower() in SUFFIXES and x.is_file()]
            rest += sorted(set(inside) - set(own))
            # All classes take turns: a part of a split has each of them in its share.
            places = [(n + 0.5) / len(own) for n in range(len(own))]
            files += zip(places, own, strict=True)
        if files:
            splits[split.name] = [file for _, file in sorted(files)]
            others[split.name] = rest
            classes |= found
    return splits, sorted(classes), others


def _decode(path):
    """The pixels of the file at a path, a string tensor."""
    import tensorflow as tf

    def by_pillow(path):
        return images.decode(os.fsdecode(path))

    contents = tf.io.read_file(path)
    image = tf.cond(
        images.is_png(contents) | images.is_jpeg(contents),
        lambda: images.decode(contents),
        lambda: tf.numpy_function(by_pillow, [path], tf.uint8),
    )
    return tf.ensure_shape(image, (None, None, 3))


def _blame(path):
    """Raises the error of an image that could not be decoded."""
    path = os.fsdecode(path)
    try:
        images.decode(path)
    except ImportError as error:
        raise ValueError(f"source must be a PNG or JPEG file, got {path!r}.") from error
    raise ValueError(f"source must be a whole image file, got {path!r}.")


SOURCES.add("folder", Folder())
