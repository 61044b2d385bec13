"""TFDS builders of sets that are composed here; the name of one is that of its module.

A new one is one new file, with a `tfds.core.DatasetBuilder` in it whose name, as TFDS
derives it from the class's, is the file's.
"""

import importlib
import pkgutil


def names():
    """The names of the data sets, as a list."""
    found = (module.name for module in pkgutil.iter_modules(__path__))
    return [name for name in found if not name.startswith("_")]


def find(name):
    """The builder class of a data set; it needs TFDS.

    Args:
        name: one of `names()`.

    Raises:
        ImportError: if its module has no builder of that name.
    """
    module = importlib.import_module(f"{__name__}.{name}")
    for value in vars(module).values():
        if isinstance(value, type) and getattr(value, "name", None) == name:
            return value
    raise ImportError(f"{module.__file__} has no TFDS builder of the name {name!r}.")
