"""Folders in the form of Pascal VOC: `Annotations/*.xml`, `JPEGImages`, `ImageSets`."""

import math
import pathlib
import xml.etree.ElementTree

import numpy as np

from kfeedback import images
from kfeedback.datasets.arguments import visible

_SIDES = ("ymin", "xmin", "ymax", "xmax")


def open_folder(folder, split, class_names, count):
    """Finds the images and objects of a split.

    All annotations are read once to know their classes, none is kept.

    Args:
        folder: `pathlib.Path`.
        split, class_names, count: as in `kfeedback.datasets.stream_boxes`.

    Returns:
        `(examples, names, total)`: a function that gives an iterator over `(image,
        labels, boxes)`, uint8 `(H, W, 3)`, a list of k ints and float64 `(k, 4)` in
        pixels, as annotated; the names of all classes, as a list; and the number of
        images.

    Raises:
        ValueError: if an annotation or image is missing or damaged; the error names it.
    """
    annotations = folder / "Annotations"
    every = visible(annotations) if annotations.is_dir() else []
    every = [file for file in every if file.suffix.lower() == ".xml"]
    if not every:
        raise ValueError(
            f"name must be a folder with Annotations/*.xml, got {str(folder)!r}."
        )
    files = every if split == "all" else _listed(folder, split)
    files = files[:count]
    if class_names is None:
        names = sorted(_classes(every))
    else:
        names = list(class_names)
        unknown = sorted(_classes(files) - set(names))
        if unknown:
            raise ValueError(
                f"class_names must hold {', '.join(unknown)}, which the annotations "
                f"name, got {', '.join(map(str, names))}."
            )

    def examples():
        for file in files:
            image, objects = _annotation(file)
            yield (
                images.decode(folder / "JPEGImages" / image),
                [names.index(name) for name, _ in objects],
                np.array([box for _, box in objects], float).reshape(-1, 4),
            )

    return examples, names, len(files)


def _listed(folder, split):
    listed = folder / "ImageSets" / "Main" / f"{split}.txt"
    if not listed.is_file():
        raise ValueError(f"split must be 'all' or name {listed}, got {split!r}.")
    lines = listed.read_text("utf-8-sig", "surrogateescape").splitlines()
    stems = [line.split()[0] for line in lines if line.strip()]
    if not stems:
        raise ValueError(f"split must name a file with lines, got {str(listed)!r}.")
    return [folder / "Annotations" / f"{stem}.xml" for stem in stems]


def _classes(files):
    return {name for file in files for name, _ in _annotation(file)[1]}


def _annotation(path):
    """The image's file and `(name, (top, left, bottom, right))` of every object.

    VOC counts pixels from 1 and its upper bounds belong to the box.
    """
    try:
        root = xml.etree.ElementTree.parse(path).getroot()
        # Only a name: a path could lead anywhere.
        image = pathlib.PurePath(root.find("filename").text.strip()).name
        if not image or image.startswith("."):
            raise ValueError("its filename is none")
        return image, [_object(one) for one in root.iter("object")]
    except (OSError, AttributeError, TypeError, ValueError, SyntaxError) as error:
        raise ValueError(
            "name must be a folder with annotations of VOC, got "
            f"{str(path)!r}: {str(error).rstrip('.')}."
        ) from error


def _object(element):
    name = element.find("name").text.strip()
    box = element.find("bndbox")
    top, left, bottom, right = (float(box.find(side).text) for side in _SIDES)
    whole = all(map(math.isfinite, (top, left, bottom, right)))
    if not (whole and top <= bottom and left <= right):
        raise ValueError(
            f"the box of {name!r} ends before it starts, from {left:g}, {top:g} to "
            f"{right:g}, {bottom:g}"
        )
    return name, (top - 1, left - 1, bottom, right)
