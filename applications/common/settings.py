"""Settings of a program: a frozen dataclass whose fields are its flags.

A field is declared once, by `field`, with default, help and bounds; its flag, the check
of its value and its line in `--help` come from that. Fields that programs share are
dataclasses that they inherit from.
"""

import csv
import dataclasses
import io
import json
import math
import pathlib
import shlex
import types
import typing
from collections.abc import Mapping
from typing import ClassVar

from absl import flags

_NOUNS = {
    int: ("an integer", "integers"),
    float: ("a number", "numbers"),
    str: ("text", "names"),
    dict: ("a JSON object", ""),
}
_LAST = ("data", "optimization", "run", "output", "program")  # groups of `--help`
_BOOLS = {"true": True, "t": True, "1": True, "false": False, "f": False, "0": False}
_BOUNDS = {
    "above": (">", lambda value, bound: value > bound),
    "least": ("≥", lambda value, bound: value >= bound),
    "below": ("<", lambda value, bound: value < bound),
    "most": ("≤", lambda value, bound: value <= bound),
}


def field(default, text, *, group="flags", **limits):
    """A field that is a flag.

    Args:
        default: its value if nothing gives another; `dict` for an empty one.
        text: what `--help` says of it.
        group: the heading there under which it stands.
        **limits: `choices`, a tuple; or bounds of a number, `above`, `least`, `below`
            and `most`; `required=True`: the command line or a config must give it;
            `different=False`: numbers of a list may be equal.
    """
    metadata = {"help": text, "group": group, **limits}
    if default is dict:
        return dataclasses.field(default_factory=dict, metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def changed(base, name, default, **limits):
    """The field of a dataclass with another default, and other limits if given."""
    metadata = base.__dataclass_fields__[name].metadata
    return dataclasses.field(default=default, metadata=metadata | limits)


class Flag:
    """What a field says of its flag.

    Attributes:
        name: of both.
        help, group, required: as `field` got them.
        default: as text or bool, `None` for none.
        kind: bool, int, float, str or dict; of a list, that of its elements.
        is_list: bool.
    """

    def __init__(self, of, annotation):
        limits = dict(of.metadata)
        self.name = of.name
        self.help, self.group = limits.pop("help"), limits.pop("group")
        self.required = limits.pop("required", False)
        self._choices = limits.pop("choices", None)
        self._different = limits.pop("different", True)
        self._limits = limits
        if isinstance(annotation, types.UnionType):  # `… | None`
            annotation = typing.get_args(annotation)[0]
        if annotation is Mapping:
            annotation = dict
        self.is_list = typing.get_origin(annotation) is tuple
        self.kind = typing.get_args(annotation)[0] if self.is_list else annotation
        has_factory = of.default is dataclasses.MISSING
        self.default = of.default_factory() if has_factory else of.default

    @property
    def takes(self):
        """What values the flag takes, in words."""
        if self.kind is bool:
            return "true or false"
        if self._choices:
            known = ", ".join(map(str, self._choices))
            return f"some of {known}" if self.is_list else f"one of {known}"
        bounds = " and ".join(f"{_BOUNDS[k][0]} {v}" for k, v in self._limits.items())
        noun = " ".join(filter(None, [_NOUNS[self.kind][self.is_list], bounds]))
        if self.is_list and self.kind is not str and self._different:
            noun = f"different {noun}"
        return f"{noun}, separated by commas" if self.is_list else noun

    def define(self, values):
        """Defines the flag in a `flags.FlagValues`."""
        if self.kind is bool:
            flag = flags.BooleanFlag(self.name, self.default, self.help)
            flag.parser = _Parser(self)
            flags.DEFINE_flag(flag, values)
            return
        flags.DEFINE(
            _Parser(self), self.name, self.default, self.help, values, _Serializer()
        )

    def value(self, given):
        """The value of a flag from text, or from what TOML and JSON know.

        Raises:
            flags.IllegalFlagValueError: if the flag does not take it, in one sentence.
        """
        try:
            if not self.is_list:
                return self._one(given)
            if isinstance(given, str):
                rows = list(csv.reader([given], strict=True, skipinitialspace=True))
                given = rows[0] if rows else []
            if not isinstance(given, list | tuple):
                raise ValueError
            found = tuple(self._one(one) for one in given)
            counts = self.kind is not str or self._choices
            twice = counts and len(set(found)) < len(found)
            if (twice and self._different) or (self._choices and not found):
                raise ValueError
            return found
        except (ValueError, TypeError, csv.Error):
            raise flags.IllegalFlagValueError(
                f"--{self.name} must be {self.takes}, got {as_text(given)!r}."
            ) from None

    def _one(self, given):
        if self.kind is bool and isinstance(given, str):
            given = _BOOLS.get(given.lower(), given)
        elif self.kind is dict and isinstance(given, str):
            given = json.loads(given or "{}")
        elif self.kind in (int, float):
            if isinstance(given, bool):
                raise ValueError
            exact = isinstance(given, float) and self.kind is int
            given = self.kind(str(given) if exact else given)
            if not math.isfinite(given):
                raise ValueError
        empty = given == "" and not self.is_list and self.default != ""
        if empty or not isinstance(given, self.kind):
            raise ValueError
        if self._choices and given not in self._choices:
            raise ValueError
        if not all(_BOUNDS[k][1](given, v) for k, v in self._limits.items()):
            raise ValueError
        return given


class _Parser(flags.ArgumentParser):
    def __init__(self, flag):
        super().__init__()
        self._flag = flag

    def parse(self, argument):
        return self._flag.value(argument)


class _Serializer(flags.ArgumentSerializer):
    def serialize(self, value):
        return as_text(value)


def as_text(value):
    """A value as a command line gives it."""
    if isinstance(value, dict):
        return json.dumps(value)
    if isinstance(value, list | tuple):
        text = io.StringIO()
        csv.writer(text, lineterminator="").writerow(map(as_text, value))
        return text.getvalue()
    return str(value).removesuffix(".0") if isinstance(value, float) else str(value)


def _place(group):
    return _LAST.index(group) if group in _LAST else -1


_program = {"group": "program"}


@dataclasses.dataclass(frozen=True)
class Settings:
    """What every program has.

    Attributes:
        given: dict from the names of the flags of the command line to their text.
    """

    RUN: ClassVar[str] = "run"
    """The flag that names the training run whose flags are defaults here."""

    FROM_RUN: ClassVar[tuple[str, ...]] = ()
    """The flags that have their defaults from there."""

    config: str | None = field(
        None,
        "A TOML file, or the name of one in applications/configs, whose keys are "
        "flags: it gives their defaults, a flag on the command line overrides it.",
        **_program,
    )
    traceback: bool = field(False, "Show where an error comes from.", **_program)
    given: dict = dataclasses.field(default_factory=dict, repr=False)

    @classmethod
    def flags(cls):
        """Dict from the names of all flags to `Flag`, those of a group together."""
        hints = typing.get_type_hints(cls)
        fields = [one for one in dataclasses.fields(cls) if "help" in one.metadata]
        fields.sort(key=lambda one: _place(one.metadata["group"]))
        return {one.name: Flag(one, hints[one.name]) for one in fields}

    @classmethod
    def of(cls, group):
        """The names of the flags of a group."""
        fields = dataclasses.fields(cls)
        return [one.name for one in fields if one.metadata.get("group") == group]

    def check(self):
        """Raises a ValueError for flags that contradict one another."""

    def refuse(self, names, reason):
        """Refuses flags on the command line that have no effect because of another."""
        for name in names:
            if name in self.given:
                raise ValueError(
                    f"--{name} must be left out with {reason}, which has no use for "
                    f"it, got {as_text(getattr(self, name))!r}."
                )

    def require_one(self, names):
        """The one of these flags that is given; refuses none and several."""
        given = [name for name in names if getattr(self, name)]
        if len(given) != 1:
            raise ValueError(
                f"--{' or --'.join(names)} must be given, one of them, got "
                f"{' and '.join(f'--{name}' for name in given) or 'none'}."
            )
        return given[0]

    def command_line(self, also=()):
        """The flags of the command line, as a shell takes them, but those of files.

        Args:
            also: names of flags that are left out of a row which has columns of their
                own, and wanted here.
        """
        left_out = {"output_dir", "results", "run", "data_dir", "manual_dir"}
        left_out = (left_out | {"config", "seed"}) - {*also}
        return shlex.join(v for k, v in self.given.items() if k not in left_out)

    def as_flags(self):
        """Dict of all flags but those of every program, in what JSON knows."""
        own = self.flags().keys() - Settings.flags().keys()
        values = {name: getattr(self, name) for name in self.flags() if name in own}
        return {k: as_text(v) if isinstance(v, dict) else v for k, v in values.items()}


_written = {"group": "output"}


@dataclasses.dataclass(frozen=True)
class Output(Settings):
    """Of programs that write a folder and add rows to a CSV file."""

    output_dir: str | None = field(
        None, "Folder of what is written.", required=True, **_written
    )
    results: str | None = field(
        None, "CSV file that the rows are added to.", **_written
    )


@dataclasses.dataclass(frozen=True)
class Experiment(Output):
    """Of programs whose rows have a name."""

    experiment: str = field(
        "", "What the rows are called; the name of --output_dir if none.", **_written
    )

    @property
    def experiment_name(self):
        """What the rows are called."""
        return self.experiment or pathlib.Path(self.output_dir).absolute().name
