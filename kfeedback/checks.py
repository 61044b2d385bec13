"""Checks of single arguments, one wording for the whole package."""

import contextlib
import lzma
import numbers
import operator
import os
import pathlib
import zipfile
import zlib

import numpy as np

_INFINITY = float("inf")


def boolean(name, value):
    """Returns `value`; raises a TypeError unless it is `True` or `False`."""
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be True or False, got {value!r}.")
    return value


def integer(name, value, least=1):
    """Returns `value` as an int; raises a ValueError unless it is one ≥ `least`.

    NumPy's integers are integers, `True` and `1.0` are not. With `least=None` any
    integer will do.
    """
    takes = "an integer" if least is None else f"an integer ≥ {least}"
    try:
        whole = operator.index(value)
    except TypeError:
        whole = None
    wrong = whole is None or isinstance(value, bool)
    if wrong or (least is not None and whole < least):
        raise ValueError(f"{name} must be {takes}, got {value!r}.")
    return whole


def array(name, value):
    """Returns `value` as a NumPy array; raises a ValueError if its rows differ.

    Args:
        name: what the error calls it.
        value: an array, or lists in one another.
    """
    try:
        return np.asarray(value)
    except ValueError as error:
        raise ValueError(
            f"{name} must be one array, whose rows are of one shape, got rows of "
            "different ones."
        ) from error


def odd_integer(name, value):
    """Returns `value` as an int; raises a ValueError unless it is odd and ≥ 1."""
    if integer(name, value) % 2 == 0:
        raise ValueError(f"{name} must be odd, got {value!r}.")
    return int(value)


def number(name, value, *, above=None, least=None, below=_INFINITY, most=_INFINITY):
    """Returns `value` as a float; raises a ValueError unless it lies in the bounds.

    Args:
        name: what the error calls it.
        value: a real number; a NaN lies nowhere.
        above: the value must be greater than this; or
        least: the value must be at least this.
        below: the value must be less than this.
        most: the value must be at most this.
    """
    valid = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if above is not None:
        bound = "that is finite" if above == -_INFINITY else f"> {above}"
        valid = valid and value > above
    else:
        bound = f"≥ {least}"
        valid = valid and value >= least
    if below != _INFINITY and above != -_INFINITY:
        bound += f" and < {below}"
    if most != _INFINITY:
        bound += f" and ≤ {most}"
    if not (valid and value < below and value <= most):
        raise ValueError(f"{name} must be a number {bound}, got {value!r}.")
    return float(value)


def path(name, value):
    """Returns a `pathlib.Path`, `~` its home; raises a TypeError for anything else."""
    if not isinstance(value, str | os.PathLike):
        raise TypeError(f"{name} must be a path, got {value!r}.")
    return pathlib.Path(value).expanduser()


def reason(error):
    """What an exception says, as the end of a sentence: one line without a point."""
    text = " ".join(str(error).split()).rstrip(".")
    return text.replace(". ", "; ") or type(error).__name__


@contextlib.contextmanager
def npz(name, file):
    """Opens an `.npz` file; of what NumPy raises while it is read a ValueError is made.

    Args:
        name: what the error calls it.
        file: path of the file, which the error names.
    """
    try:
        with np.load(file, allow_pickle=False) as arrays:
            yield arrays
    except (
        *(zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError),
        *(ValueError, TypeError),  # pickled objects; a lone array
    ) as error:
        raise ValueError(
            f"{name} must be the path of an undamaged .npz file, got {file}: {error}."
        ) from error


def one_of(name, value, known):
    """Returns `value`; raises a ValueError unless it is one of those known, texts."""
    if not isinstance(value, str) or value not in known:
        raise ValueError(f"{name} must be one of {', '.join(known)}, got {value!r}.")
    return value


def fits(shape, wanted):
    """Whether a shape is the wanted one, in which `None` stands for any number."""
    return len(shape) == len(wanted) and all(
        n in (None, m) for n, m in zip(wanted, shape, strict=True)
    )


def pixels(name, images):
    """Returns a NumPy array; raises a ValueError unless all of it is from 0 to 255."""
    if images.dtype.kind not in "fiu":
        raise ValueError(f"{name} must be numbers, got {images.dtype}.")
    low, high = images.min(), images.max()
    if not (low >= 0 and high <= 255):  # a NaN is neither
        raise ValueError(
            f"{name} must have values from 0 to 255, got {low:g} to {high:g}."
        )
    return images


def gray_levels(name, images):
    """As `pixels`; images of 0 to 1, which would be nearly black, are refused too."""
    images = pixels(name, images)
    if images.max() <= 1 and ((images > 0) & (images < 1)).any():
        raise ValueError(
            f"{name} must be gray levels from 0 to 255, got fractions up to "
            f"{images.max():g}; 255 times those of 0 to 1 are gray levels."
        )
    return images


def finite(name, values):
    """Returns a NumPy array; raises a ValueError unless all of it is finite."""
    if values.dtype.kind not in "fiu":
        raise ValueError(f"{name} must be numbers, got {values.dtype}.")
    low, high = values.min(), values.max()
    if not (low > -_INFINITY and high < _INFINITY):  # a NaN is neither
        raise ValueError(f"{name} must be finite, got {low:g} to {high:g}.")
    return values
