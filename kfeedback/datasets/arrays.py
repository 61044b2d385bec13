"""Data sets as NumPy arrays, without TensorFlow.

`load_arrays` reads what ships with the package or lies in an `.npz` file;
`ArrayDataset` feeds arrays to `model.fit` on every Keras backend.
"""

import pathlib

import keras
import numpy as np

from kfeedback import checks
from kfeedback.datasets import npz
from kfeedback.datasets.arguments import near, split_bounds
from kfeedback.datasets.info import DatasetInfo
from kfeedback.datasets.sources import Examples

ARRAY_NAMES = ("mnist_background_images_sample", "synthetic")
"""The names that `load_arrays` takes besides a path ending in `.npz`."""

SAMPLE_PATH = pathlib.Path(__file__).parent / "sample" / "mnist_background_images.npz"

FILLS = ("edge", "zero")

SYNTHETIC_EXAMPLES = {"train": 2_000, "test": 500}


def load_arrays(name, split, *, data_dir=None, seed=0, classes=None):
    """Loads a data set into memory.

    Args:
        name: one of

            - `"mnist_background_images_sample"`: 6,000 training and 1,200 test images
              of MNIST-background-image, 28x28x1, all classes equally frequent.
            - `"synthetic"`: 2,000 training and 500 test images, 32x32x3, 10 classes
              equally frequent: class k is a grating turned by 18 k degrees, of random
              phase, contrast and color, under noise. (Mirrored, class k looks like
              class 10 - k.)
            - a path that ends in `.npz`, of a file that holds for each split either
              the arrays `x_<split>` (uint8 `(N, H, W)` or `(N, H, W, C)`) and
              `y_<split>`, or `<split>_jpeg` (uint8: all JPEG files end to end),
              `<split>_ends` (where each file ends) and `<split>_labels`. Labels are
              whole numbers from 0 on, `(N,)` or `(N, 1)`, or, where an image may be of
              several classes, zeros and ones `(N, classes)` in every split.
        split: the name of a split, sliced as in TFDS if wanted: `"train[:90%]"`,
            `"test[100:200]"`, `"train[-10%:]"`; a boundary in percent is rounded to
            the closest example.
        data_dir: the folder that a relative `.npz` path starts from; default: the
            current one.
        seed: seed of `"synthetic"`; the other data sets do not depend on it.
        classes: names or indices of the classes to keep; of the sliced split, examples
            of other classes are left out, and labels count the classes from 0 on in
            the order of this list. Default: all. Not for multi-label sets.

    Returns:
        `(images, labels, info)`: uint8 `(N, H, W, C)` with values 0 to 255, int32
        `(N,)` or, if `info.multi_label`, `(N, classes)`, and a `DatasetInfo`.

    Raises:
        TypeError: if `data_dir` is no path.
        ValueError: if the name, the split, the classes or the content of a file is not
            as above, or no example is left.
        ImportError: if there are JPEG files to decode and Pillow is missing.

    Example:
        >>> images, labels, info = load_arrays("synthetic", "train[:90%]")
        >>> images.shape, labels.shape, info.num_classes
        ((1800, 32, 32, 3), (1800,), 10)
    """
    if name == "synthetic":
        images, labels, count = _synthetic(split, checks.integer("seed", seed, 0))
    elif name == "mnist_background_images_sample":
        images, labels, count = npz.read(SAMPLE_PATH, split)
    elif str(name).endswith(".npz"):
        folder = checks.path("data_dir", "." if data_dir is None else data_dir)
        images, labels, count = npz.read(folder / checks.path("name", name), split)
    else:
        raise ValueError(
            f"name must be {' or '.join(map(repr, ARRAY_NAMES))} or a path "
            f"that ends in .npz, got {name!r}{near(str(name), ARRAY_NAMES)}"
        )
    info = DatasetInfo(
        name=str(name),
        split=split,
        num_examples=len(images),
        num_classes=count,
        image_shape=images.shape[1:],
        class_names=tuple(map(str, range(count))),
        multi_label=labels.ndim == 2,
    )
    examples = Examples(info, (images, labels))
    if classes is not None:
        examples = examples.keep(classes)
    return *examples.arrays, examples.info


