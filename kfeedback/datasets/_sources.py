"""Where the loader's examples come from: arrays, TFDS or a folder of images."""

import dataclasses
import importlib
import os
import pathlib
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from kfeedback.datasets._arguments import keep_classes, near, split_bounds
from kfeedback.datasets.arrays import ARRAY_NAMES, DatasetInfo, load_arrays

FULL_BUFFER = 100_000
LARGE_BUFFER = 10_000

_SUFFIXES = {".bmp", ".gif", ".jpeg", ".jpg", ".png"}
_BUILDERS = {
    "cifar10_objects": "Cifar10Objects",
    "cluttered_mnist": "ClutteredMnist",
    "mnist_background_images": "MnistBackgroundImages",
}
"""Module of this package, which is the name of the data set -> its builder."""


@dataclasses.dataclass(frozen=True)
class Source:
    """The examples of one split, before they are shuffled and batched.

    Attributes:
        info: what they are.
        arrays: `(images, labels)`, uint8 `(N, H, W, C)` and int32 `(N,)` or
            `(N, classes)`, or `None`.
        stream: a function of a shuffle seed (an int64 tensor, or `None` for the order
            they lie in) that gives a `tf.data.Dataset` of encoded examples.
        decode: a function of an encoded example that gives `(image, label)`.
    """

    info: DatasetInfo
    arrays: tuple | None = None
    stream: Callable | None = None
    decode: Callable | None = None

    def in_memory(self):
        """Return a source with the same examples, decoded into arrays."""
        if self.arrays:
            return self
        images = np.empty((self.info.num_examples, *self.info.image_shape), np.uint8)
        width = [self.info.num_classes] if self.info.multi_label else []
        labels = np.empty([self.info.num_examples, *width], np.int32)
        examples = self.stream(None).map(self.decode, tf.data.AUTOTUNE)
        start = 0
        for batch in examples.batch(256).prefetch(2).as_numpy_iterator():
            stop = start + len(batch[1])
            images[start:stop], labels[start:stop] = batch
            start = stop
        return Source(self.info, (images, labels))


def open_source(name, split, data_dir, manual_dir, image_size, classes):
    """Find a data set; the arguments are those of `load`."""
    name = os.fspath(name)
    if name in ARRAY_NAMES or name.endswith(".npz"):
        images, labels, info = load_arrays(
            name, split, data_dir=data_dir, classes=classes
        )
        if image_size is not None:
            resized = tf.data.Dataset.from_tensor_slices(images).map(
                lambda image: _resize(image, image_size), tf.data.AUTOTUNE
            )
            images = np.stack(list(resized.as_numpy_iterator()))
            info = dataclasses.replace(info, image_shape=images.shape[1:])
        return Source(info, (images, labels))
    if "/" in name and os.path.isdir(os.path.expanduser(name)):
        source = _open_folder(name, split, image_size)
    else:
        source = _open_tfds(name, split, data_dir, manual_dir, image_size)
    return source if classes is None else _keep(source, classes)


def _keep(source, classes):
    """The examples of some classes, as a stream; counting them reads all once."""

    def kept(table, seed):
        # Not by tf.gather: the label of an unlabeled example is -1.
        wanted = np.flatnonzero(table >= 0).astype(np.int32)
        return source.stream(seed).filter(
            lambda _, label: tf.reduce_any(tf.cast(label, tf.int32) == wanted)
        )

    def count(table):
        return kept(table, None).reduce(0, lambda total, _: total + 1)

    info, table = keep_classes(source.info, classes, count)

    def decode(encoded, label):
        image, label = source.decode(encoded, label)
        return image, tf.gather(table, label)

    return Source(info, stream=lambda seed: kept(table, seed), decode=decode)


def _open_folder(name, split, image_size):
    if image_size is None:
        raise ValueError(f"image_size must be given for the folder of images {name!r}.")
    root = pathlib.Path(name).expanduser()
    splits = {
        folder.name: sorted(
            file
            for file in folder.glob("*/*")
            if file.suffix.lower() in _SUFFIXES and file.is_file()
        )
        for folder in sorted(root.iterdir())
        if folder.is_dir()
    }
    splits = {split_name: files for split_name, files in splits.items() if files}
    if not splits:
        raise ValueError(
            "name must be a folder with one sub-folder per split, in it one "
            f"sub-folder of images per class, got {name!r}, which holds no image there."
        )
    chosen, start, stop = split_bounds(split, {k: len(v) for k, v in splits.items()})
    classes = sorted({file.parent.name for files in splits.values() for file in files})
    files = splits[chosen][start:stop]
    labels = np.array([classes.index(file.parent.name) for file in files], np.int32)
    paths = np.array([str(file) for file in files])

    def stream(seed):
        dataset = tf.data.Dataset.from_tensor_slices((paths, labels))
        return dataset if seed is None else _shuffle(dataset, len(files), seed)

    def decode(path, label):
        image = tf.io.decode_image(
            tf.io.read_file(path), channels=3, expand_animations=False
        )
        return _resize(image, image_size), label

    info = DatasetInfo(
        name, split, len(files), len(classes), (*image_size, 3), tuple(classes)
    )
    return Source(info, stream=stream, decode=decode)


