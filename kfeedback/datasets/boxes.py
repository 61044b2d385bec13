"""Images with the classes and boxes of their objects, one after another or at once."""

import dataclasses
import itertools
import os
import pathlib
from collections.abc import Callable, Iterator

import numpy as np

from kfeedback import checks, images
from kfeedback.datasets import voc
from kfeedback.datasets.arguments import expanded, height_width, is_path, near
from kfeedback.datasets.sources import SOURCES


@dataclasses.dataclass(frozen=True)
class BoxedImage:
    """One image and its k objects.

    Attributes:
        image: uint8 `(H, W, C)`.
        original: uint8 `(h, w, C)`, the image before it was resized.
        labels: int32 `(k,)`, the class of each object.
        boxes: int64 `(k, 4)`, `(top, left, bottom, right)` in pixels of `image`, ends
            excluded.
    """

    image: np.ndarray
    original: np.ndarray
    labels: np.ndarray
    boxes: np.ndarray


@dataclasses.dataclass(frozen=True)
class BoxStream:
    """An iterable of `BoxedImage`s that keeps none; every iteration starts anew.

    Attributes:
        class_names: list of names.
        read: a function that gives an iterator over `(image, labels, boxes)`, the boxes
            in pixels, maybe beyond the image.
        count: number of images; `len` gives it too.
        image_size: `(height, width)` to resize images to, or `None`.
        center_crop: share of the shorter side, or `None`.
    """

    class_names: list
    read: Callable
    count: int
    image_size: tuple | None
    center_crop: float | None

    def __len__(self):
        return self.count

    def __iter__(self) -> Iterator[BoxedImage]:
        for original, labels, boxes in itertools.islice(self.read(), self.count):
            (top, left), cut = self._window(original.shape[:2])
            image = original[top : top + cut[0], left : left + cut[1]]
            if self.image_size is not None:
                image = images.resize(image, self.image_size)
            scale = np.tile(image.shape[:2], 2) / np.tile(cut, 2)
            boxes = np.clip(boxes - np.tile([top, left], 2), 0, np.tile(cut, 2)) * scale
            boxes = np.round(boxes).astype(np.int64)
            kept = (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
            yield BoxedImage(
                image, original, np.array(labels, np.int32)[kept], boxes[kept]
            )

    def _window(self, shape):
        """Where what is taken of an image starts, and its sides."""
        if self.center_crop is None:
            return (0, 0), shape
        side = max(round(self.center_crop * min(shape)), 1)
        return tuple((length - side) // 2 for length in shape), (side, side)


@dataclasses.dataclass(frozen=True)
class BoxedImages:
    """Images and their objects.

    Attributes:
        images: uint8 `(N, H, W, C)`.
        index: int64 `(M,)`, the image of each object.
        labels: int32 `(M,)`, its class.
        boxes: int64 `(M, 4)`, `(top, left, bottom, right)` in pixels, ends excluded.
        class_names: list of names.
        originals: list of uint8 `(h, w, C)`, the images before they were resized.
    """

    images: np.ndarray
    index: np.ndarray
    labels: np.ndarray
    boxes: np.ndarray
    class_names: list
    originals: list


def stream_boxes(
    name,
    split,
    *,
    image_size=None,
    center_crop=None,
    data_dir=None,
    class_names=None,
    count=None,
):
    """Opens images with boxes, of TFDS or in a folder in the form of VOC.

    Images are decoded and resized as by `kfeedback.datasets.load`, when they are asked
    for: there may be more than memory holds.

    Args:
        name: the name of a TFDS set whose examples have an `image` and `objects` with
            `label` and `bbox`, or `label` and `bbox`; or the path (a `pathlib.Path`, or
            with a slash in it) of a folder with `Annotations/*.xml` and `JPEGImages`.
        split: of TFDS; or the name of a file in the folder's `ImageSets/Main`, or
            `"all"` for every annotation.
        image_size: a number or `(height, width)` to resize images to; `None` leaves
            them as they are.
        center_crop: a share of the shorter side: of each image the square in its
            middle goes into `image_size`. Originals stay whole.
        data_dir: the folder of TFDS.
        class_names: for a folder, the classes in the order of their numbers; by default
            those that occur in any of its annotations, sorted.
        count: greatest number of images.

    Returns:
        `BoxStream`, an iterable of `BoxedImage`s that knows its `len`. Of boxes that
        reach beyond their image or its crop the part inside is left, and those of which
        nothing is left are left out.

    Raises:
        TypeError: if `data_dir` is no path.
        ValueError: if there is no such data set, or an argument is not as above; where
            an annotation or, in the iteration, an image is missing or damaged, a box
            ends before it starts, or an annotation is of another size than its image
            (as of a photograph turned by its EXIF), the error names the file.

    Example:
        >>> for one in stream_boxes("./VOC2007", "val", image_size=224):
        ...     print(one.image.shape, one.labels, one.boxes)
    """
    if not isinstance(name, str | os.PathLike):
        raise ValueError(f"name must be a name or a path, got {name!r}.")
    count = None if count is None else checks.integer("count", count)
    image_size = height_width(image_size)
    if center_crop is not None:
        checks.number("center_crop", center_crop, above=0, most=1)
    folder = pathlib.Path(name).expanduser()
    if is_path(name) and folder.is_dir():
        read, names, total = voc.open_folder(folder, split, class_names, count)
    elif class_names is not None:
        raise ValueError(
            "class_names must be None for a data set of TFDS, which has its own, got "
            f"{class_names!r}."
        )
    else:
        read, names, total = _tfds(name, split, expanded("data_dir", data_dir))
    total = total if count is None else min(count, total)
    return BoxStream(names, read, total, image_size, center_crop)


def load_boxes(name, split, **kwargs):
    """Loads images with boxes into memory.

    Args:
        name, split, **kwargs: as in `stream_boxes`; `image_size` is needed where images
            differ in size.

    Returns:
        `BoxedImages`.

    Raises:
        ValueError: as in `stream_boxes`; or if images differ in size, or none has an
            object.

    Example:
        >>> boxed = load_boxes("./VOC2007", "val", image_size=224, count=100)
        >>> boxed.images.shape
        (100, 224, 224, 3)
    """
    stream = stream_boxes(name, split, **kwargs)
    examples = list(stream)
    if len({one.image.shape for one in examples}) > 1:
        raise ValueError(
            f"image_size must be given for {str(name)!r}, whose images differ in size."
        )
    index = np.repeat(np.arange(len(examples)), [len(one.labels) for one in examples])
    if not len(index):
        raise ValueError(
            f"name must be a set with boxes, got {str(name)!r} without any."
        )
    return BoxedImages(
        np.stack([one.image for one in examples]),
        index,
        np.concatenate([one.labels for one in examples]),
        np.concatenate([one.boxes for one in examples]),
        stream.class_names,
        [one.original for one in examples],
    )


def _tfds(name, split, data_dir):
    source = SOURCES.get("tfds")
    builder = source.find(name, data_dir)
    if builder is None:
        raise ValueError(
            "name must be a TFDS data set or the path of an existing folder (with a "
            f"slash: './VOC2007'), got {str(name)!r}{near(str(name), source.names())}"
        )
    return source.boxes(builder, split)
