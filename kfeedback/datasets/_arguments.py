"""Checks of the arguments that the loaders share."""

import difflib
import re

_SPLIT = re.compile(r"(\w+)(?:\[(-?\d+%?)?:(-?\d+%?)?\])?")


def near(name, known):
    """Return `"; did you mean ...?"` for the known names close to `name`, or `"."`."""
    close = difflib.get_close_matches(name, known, n=3)
    return f"; did you mean {' or '.join(map(repr, close))}?" if close else "."


def split_bounds(split, counts):
    """Resolve a split such as `"train[:90%]"`, with the semantics of TFDS.

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