def _open_tfds(name, split, data_dir, manual_dir, image_size):
    import tensorflow_datasets as tfds

    builder = find_builder(name, data_dir)
    features = builder.info.features
    image_key, label_key = builder.info.supervised_keys or ("image", "label")
    found = {k: features[k] for k in (image_key, label_key, "objects") if k in features}
    image, label = found.get(image_key), found.get(label_key)
    wanted = {image_key: True, label_key: True}
    multi_label = not isinstance(label, tfds.features.ClassLabel)
    if multi_label:
        objects = getattr(found.get("objects"), "feature", None)
        if isinstance(objects, tfds.features.FeaturesDict):
            label = dict(objects).get("label")
        wanted = {image_key: True, "objects": {"label"}}
    if (
        not isinstance(image, tfds.features.Image)
        or not isinstance(label, tfds.features.ClassLabel)
        or image.np_dtype != np.uint8
    ):
        raise ValueError(
            "name must be a set of uint8 images with a class label, or with objects "
            f"that have one, got {name!r}, whose features are {', '.join(features)}."
        )
    _prepare(builder, manual_dir)
    shape = *(image_size or image.shape[:2]), image.shape[2]
    if None in shape:
        raise ValueError(
            f"image_size must be given for {name!r}, whose images differ in size."
        )

    def read(seed=None):
        dataset = builder.as_dataset(
            split=split,
            shuffle_files=seed is not None,
            decoders=tfds.decode.PartialDecoding(
                wanted,
                decoders={image_key: tfds.decode.SkipDecoding()},
            ),
            read_config=tfds.ReadConfig(
                try_autocache=False,
                shuffle_seed=seed,
                shuffle_reshuffle_each_iteration=False,
            ),
        )
        return dataset.map(
            lambda example: (
                example[image_key],
                example["objects"]["label"] if multi_label else example[label_key],
            )
        )

    try:
        count = int(read().cardinality())
    except (AssertionError, KeyError, ValueError):
        raise ValueError(
            "split must select some examples of "
            f"{', '.join(map(repr, builder.info.splits))}, got {split!r}."
        ) from None

    def stream(seed):
        if seed is None:
            return read()
        return _shuffle(read(seed if count > FULL_BUFFER else None), count, seed)

    def decode(encoded, labels):
        decoded = image.decode_example(encoded)
        if image_size is not None:
            decoded = _resize(decoded, image_size)
        if multi_label:
            hot = tf.one_hot(labels, label.num_classes, dtype=tf.int32)
            labels = tf.minimum(tf.reduce_sum(hot, axis=0), 1)
        return tf.ensure_shape(decoded, shape), tf.cast(labels, tf.int32)

    info = DatasetInfo(
        name,
        split,
        count,
        label.num_classes,
        shape,
        tuple(label.names),
        multi_label,
    )
    return Source(info, stream=stream, decode=decode)


def find_builder(name, data_dir):
    import tensorflow_datasets as tfds

    if name in _BUILDERS:
        module = importlib.import_module(f"kfeedback.datasets.{name}")
        return getattr(module, _BUILDERS[name])(data_dir=data_dir)
    try:
        return tfds.builder(name, data_dir=data_dir)
    except ValueError as error:
        known = [*ARRAY_NAMES, *_BUILDERS, *tfds.list_builders()]
        raise ValueError(
            "name must be a TFDS data set, an existing folder of images "
            "(with a slash: './birds'), a path that ends in .npz, "
            f"{' or '.join(map(repr, ARRAY_NAMES))}, got {name!r}{near(name, known)}"
        ) from error


def _prepare(builder, manual_dir):
    import tensorflow_datasets as tfds

    if manual_dir is not None or not builder.is_prepared():
        config = tfds.download.DownloadConfig(manual_dir=manual_dir)
        builder.download_and_prepare(download_config=config)


def _shuffle(dataset, count, seed):
    # Called while `flat_map` traces a function: this sets the seed of its graph only,
    # so that the order does not depend on the global seed (TF cannot take 0 here).
    tf.random.set_seed(1)
    buffer = count if count <= FULL_BUFFER else LARGE_BUFFER
    return dataset.shuffle(buffer, seed=seed, reshuffle_each_iteration=False)


def _resize(image, size):
    image = tf.image.resize(image, size, antialias=True)
    return tf.saturate_cast(tf.round(image), tf.uint8)
