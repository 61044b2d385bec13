"""Factories of models that a flag names."""

import inspect
import pydoc

from kfeedback.models import registry


def find_factory(name):
    """The callable of a name, and its parameters.

    Args:
        name: of a family of `kfeedback.models.registry`, or the dotted name of any
            callable that returns a `keras.Model`.
    """
    if name in registry.families():
        factory = registry.get(name).factory
        return factory, inspect.signature(factory).parameters
    try:
        factory = pydoc.locate(name or "")
        if "." in (name or "") and callable(factory):
            return factory, inspect.signature(factory).parameters
    except pydoc.ErrorDuringImport as error:
        raise ValueError(
            f"--model must be importable, got {name!r}: {error}."
        ) from error
    except ValueError:
        pass  # Some builtins have no signature.
    raise ValueError(
        "--model must be a family of kfeedback, or the dotted name of a callable "
        "that returns a keras.Model, such as keras.applications.ResNet50, got "
        f"{name!r}."
    )
