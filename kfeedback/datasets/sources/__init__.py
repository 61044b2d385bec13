"""Where examples come from: each module of this package registers one source.

A new source is one new file that ends with `SOURCES.add("its name", ItsSource())`.
"""

import abc
import dataclasses
import re
from collections.abc import Callable

import numpy as np

from kfeedback import images as pixels
from kfeedback.datasets.arguments import keep_classes, near
from kfeedback.datasets.info import DatasetInfo
from kfeedback.registry import Registry

SOURCES = Registry("kfeedback.datasets.sources")

FULL_BUFFER = 100_000
LARGE_BUFFER = 10_000


class Source(abc.ABC):
    """What a source has to say.

    Attributes:
        kinds: the names it takes, for an error: `"a path that ends in .npz"`.
        last: whether it is asked after all others.
    """

    kinds = ""
    last = False

    def names(self):
        """Names to propose to who mistypes one."""
        return []

    @abc.abstractmethod
    def takes(self, name, data_dir):
        """Whether a name, a text or a path, is that of a data set of this source."""

    @abc.abstractmethod
    def open(self, name, split, *, data_dir, manual_dir, image_size):
        """Finds the examples of a split; the arguments are those of `load`.

        Args:
            name: one that it takes.
            split: text; `datasets.arguments.split_bounds` reads one such as
                `"train[:90%]"`.
            data_dir, manual_dir: text without `~`, or `None`.
            image_size: `(height, width)`, to which it resizes by
                `kfeedback.images.resize`, or `None`.

        Returns:
            `Examples`.

        Raises:
            ValueError: if there is no such split, or an argument is not as above.
        """


def open_split(name, split, *, data_dir, manual_dir, image_size):
    """Finds the source of a data set and opens it there; arguments as `Source.open`.

    Raises:
        ValueError: if no source takes the name.
    """
    sources = sorted(SOURCES.entries().values(), key=lambda source: source.last)
    for source in sources:
        if source.takes(name, data_dir):
            found = source.open(
                name,
                split,
                data_dir=data_dir,
                manual_dir=manual_dir,
                image_size=image_size,
            )
            shape = tuple(found.info.image_shape[:2])
            if image_size is not None and shape != tuple(image_size):
                raise ValueError(
                    f"image_size must be one that {str(name)!r} can give, {shape}, got "
                    f"{tuple(image_size)}."
                )
            return found
    raise unknown(name)


def unknown(name):
    """The `ValueError` for a name that no source takes."""
    sources = SOURCES.entries().values()
    known = [known for source in sources for known in source.names()]
    return ValueError(
        f"name must be {' or '.join(source.kinds for source in sources)}, got "
        f"{str(name)!r}{near(str(name), known)}"
    )


