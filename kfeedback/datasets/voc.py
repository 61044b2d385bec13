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
            name, size, objects = _annotation(file)
            image = images.decode(folder / "JPEGImages" / name)
            height, width = image.shape[:2]
            if size not in (None, (width, height)):
                raise _refused(
                    file,
                    f"its boxes are in an image of {size[0]}×{size[1]} pixels, {name} "
                    f"has {width}×{height}",
                )
            yield (
                image,
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
    return {name for file in files for name, _ in _annotation(file)[2]}


def _annotation(path):
    """The image's file, its size and `(name, box)` of every object.

    The size is `(width, height)`, or `None` where there is none, or zeros as some
    programs write. A box is `(top, left, bottom, right)`: VOC counts pixels from 1 and
    its upper bounds belong to the box.
    """
    try:
        root = xml.etree.ElementTree.parse(path).getroot()
        # Only a name: a path could lead anywhere.
        image = pathlib.PurePath(_text(root, "filename")).name
        if not image or image.startswith("."):
            raise ValueError("its filename is none")
        return image, _size(root), [_object(one) for one in root.iter("object")]
    except OSError as error:
        raise _refused(path, error.strerror) from error
    except (ValueError, SyntaxError) as error:
        raise _refused(path, str(error)) from error


def _refused(path, reason):
    return ValueError(
        "name must be a folder with annotations of VOC, got "
        f"{str(path)!r}: {reason.rstrip('.')}."
    )


def _text(element, tag):
    text = (element.findtext(tag) or "").strip()
    if not text:
        raise ValueError(f"{element.tag} has no {tag}")
    return text


def _number(element, tag):
    text = _text(element, tag)
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"{tag} must be a number, got {text!r}") from None


def _size(root):
    try:
        size = tuple(int(root.findtext(f"size/{side}")) for side in ("width", "height"))
    except (TypeError, ValueError):
        return None
    return size if min(size) > 0 else None


def _object(element):
    name, box = _text(element, "name"), element.find("bndbox")
    if box is None:
        raise ValueError(f"the object {name!r} has no bndbox")
    top, left, bottom, right = (_number(box, side) for side in _SIDES)
    whole = all(map(math.isfinite, (top, left, bottom, right)))
    if not (whole and top <= bottom and left <= right):
        raise ValueError(
            f"the box of {name!r} ends before it starts, from {left:g}, {top:g} to "
            f"{right:g}, {bottom:g}"
        )
    return name, (top - 1, left - 1, bottom, right)
