"""From a command line to the settings of a program, and to its errors."""

import dataclasses
import os
import pathlib
import subprocess
import sys
import textwrap
import tomllib

from absl import flags, logging

from applications.common import runs
from applications.common.settings import Settings, as_text
from kfeedback import renamed
from kfeedback.datasets.sources import said

CONFIGS = pathlib.Path(__file__).parents[1] / "configs"
_HELP = {"-h", "-help", "--help", "--helpfull", "--helpshort"}


def launch(main, settings_class):
    """Runs `main(settings)`; bad input ends in one sentence and exit code 1."""
    logging.set_verbosity(logging.WARNING)
    if _HELP & {*sys.argv[1:]}:
        print(help_text(settings_class, sys.modules[main.__module__].__doc__))
        return
    try:
        main(parse(settings_class, sys.argv[1:]))
    except subprocess.CalledProcessError as error:
        sys.exit(error.returncode)  # it has said itself what was wrong
    except Exception as error:
        known = isinstance(error, ValueError | TypeError | ImportError | OSError)
        # What a data set raises while it is read comes wrapped by TensorFlow.
        reason = str(error) if known else said(error)
        if reason is None or _shows_traceback(sys.argv[1:]):
            raise
        sys.exit(f"error: {reason}")


def _shows_traceback(arguments):
    """What --traceback says, also where other flags are wrong."""
    values = flags.FlagValues()
    values.set_gnu_getopt()  # a flag behind a stray word counts, too
    Settings.flags()["traceback"].define(values)
    try:
        values(["program", *arguments], known_only=True)
    except flags.Error:
        return False
    return values["traceback"].value


def parse(settings_class, arguments):
    """The settings of a command line.

    What it leaves out comes from its --config, then from the training run that it
    names, then from the defaults.

    Args:
        settings_class: a subclass of `Settings`.
        arguments: list of texts.

    Raises:
        ValueError: one sentence on what is wrong.
    """
    known = settings_class.flags()
    for argument in arguments:  # absl would take these two
        if argument.lstrip("-").split("=")[0] in ("flagfile", "undefok"):
            raise ValueError(
                f"arguments must be flags that --help lists, got {argument!r}."
            )
    values = flags.FlagValues()
    for flag in known.values():
        flag.define(values)
    try:
        _, *stray = values(["program", *arguments])
    except flags.UnrecognizedFlagError as error:
        raise ValueError(
            f"--{error.flagname} must be a flag that --help lists, got none of that "
            "name."
        ) from error
    except flags.Error as error:
        raise ValueError(str(error)) from error
    if stray:
        raise ValueError(
            f"arguments must be flags like --name=value, got {stray[0]!r}."
        )
    config = _read_config(values["config"].value, known)
    for key, value in config.items():
        try:
            values.set_default(key, value)
        except flags.Error as error:
            raise ValueError(
                f"--config must hold values that the flags take, got {key} = {value!r} "
                f"({error})"
            ) from error
    for name, flag in known.items():
        if flag.required and values[name].value in (None, [], ()):
            raise ValueError(f"--{name} must be given, got none.")
    given = {name: values[name].serialize() for name in known if values[name].present}
    found = {name: _expanded(values[name].value) for name in known}
    settings = settings_class(**found, given=given)
    settings.check()
    return _with_run(settings, known, {*given, *config})


def _expanded(value):
    """A value of a flag; `~` at the beginning of a text means home, as in a path."""
    if isinstance(value, tuple | list):
        return type(value)(map(_expanded, value))
    return os.path.expanduser(value) if isinstance(value, str) else value


def _with_run(settings, known, given):
    """The settings, with those of its training run for flags that are not given."""
    flag = settings.RUN
    run = getattr(settings, flag, None)
    if not (settings.FROM_RUN and run):
        return settings
    stored = runs.read(flag, run[0] if isinstance(run, tuple) else run)["flags"]
    taken = {k for k in settings.FROM_RUN if stored.get(k) is not None} - given
    try:
        found = {name: known[name].value(stored[name]) for name in taken}
    except flags.Error as error:
        raise ValueError(
            f"--{flag} must lead to flags of applications.train, got others ({error})"
        ) from error
    return dataclasses.replace(settings, **found)


def _read_config(name, known):
    """The keys and values of a config file."""
    if name is None:
        return {}
    path = pathlib.Path(name).expanduser()
    if not path.is_file():
        path = CONFIGS / f"{name.removesuffix('.toml')}.toml"
    if not path.is_file():
        names = ", ".join(sorted(file.stem for file in CONFIGS.glob("*.toml")))
        raise ValueError(f"--config must be a file or one of {names}, got {name!r}.")
    try:
        found = renamed.current(tomllib.loads(path.read_text(encoding="utf-8")))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(
            f"--config must be a TOML file, got {name!r}: {error}."
        ) from error
    for key in found:
        if key not in known or key in ("config", "traceback"):
            raise ValueError(
                f"--config must hold flags of this program only, got {key!r} in {path}."
            )
    return found


def help_text(settings_class, about):
    """What `--help` prints: what a program does, and all its flags by group."""
    lines, group = [about.strip()], None
    for flag in settings_class.flags().values():
        if flag.group != group:
            group = flag.group
            lines += ["", f"{group}:"]
        if isinstance(flag.default, bool):
            start = f"--[no]{flag.name}, by default {str(flag.default).lower()}"
        elif flag.default in (None, "", ()):
            start = f"--{flag.name}" + (", required" if flag.required else "")
        else:
            start = f"--{flag.name}={as_text(flag.default)}"
        takes = "" if flag.takes in ("text", "true or false") else flag.takes
        takes = takes and f" Takes {takes}."
        indent = {"initial_indent": 6 * " ", "subsequent_indent": 6 * " "}
        lines += [f"  {start}", *textwrap.wrap(flag.help + takes, 88, **indent)]
    return "\n".join(lines)