@dataclasses.dataclass(frozen=True)
class Examples:
    """The examples of one split, before they are shuffled and batched.

    Attributes:
        info: the `DatasetInfo`.
        arrays: `(images, labels)`, uint8 `(N, H, W, C)` and int32 `(N,)` or
            `(N, classes)`; or `None`, then there are
        stream: a function of a shuffle seed (an int64 tensor, or `None` for the order
            they lie in) that gives a `tf.data.Dataset` of encoded examples, pairs
            `(key, label)`; and
        decode: a function of the two, and of a function of an image that crops it
            before it is resized, or `None`, that gives `(image, label)`, as tensors.
        blame: `None`, or a function of a key, as bytes, which is called where `decode`
            failed and raises a `ValueError` that names the file.
    """

    info: DatasetInfo
    arrays: tuple | None = None
    stream: Callable | None = None
    decode: Callable | None = None
    blame: Callable | None = None

    def decoded(self, seed, skip=0, crop=None, seeds=None):
        """A `tf.data.Dataset` of `(image, label)`, decoded in parallel.

        Args:
            seed: that `stream` takes.
            skip: so many are read, but not decoded.
            crop: a function of an image and its seed, or `None`.
            seeds: `tf.data.Dataset` of those seeds, after the skipped ones.
        """
        import tensorflow as tf

        stream = self.stream(seed).skip(skip)
        if seeds is None:
            seeds = tf.data.Dataset.from_tensors(0).repeat()

        def decode(example, seed):
            cropped = None if crop is None else lambda image: crop(image, seed)
            return self.decode(*example, cropped)

        if self.blame is None:
            return tf.data.Dataset.zip(stream, seeds).map(decode, tf.data.AUTOTUNE)

        def keyed(example, seed):
            return example[0], *decode(example, seed)

        # What cannot be decoded is left out, and from there on keys differ.
        found = tf.data.Dataset.zip(stream, seeds).map(keyed, tf.data.AUTOTUNE)
        found = found.ignore_errors()
        blank = tf.zeros(self.info.image_shape, tf.uint8)
        label = tf.zeros(found.element_spec[2].shape, tf.int32)
        end = tf.data.Dataset.from_tensors((tf.constant(b""), blank, label))

        def check(example, found):
            key, image, label = found
            checked = tf.cond(
                key == example[0],
                lambda: True,
                lambda: tf.numpy_function(self.blame, [example[0]], tf.bool),
            )
            with tf.control_dependencies([checked]):
                return tf.identity(image), label

        return tf.data.Dataset.zip(stream, found.concatenate(end)).map(check)

    def in_memory(self, crop=None):
        """The same examples, decoded into arrays; `crop` as in `decoded`.

        Raises:
            ValueError: if one cannot be decoded; the error names its file.
        """
        if self.arrays:
            return self
        import tensorflow as tf

        info = self.info
        images = np.empty((info.num_examples, *info.image_shape), np.uint8)
        width = [info.num_classes] if info.multi_label else []
        labels = np.empty([info.num_examples, *width], np.int32)
        start = 0
        batches = self.decoded(None, crop=crop).batch(256).prefetch(2)
        try:
            for batch in batches.as_numpy_iterator():
                stop = start + len(batch[1])
                images[start:stop], labels[start:stop] = batch
                start = stop
        except tf.errors.OpError as error:
            blamed = self.blame and said(error)
            if not blamed:
                raise
            raise ValueError(blamed) from None
        return Examples(info, (images, labels))

    def resized(self, size):
        """Examples in arrays as a stream, resized to `size` as they are decoded."""
        import tensorflow as tf

        with tf.device("CPU"):  # once, for all epochs
            images, labels = map(tf.constant, self.arrays)
        count = len(images)

        def stream(seed):
            dataset = tf.data.Dataset.range(count)
            if seed is not None:
                dataset = shuffle(dataset, count, seed)
            return dataset.map(lambda index: (index, labels[index]))

        def decode(index, label, crop):
            image = images[index]
            return pixels.resize(crop(image) if crop else image, size), label

        shape = (*size, self.info.image_shape[-1])
        info = dataclasses.replace(self.info, image_shape=shape)
        return Examples(info, stream=stream, decode=decode)

    def keep(self, classes):
        """The examples of some classes; to count those of a stream, it is read once.

        Args:
            classes: as in `kfeedback.datasets.load_arrays`.

        Raises:
            ValueError: if `classes` is not as there, or no example is left.
        """
        if self.arrays:
            images, labels = self.arrays
            info, table = keep_classes(
                self.info, classes, lambda table: (table[labels] >= 0).sum()
            )
            kept = table[labels] >= 0
            return Examples(info, (images[kept], table[labels[kept]]))
        import tensorflow as tf

        def kept(table, seed):
            # Not by tf.gather: the label of an unlabeled example is -1.
            wanted = np.flatnonzero(table >= 0).astype(np.int32)
            return self.stream(seed).filter(
                lambda _, label: tf.reduce_any(tf.cast(label, tf.int32) == wanted)
            )

        def count(table):
            return kept(table, None).reduce(0, lambda total, _: total + 1)

        info, table = keep_classes(self.info, classes, count)

        def decode(key, label, crop):
            image, label = self.decode(key, label, crop)
            return image, tf.gather(table, label)

        return dataclasses.replace(
            self, info=info, stream=lambda seed: kept(table, seed), decode=decode
        )


def said(error):
    """The sentence of the `ValueError` in an error that `tf.data` raises, or `None`."""
    is_theirs = type(error).__module__.startswith("tensorflow")
    found = re.search(r"ValueError: (.*)", str(error)) if is_theirs else None
    return found and found[1]


def shuffle(dataset, buffer, seed):
    """A `tf.data.Dataset`, shuffled by a buffer of so many examples."""
    import tensorflow as tf

    # Called while `flat_map` traces a function: this sets the seed of its graph only,
    # so that the order does not depend on the global seed (TF cannot take 0 here).
    tf.random.set_seed(1)
    return dataset.shuffle(buffer, seed=seed, reshuffle_each_iteration=False)
