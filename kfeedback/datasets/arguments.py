"""Checks of the arguments that the loaders share."""

import dataclasses
import difflib
import os
import re

import numpy as np

from kfeedback import checks

_SPLIT = re.compile(r"(\w+)(?:\[(-?\d+%?)?:(-?\d+%?)?\])?")


def is_path(name):
    """Whether a data set's name is a path: a `pathlib.Path`, or with a slash in it."""
    return isinstance(name, os.PathLike) or "/" in name


def expanded(name, path):
    """A path as text, `~` its home, or `None`; a URL, which TFDS takes, stays one."""
    if path is None:
        return None
    checks.path(name, path)
    return os.path.expanduser(path)


def visible(folder):
    """The paths in a folder, sorted, without hidden ones: `.DS_Store`, `._1.png`.

    Hidden are also the folders that archives of macOS and a Synology put beside others.
    """
    hidden = ("__MACOSX", "@eaDir")
    paths = (path for path in folder.iterdir() if path.name not in hidden)
    return sorted(path for path in paths if path.name[0] != ".")


def readable(name):
    """A file's name as text; one that is not UTF-8 is taken for Latin-1."""
    try:
        return os.fsencode(name).decode()
    except UnicodeDecodeError:
        return os.fsencode(name).decode("latin-1")


def height_width(size):
    """`image_size`, a number or a pair or `None`, as `(height, width)` or `None`."""
    if size is None:
        return None
    pair = size if isinstance(size, (tuple, list)) else (size, size)
    if len(pair) != 2:
        raise ValueError(
            f"image_size must be a number or (height, width), got {size!r}."
        )
    return tuple(checks.integer("image_size", n, 1) for n in pair)


def near(name, known):
    """`"; did you mean ...?"` for the known names close to `name`, or `"."`."""
    close = difflib.get_close_matches(name, known, n=3)
    return f"; did you mean {' or '.join(map(repr, close))}?" if close else "."


def keep_classes(info, classes, count):
    """Describes a data set of which some classes are kept.

    Args:
        info: the `DatasetInfo` of all classes.
        classes: names or indices of classes, in the order of the new labels.
        count: a function of the table below that gives the number of examples kept.

    Returns:
        `(info, table)`: the new `DatasetInfo`, and int32 `(info.num_classes,)`, the
        new label of each class or -1.

    Raises:
        ValueError: if `classes` is empty, repeats a class or has an unknown one, the
            set is multi-label or no example is left.
    """
    kept = _class_indices(classes, info.class_names, info.multi_label)
    table = np.full(info.num_classes, -1, np.int32)
    table[kept] = np.arange(len(kept))
    number = int(count(table))
    if not number:
        raise ValueError(
            f"classes must leave some of the {info.num_examples} examples of "
            f"{info.split!r}, got {classes!r}, of which it has none."
        )
    names = tuple(info.class_names[k] for k in kept)
    info = dataclasses.replace(
        info, num_examples=number, num_classes=len(names), class_names=names
    )
    return info, table


def split_bounds(split, counts):
    """Resolves a split such as `"train[:90%]"`, with the semantics of TFDS.

    Args:
        split: a name, or a name and a slice `[from:to]` whose boundaries are numbers
            of examples or percentages, negative ones counted from the end. A
            percentage is rounded to the closest example.
        counts: the number of examples of each split, by name.

    Returns:
        `(name, start, stop)`.

    Raises:
        ValueError: if the split is unknown, malformed, empty or out of range.
    """
    match = _SPLIT.fullmatch(split) if isinstance(split, str) else None
    if not match:
        raise ValueError(
            "split must be like 'train', 'train[:90%]' or 'train[100:200]', "
            f"got {split!r}."
        )
    name, *ends = match.groups()
    if name not in counts:
        raise ValueError(
            f"split must name one of {', '.join(map(repr, counts))}, got {split!r}."
        )
    count = counts[name]
    start, stop = (
        _boundary(end, count) if end else default
        for end, default in zip(ends, (0, count), strict=True)
    )
    if not 0 <= start < stop <= count:
        raise ValueError(
            f"split must select some of the {count} examples of {name!r}, "
            f"got {split!r}, that is {start} to {stop}."
        )
    return name, start, stop


def _boundary(text, count):
    if text.endswith("%"):
        position = round(int(text[:-1]) * count / 100)
    else:
        position = int(text)
    return position + count if text.startswith("-") else position


def _class_indices(classes, names, multi_label):
    if multi_label:
        raise ValueError(
            "classes must be None where an image may be of several classes, "
            f"got {classes!r}."
        )
    if not isinstance(classes, (list, tuple)) or not classes:
        raise ValueError(
            f"classes must be a list of class names or indices, got {classes!r}."
        )
    indices = []
    for one in classes:
        if one in names:
            index = names.index(one)
        elif isinstance(one, str) and one.isdecimal():
            index = int(one)
        elif isinstance(one, str):
            raise ValueError(
                f"classes must name some of {len(names)} classes, got "
                f"{one!r}{near(one, names)}"
            )
        else:
            index = checks.integer("classes", one, 0)
        if index >= len(names):
            raise ValueError(
                f"classes must hold indices below {len(names)}, got {one!r}."
            )
        if index in indices:
            raise ValueError(f"classes must name each class once, got {classes!r}.")
        indices.append(index)
    return indices
