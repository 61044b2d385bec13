"""A stand-in for the table of families, to be dropped when that is merged."""

import dataclasses
import inspect
from collections.abc import Callable

from kfeedback import models, renamed
from kfeedback.models.backbones import BACKBONES


@dataclasses.dataclass(frozen=True, kw_only=True)
class Family:
    """What is known of a factory without calling it."""

    name: str
    factory: Callable
    gives_feedback: bool
    has_timesteps: bool
    default_shape: tuple | None
    least_size: int | None
    is_backbone: bool
    trains: bool
    own_weights: tuple


def families():
    """Dict from its name to each `Family`."""
    named = BACKBONES | {
        "cliquenet": models.CliqueNet,
        **{f"cliquenet_s{n}": getattr(models, f"CliqueNetS{n}") for n in range(4)},
        "feedback_convlstm": models.FeedbackConvLSTMNet,
        "lrnet": models.LRNet,
        "crcn": models.CRCN,
    }
    found = {}
    for name, factory in named.items():
        takes = inspect.signature(factory).parameters
        found[name] = Family(
            name=name,
            factory=factory,
            gives_feedback="backbone" in takes,
            has_timesteps="timesteps" in takes,
            default_shape=None,
            least_size=None,
            is_backbone=name in BACKBONES,
            trains=True,
            own_weights=(),
        )
    return found


def backbones():
    """Dict from its name to each `Family` that the argument `backbone` can name."""
    return {name: one for name, one in families().items() if one.is_backbone}


def get(name, argument="model"):
    """The `Family` of a name."""
    known = families()
    if name not in known:
        raise ValueError(
            f"{argument} must be one of {', '.join(known)}, got {name!r}."
        )
    return known[name]


def build(origin):
    """The network that an origin describes, with fresh weights."""
    known = {one.factory.__name__: one for one in families().values()}
    name = origin.get("factory")
    if name not in known:
        raise ValueError(
            f"origin must name one of the factories {', '.join(known)}, got {name!r}."
        )
    arguments = renamed.current(origin.get("arguments") or {})
    if isinstance(arguments.get("backbone"), dict):
        arguments["backbone"] = build(arguments["backbone"])
    arguments = {name: value for name, value in arguments.items() if value is not None}
    if isinstance(arguments.get("stages"), int) and name.startswith("CliqueNet"):
        arguments["loops"] = arguments.pop("stages") - 1
    return known[name].factory(**arguments)
