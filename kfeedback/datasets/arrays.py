"""Data sets as NumPy arrays, without TensorFlow.

`load_arrays` reads what ships with the package or lies in an `.npz` file;
`ArrayDataset` feeds arrays to `model.fit` on every Keras backend.
"""

import dataclasses
import io
import itertools
import pathlib
import zipfile
import zlib

import keras
import numpy as np

from kfeedback import checks
from kfeedback.datasets._arguments import keep_classes, near, split_bounds

ARRAY_NAMES = ("mnist_background_images_sample", "synthetic")
"""The names that `load_arrays` takes besides a path ending in `.npz`."""

SAMPLE_PATH = pathlib.Path(__file__).parent / "sample" / "mnist_background_images.npz"

SYNTHETIC_EXAMPLES = {"train": 2_000, "test": 500}


@dataclasses.dataclass(frozen=True)
class DatasetInfo:
    """What a loaded data set is.

    Attributes:
        name: the name it was loaded by.
        split: the split it was loaded from, slice included.
        num_examples: examples in that split.
        num_classes: classes in the data set.
        image_shape: `(height, width, channels)`.
        class_names: one name per class, in the order of the labels.
        multi_label: whether an image may be of several classes, or of none: its label
            is then a vector of zeros and ones, one per class.
    """

    name: str
    split: str
    num_examples: int
    num_classes: int
    image_shape: tuple[int, int, int]
    class_names: tuple[str, ...]
    multi_label: bool = False


def load_arrays(name, split, *, data_dir=None, seed=0, classes=None):
    """Load a data set into memory.

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
        ValueError: if the name, the split, the classes or the content of a file is not
            as above, or no example is left.
        ImportError: if there are JPEG files to decode and Pillow is missing.
    """
    if name == "synthetic":
        images, labels, count = _synthetic(split, checks.integer("seed", seed, 0))
    elif name == "mnist_background_images_sample":
        images, labels, count = _read_npz(SAMPLE_PATH, split)
    elif str(name).endswith(".npz"):
        images, labels, count = _read_npz(
            pathlib.Path(data_dir or ".", name).expanduser(), split
        )
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
    if classes is not None:
        info, table = keep_classes(info, classes, lambda t: (t[labels] >= 0).sum())
        kept = table[labels] >= 0
        images, labels = images[kept], table[labels[kept]]
    return images, labels, info


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


def _read_npz(path, split):
    if not path.is_file():
        raise ValueError(f"name must be the path of a file, got {path}.")
    try:
        file = np.load(path, allow_pickle=False)
        return _read_arrays(file, path, split)
    except (zipfile.BadZipFile, EOFError, zlib.error) as error:
        raise ValueError(
            f"name must be the path of an undamaged .npz file, got {path}: {error}."
        ) from error


def _read_arrays(file, path, split):
    with file:
        labels = {}
        for key in file.files:
            if key.startswith("y_"):
                labels[key.removeprefix("y_")] = file[key]
            elif key.endswith("_labels"):
                labels[key.removesuffix("_labels")] = file[key]
        labels = {k: _check_labels(path, k, v) for k, v in labels.items()}
        name, start, stop = split_bounds(split, {k: len(v) for k, v in labels.items()})
        if f"x_{name}" in file.files:
            images = file[f"x_{name}"]
            count = len(images)
            images = images[start:stop]
        elif {f"{name}_jpeg", f"{name}_ends"} <= set(file.files):
            data, ends = file[f"{name}_jpeg"], file[f"{name}_ends"]
            count = len(ends)
            if ends[-1:] != len(data):
                raise ValueError(
                    f"The array {name}_ends in {path} must end with the length of "
                    f"{name}_jpeg, {len(data)}, got {ends[-1:]}."
                )
            images = _decode_jpeg(data, np.append(0, ends)[start : stop + 1])
        else:
            raise ValueError(f"The file {path} holds no images of the split {name!r}.")
    if images.ndim == 3:
        images = images[..., np.newaxis]
    if count != len(labels[name]) or images.ndim != 4 or images.dtype != np.uint8:
        raise ValueError(
            f"The images of the split {name!r} in {path} must be uint8 of shape (N, H, "
            f"W) or (N, H, W, C), one per label, got {images.dtype} {images.shape}."
        )
    widths = {v.shape[1:] for v in labels.values()}
    if len(widths) > 1:
        raise ValueError(
            f"The labels in {path} must be of one kind in every split, got shapes "
            f"{', '.join(str(v.shape) for v in labels.values())}."
        )
    (width,) = widths
    classes = (
        width[0] if width else 1 + max(int(v.max(initial=0)) for v in labels.values())
    )
    return images, labels[name][start:stop], classes


def _check_labels(path, name, labels):
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    several = labels.ndim == 2 and labels.shape[1] > 1
    if (
        (labels.ndim != 1 and not several)
        or labels.dtype.kind not in ("iub" if several else "iu")
        or labels.min(initial=0) < 0
        or (several and labels.max(initial=0) > 1)
    ):
        raise ValueError(
            f"The labels of the split {name!r} in {path} must be whole numbers of "
            "shape (N,) from 0 on, or zeros and ones of shape (N, classes), got "
            f"{labels.dtype} {labels.shape}."
        )
    return labels.astype(np.int32)


def _decode_jpeg(data, ends):
    try:
        from PIL import Image
    except ImportError as error:
        raise ImportError(
            "The JPEG files of this data set are decoded by Pillow, which is missing; "
            "install it with `pip install kfeedback[data]`."
        ) from error
    images = []
    for start, stop in itertools.pairwise(ends):
        with Image.open(io.BytesIO(data[start:stop].tobytes())) as image:
            images.append(np.asarray(image))
    return np.stack(images)


def epoch_plan(count, seed, epoch, shuffle=True, flip=False, shift=0):
    """Draw the order and the augmentation of one epoch: a pure function.

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


def augment(images, flips, offsets):
    """Mirror and translate a batch of images; what enters repeats the edge.

    Args:
        images: array `(B, H, W, C)`.
        flips: bool `(B,)`, the images to mirror left to right.
        offsets: int `(B, 2)`, pixels down and right (after mirroring).

    Returns:
        An array like `images`.
    """
    height, width = images.shape[1:3]
    rows = np.clip(np.arange(height) - offsets[:, :1], 0, height - 1)
    columns = np.clip(np.arange(width) - offsets[:, 1:], 0, width - 1)
    columns = np.where(flips[:, None], width - 1 - columns, columns)
    batch = np.arange(len(images))[:, None, None]
    return images[batch, rows[:, :, None], columns[:, None, :]]


class ArrayDataset(keras.utils.PyDataset):
    """Feed arrays to `model.fit`, shuffled and augmented by (seed, epoch).

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
        shift: greatest random translation in pixels; what enters repeats the edge.
        initial_epoch: the epoch to start with.

    Raises:
        ValueError: if an argument is not as above.
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
        """Return the batch `index` of the epoch `epoch`: a pure function."""
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
            images = augment(images, flips, offsets)
        images = images.astype(np.float32)
        if self.preprocess is not None:
            images = self.preprocess(images)
        return images, self.labels[order]

    def on_epoch_begin(self):
        """Start counting the batches of an epoch."""
        self._asked = 0

    def on_epoch_end(self):
        """Go on to the next epoch if this one's batches were all asked for."""
        if self._asked is not None and self._asked >= len(self):
            self.epoch += 1
        self._asked = None