def _synthetic(split, seed):
    name, start, stop = split_bounds(split, SYNTHETIC_EXAMPLES)
    count, classes, size = SYNTHETIC_EXAMPLES[name], 10, 32
    rng = np.random.default_rng([seed, list(SYNTHETIC_EXAMPLES).index(name)])
    labels = rng.permutation(np.arange(count) % classes)
    angle = np.pi * labels / classes
    phase = rng.uniform(0, 2 * np.pi, count)
    contrast = rng.uniform(30, 60, count)
    color = rng.uniform(0.5, 1, (count, 1, 1, 3))
    y, x = np.mgrid[:size, :size] / size
    across = np.multiply.outer(np.cos(angle), x) + np.multiply.outer(np.sin(angle), y)
    waves = np.cos(6 * np.pi * across + phase[:, None, None])
    images = 128 + contrast[:, None, None, None] * color * waves[..., None]
    images += rng.normal(0, 30, images.shape)
    images = np.clip(np.rint(images), 0, 255).astype(np.uint8)
    return images[start:stop], labels[start:stop].astype(np.int32), classes


def epoch_plan(count, seed, epoch, shuffle=True, flip=False, shift=0):
    """Draws the order and the augmentation of one epoch: a pure function.

    Args:
        count: number of examples.
        seed, epoch: what the draws depend on, whole numbers from 0 on.
        shuffle: whether the order is random.
        flip: whether half of the images, at random, are mirrored.
        shift: the greatest translation in pixels, either way, down and right.

    Returns:
        `(order, flips, offsets)`: int64 `(count,)`, the examples in turn; bool
        `(count,)` and int32 `(count, 2)`, for the image at each place of that order.
    """
    rng = np.random.default_rng([seed, epoch])
    order = rng.permutation(count)
    flips = rng.random(count) < 0.5
    offsets = rng.integers(-shift, shift + 1, (count, 2), dtype=np.int32)
    if not shuffle:
        order = np.arange(count)
    return order, flips & flip, offsets


def augment(images, flips, offsets, fill="edge"):
    """Mirrors and translates a batch of images.

    Args:
        images: array `(B, H, W, C)`.
        flips: bool `(B,)`, the images to mirror left to right.
        offsets: int `(B, 2)`, pixels down and right (after mirroring).
        fill: what enters: `"edge"` repeats the edge, `"zero"` is 0.

    Returns:
        An array like `images`.
    """
    height, width = images.shape[1:3]
    reach = int(np.abs(offsets).max(initial=0))
    edges = (0, 0), (reach, reach), (reach, reach), (0, 0)
    padded = np.pad(images, edges, mode="edge" if fill == "edge" else "constant")
    found = np.empty_like(images)
    # Image by image: copies of rows are faster than looking up every pixel.
    for k, (down, right) in enumerate(offsets.tolist()):
        top, left = reach - down, reach + (right if flips[k] else -right)
        part = padded[k, top : top + height, left : left + width]
        found[k] = part[:, ::-1] if flips[k] else part
    return found


