"""The one table of families: what a name stands for, and how a network is rebuilt.

A family is one file of `kfeedback.models`, or of `kfeedback.models.backbones`, whose
factory the decorator `kfeedback.models.factory.family` enters here.
"""

import dataclasses
from collections.abc import Callable

from kfeedback import checks, renamed, weights
from kfeedback.registry import Registry
from kfeedback.weights import origins

TABLE = Registry("kfeedback.models.backbones", "kfeedback.models")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Family:
    """What is known of a factory without calling it.

    Attributes:
        name: what programs and the argument `backbone` call it.
        factory: the public callable, which returns a `keras.Model`.
        gives_feedback: bool, takes a `backbone` to give feedback to.
        has_timesteps: bool, takes `timesteps`.
        default_shape: `(H, W, C)` of its images, `None` for that of the backbone.
        least_size: the least height and width; `None` for that of the backbone, or
            where it follows from other arguments.
        is_backbone: bool, can be named as a `backbone`.
        trains: bool, has weights to train.
        own_weights: values of `weights` that the factory loads itself, such as
            `"imagenet"`.
    """

    name: str
    factory: Callable
    has_timesteps: bool
    gives_feedback: bool = False
    default_shape: tuple | None = None
    least_size: int | None = None
    is_backbone: bool = False
    trains: bool = True
    own_weights: tuple = ()


def get(name, argument="model"):
    """The `Family` of a name.

    Args:
        name: what programs and the argument `backbone` call it.
        argument: what the error calls the name.

    Raises:
        ValueError: if there is none; `argument` is what the error calls the name.
    """
    return TABLE.get(name, argument)


def families():
    """Dict from its name to each `Family`."""
    return TABLE.entries()


def backbones():
    """Dict from its name to each `Family` that the argument `backbone` can name."""
    return {name: one for name, one in families().items() if one.is_backbone}


def factories(package):
    """Dict from its own name to each factory that a file of a package defines.

    Args:
        package: the name of one, as `"kfeedback.models"`.
    """
    return {
        one.factory.__name__: one.factory
        for one in families().values()
        if one.factory.__module__.rpartition(".")[0] == package
    }


def attribute(package, name):
    """The factory of that name of one of a package's files, for its `__getattr__`.

    Args:
        package: the name of one.
        name: of the factory.

    Raises:
        AttributeError: if there is none.
    """
    # Only factories begin with a capital letter. A module that is not imported yet must
    # not be looked for in the registry, which imports them all.
    known = factories(package) if name[:1].isupper() else {}
    if name not in known:
        raise AttributeError(f"module {package!r} has no attribute {name!r}")
    return known[name]


def build(origin):
    """The network that an origin describes, with fresh weights.

    Args:
        origin: dict with `factory`, a name, and `arguments`, a dict, in which a
            backbone is an origin itself: what `kfeedback.weights.origin` gives, or the
            `about` of a weights file, also of an earlier version.

    Returns:
        a `keras.Model`.

    Raises:
        ValueError: if there is no such factory, it does not take these arguments, or
            the backbone is not known.
    """
    known = {one.factory.__name__: one for one in families().values()}
    name = origin.get("factory")
    if name not in known:
        raise ValueError(
            f"origin must name one of the factories {', '.join(known)}, got {name!r}."
        )
    arguments = renamed.current(origin.get("arguments") or {})
    others = sorted(set(origins.NOT_NOTED) & set(arguments))
    if others:
        raise ValueError(
            f"origin must have arguments that say what network {name} makes, got "
            f"{', '.join(others)}."
        )
    if known[name].gives_feedback:
        backbone = arguments.get("backbone")
        if not isinstance(backbone, dict | str):
            raise ValueError(
                f"origin must say which backbone {name} has, got {backbone!r}."
            )
        if isinstance(backbone, dict):
            arguments["backbone"] = build(backbone)
    try:
        return known[name].factory(**arguments)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"origin must have arguments that {name} takes, got others: "
            f"{checks.reason(error)}."
        ) from error


def load_weights(network, file):
    """Loads a file into a network of a factory, as the argument `weights` does.

    A network of one timestep has no feedback: its weights in the file are left out.

    Args:
        network: a `keras.Model` of `build` or of a factory.
        file: a path, or a tag of `kfeedback.list_weights`.

    Raises:
        ValueError: as `kfeedback.weights.load` does.
    """
    once = origins.origin(network)["arguments"].get("timesteps") == 1
    weights.load(network, file, without_feedback=once)
