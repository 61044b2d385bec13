"""What every application does the same: flags, configs, errors, result rows."""

import csv
import datetime
import json
import math
import os
import pathlib
import platform
import subprocess
import sys
import tomllib

from absl import app, flags, logging

CONFIGS = pathlib.Path(__file__).parent / "configs"

flags.DEFINE_string(
    "config",
    None,
    "A TOML file, or the name of one in applications/configs, whose keys are flags: "
    "it gives their defaults, a flag on the command line overrides it.",
)
flags.DEFINE_bool("traceback", False, "Show where an error comes from.")
FLAGS = flags.FLAGS


def define_number(name, default, help_text, *, above=None, least=None):
    """A finite float flag, greater than `above` or at least `least`."""
    flags.DEFINE_float(name, default, help_text)
    takes = "a finite number"
    takes += f" > {above}" if above is not None else f" ≥ {least}"

    def valid(value):
        if value is None:
            return True
        bound = value > above if above is not None else value >= least
        return math.isfinite(value) and bound

    flags.register_validator(name, valid, message=f"--{name} must be {takes}.")


def launch(main):
    """Runs `main()` as an absl app; bad input ends in one sentence and exit code 1."""

    def guarded(argv):
        logging.set_verbosity(logging.WARNING)
        try:
            if len(argv) > 1:
                raise ValueError(
                    f"arguments must be flags like --name=value, got {argv[1]!r}."
                )
            if FLAGS.config is not None:
                apply_config(FLAGS.config)
            main()
        except (ValueError, TypeError, ImportError, OSError, flags.Error) as error:
            if FLAGS.traceback:
                raise
            sys.exit(f"error: {error}")

    app.run(guarded)


def apply_config(name):
    """Makes the keys of a config file the defaults of the flags of those names."""
    path = pathlib.Path(name)
    if not path.is_file():
        path = CONFIGS / f"{name.removesuffix('.toml')}.toml"
    if not path.is_file():
        known = ", ".join(sorted(file.stem for file in CONFIGS.glob("*.toml")))
        raise ValueError(f"--config must be a file or one of {known}, got {name!r}.")
    try:
        values = tomllib.loads(path.read_text())
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"--config must be a TOML file, got {name!r}: {error}.") from (
            error
        )
    for key, value in values.items():
        if key not in FLAGS:
            raise ValueError(
                f"--config must hold flags of this program only, got {key!r} in {path}."
            )
        FLAGS.set_default(key, json.dumps(value) if isinstance(value, dict) else value)


def json_flag(name):
    """The dict that a flag holds as JSON."""
    text = FLAGS[name].value or "{}"
    try:
        value = json.loads(text)
    except json.JSONDecodeError:
        value = None
    if not isinstance(value, dict):
        raise ValueError(f"--{name} must be a JSON object, got {text!r}.")
    return value


def commit():
    """The short hash of the checkout, marked if files differ; empty without git."""

    def git(*arguments):
        command = ["git", "-C", str(pathlib.Path(__file__).parent), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    head = git("rev-parse", "--short", "HEAD")
    if head.returncode:
        return ""
    # Results are written while experiments run, so they do not count.
    others = (":/", ":(top,exclude)applications/results")
    changed = git("status", "--porcelain", "--untracked-files=no", "--", *others)
    return head.stdout.strip() + ("+changes" if changed.stdout.strip() else "")


def hardware():
    """The processor and its cores, or the accelerators that Keras sees."""
    name = platform.processor() or platform.machine()
    cpuinfo = pathlib.Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                name = line.split(":", 1)[1].strip()
                break
    return f"{name}, {os.cpu_count()} cores"


def append_row(path, row):
    """Adds a row to a CSV file; a file with other columns is refused."""
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    row = {"date": datetime.date.today().isoformat(), "commit": commit(), **row}
    new = not path.exists() or path.stat().st_size == 0
    if not new:
        with path.open(newline="") as file:
            columns = next(csv.reader(file))
        if columns != list(row):
            raise ValueError(
                f"--results must be a file with the columns {', '.join(row)}, got "
                f"{path} with {', '.join(columns)}."
            )
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(row), lineterminator="\n")
        if new:
            writer.writeheader()
        writer.writerow(row)


def format_table(rows):
    """Rows of equal keys as aligned text."""
    lines = [list(rows[0])] + [[str(value) for value in row.values()] for row in rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    return "\n".join(
        "  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True))
        for line in lines
    )