class ArrayDataset(keras.utils.PyDataset):
    """Feeds arrays to `model.fit`, shuffled and augmented by (seed, epoch).

    Item i is the batch i of the current epoch: `(images, labels)`, float32
    `(B, H, W, C)` (0 to 255 before `preprocess`) and the labels, `(B,)` or
    `(B, classes)`; the last batch may be smaller. The n-th epoch of `fit` is the epoch
    `initial_epoch + n` here, so that training which goes on with `initial_epoch=n` sees
    what it would have seen without the stop. Call `fit(..., shuffle=False)`: by default
    Keras asks for the batches in an order of its own. Outside `fit`,
    `batch(epoch, index)` gives any batch.

    Keras may look at a few batches before the first epoch; an epoch counts if as many
    batches as there are were asked for between `on_epoch_begin` and `on_epoch_end`.

    Args:
        images: array `(N, H, W, C)`.
        labels: array `(N,)`, or `(N, classes)` where an image may be of several.
        batch_size: examples per batch.
        shuffle: whether each epoch has an order of its own.
        seed: what order and augmentation depend on, together with the epoch.
        preprocess: a function of a float32 batch, applied last.
        flip: whether to mirror each image left to right with probability 1/2.
        shift: greatest random translation in pixels.
        shift_fill: what enters then: `"edge"` repeats the edge, `"zero"` is black.
        initial_epoch: the epoch to start with.

    Raises:
        ValueError: if an argument is not as above.

    Example:
        >>> images, labels, _ = load_arrays("synthetic", "train")
        >>> data = ArrayDataset(images, labels, shuffle=True, flip=True)
        >>> model.fit(data, epochs=10, shuffle=False)
    """

    def __init__(
        self,
        images,
        labels,
        batch_size=128,
        *,
        shuffle=False,
        seed=0,
        preprocess=None,
        flip=False,
        shift=0,
        shift_fill="edge",
        initial_epoch=0,
    ):
        super().__init__()
        if (
            images.ndim != 4
            or labels.ndim not in (1, 2)
            or len(images) != len(labels)
            or not len(images)
        ):
            raise ValueError(
                "Arguments `images` and `labels` must have shapes (N, H, W, C) and "
                f"(N,) or (N, classes), got {images.shape} and {labels.shape}."
            )
        self.images, self.labels = images, labels
        self.batch_size = checks.integer("batch_size", batch_size, 1)
        self.seed = checks.integer("seed", seed, 0)
        self.shuffle, self.flip = bool(shuffle), bool(flip)
        self.shift = checks.integer("shift", shift, 0)
        self.shift_fill = checks.one_of("shift_fill", shift_fill, FILLS)
        self.preprocess = preprocess
        self.epoch = checks.integer("initial_epoch", initial_epoch, 0)
        self._asked = None
        self._plan = None, None

    def __len__(self):
        return -(-len(self.images) // self.batch_size)

    def __getitem__(self, index):
        if self._asked is not None:
            self._asked += 1
        return self.batch(self.epoch, index)

    def batch(self, epoch, index):
        """The batch `index` of the epoch `epoch`: a pure function.

        Args:
            epoch: int ≥ 0.
            index: int ≥ 0, less than the number of batches.
        """
        if not 0 <= index < len(self):
            raise IndexError(f"There are {len(self)} batches, got index {index}.")
        planned, plan = self._plan
        if planned != epoch:
            plan = epoch_plan(
                len(self.images), self.seed, epoch, self.shuffle, self.flip, self.shift
            )
            self._plan = epoch, plan
        part = slice(index * self.batch_size, (index + 1) * self.batch_size)
        order, flips, offsets = (p[part] for p in plan)
        images = self.images[order]
        if self.flip or self.shift:
            images = augment(images, flips, offsets, self.shift_fill)
        images = images.astype(np.float32)
        if self.preprocess is not None:
            images = self.preprocess(images)
        return images, self.labels[order]

    def of_epoch(self, epoch, batch=0):
        """The batches of one epoch from a batch on, as a `keras.utils.PyDataset`.

        Args:
            epoch: int ≥ 0.
            batch: int ≥ 0, the first one that is given.
        """
        return _Rest(self, epoch, batch)

    def on_epoch_begin(self):
        """Starts counting the batches of an epoch."""
        self._asked = 0

    def on_epoch_end(self):
        """Goes on to the next epoch if this one's batches were all asked for."""
        if self._asked is not None and self._asked >= len(self):
            self.epoch += 1
        self._asked = None


class _Rest(keras.utils.PyDataset):
    """The batches of one epoch from one on."""

    def __init__(self, batches, epoch, first):
        super().__init__()
        self._batches, self._epoch, self._first = batches, epoch, first

    def __len__(self):
        return len(self._batches) - self._first

    def __getitem__(self, index):
        return self._batches.batch(self._epoch, self._first + index)
