"""What every application does the same: flags, configs, errors, result rows."""

import csv
import datetime
import inspect
import json
import os
import pathlib
import platform
import subprocess
import sys
import tomllib
import zipfile

import keras
from absl import app, flags, logging

from kfeedback import checks
from kfeedback.classifier import posterior_kind

CONFIGS = pathlib.Path(__file__).parent / "configs"

flags.DEFINE_string(
    "config",
    None,
    "A TOML file, or the name of one in applications/configs, whose keys are flags: "
    "it gives their defaults, a flag on the command line overrides it.",
)
flags.DEFINE_bool("traceback", False, "Show where an error comes from.")
flags.disclaim_key_flags()  # what `define_number` defines belongs to its caller
FLAGS = flags.FLAGS


def define_number(name, default, help_text, **bounds):
    """A float flag within the bounds of `kfeedback.checks.number`, or `None`."""
    flags.DEFINE_float(name, default, help_text)

    def valid(value):
        try:
            if value is not None:
                checks.number(f"--{name}", value, **bounds)
        except ValueError as error:
            raise flags.ValidationError(str(error)) from error
        return True

    flags.register_validator(name, valid)


def required(name):
    """The value of a flag that a config or the command line must give."""
    if FLAGS[name].value is None:
        raise ValueError(f"--{name} must be given, got none.")
    return FLAGS[name].value


def refuse(names, reason):
    """Refuses flags on the command line that have no effect because of another."""
    for name in names:
        if FLAGS[name].present:
            raise ValueError(
                f"--{name} must be left out with {reason}, which has no use for it, "
                f"got {FLAGS[name].value!r}."
            )


def arguments(flag, factory, taken):
    """The JSON of a flag as arguments of a factory.

    Args:
        flag: its name.
        factory: what takes the arguments.
        taken: names of arguments that other flags or the data decide.
    """
    found = json_flag(flag)
    takes = [
        name for name in inspect.signature(factory).parameters if name not in taken
    ]
    unknown = sorted(found.keys() - set(takes))
    if unknown:
        raise ValueError(
            f"--{flag} must hold some of {', '.join(takes)}, got {', '.join(unknown)}."
        )
    return found


def check_images(flag, model, info, *, from_logits=False):
    """Refuses a model, named by a flag, whose input or output does not fit the data."""
    shape = model.input_shape[1:]
    if not fits_images(shape, info) or model.output_shape[-1] != info.num_classes:
        raise ValueError(
            f"--{flag} must lead to a model for images {info.image_shape} of "
            f"{info.num_classes} classes, as {info.name} has them, got one for images "
            f"{shape} with output {model.output_shape}."
        )
    wanted = "sigmoid" if info.multi_label else "softmax"
    if posterior_kind(model) != wanted and not from_logits:
        raise ValueError(
            f"--{flag} must lead to a model that ends in a {wanted}, which the errors "
            f"are of for {info.name}, got '{model.name}', which does not."
        )


def fits_images(shape, info):
    """Whether the images of a data set have the shape (H, W, C), or (None, None, C)."""
    pairs = zip(shape, info.image_shape, strict=False)
    return len(shape) == 3 and all(n in (None, m) for n, m in pairs)


def load_model(flag, path):
    """A saved `keras.Model`; an error names the flag that the path comes from."""
    try:
        return keras.models.load_model(path)
    except (OSError, KeyError, TypeError, ValueError, zipfile.BadZipFile) as error:
        raise ValueError(
            f"--{flag} must lead to a .keras file that Keras can load, got {path}: "
            f"{error}"
        ) from error


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
        except subprocess.CalledProcessError as error:
            sys.exit(error.returncode)  # it has said itself what was wrong
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
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"--config must be a TOML file, got {name!r}: {error}.") from (
            error
        )
    for key, value in values.items():
        if key not in FLAGS:
            raise ValueError(
                f"--config must hold flags of this program only, got {key!r} in {path}."
            )
        try:
            text = json.dumps(value) if isinstance(value, dict) else value
            FLAGS.set_default(key, text)
        except flags.Error as error:
            raise ValueError(
                f"--config must hold values that the flags take, got {key} = {value!r} "
                f"in {path} ({error})."
            ) from error


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


def stored_flags(run):
    """The flags of the training run whose folder --run is."""
    if not (run / "run.json").is_file():
        raise ValueError(
            f"--run must be a folder that applications.train wrote, got '{run}'."
        )
    try:
        return dict(json.loads((run / "run.json").read_text())["flags"])
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"--run must be a folder that applications.train wrote, got {run}, whose "
            f"run.json holds no flags ({error})."
        ) from error


def take_flags(stored):
    """Makes flags of a training run the defaults here."""
    for name, value in stored.items():
        if name in FLAGS and name not in ("config", "traceback") and value is not None:
            try:
                FLAGS.set_default(name, value)
            except flags.Error as error:
                raise ValueError(
                    f"--run must hold flags of applications.train, got {name} = "
                    f"{value!r} ({error})."
                ) from error


def command_line(also=()):
    """The flags of this run, without those that say where its files are.

    Args:
        also: names of flags that are left out of a row, which has columns of their
            own, and wanted here.
    """
    left_out = {"output_dir", "results", "run", "data_dir", "manual_dir"}
    left_out |= {"config", "seed"} - set(also)
    given = [FLAGS[name] for name in FLAGS if FLAGS[name].present]
    return " ".join(flag.serialize() for flag in given if flag.name not in left_out)


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
    """The processor, its cores, and the accelerators that the backend sees."""
    name = platform.processor() or platform.machine()
    cpuinfo = pathlib.Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                name = line.split(":", 1)[1].strip()
                break
    return ", ".join([name, f"{os.cpu_count()} cores", *accelerators()])


def accelerators():
    """Names of the accelerators that the backend sees."""
    if keras.backend.backend() == "jax":
        import jax

        return [d.device_kind for d in jax.devices() if d.platform != "cpu"]
    import tensorflow as tf

    details = tf.config.experimental.get_device_details
    devices = tf.config.list_physical_devices("GPU")
    return [details(device).get("device_name", device.name) for device in devices]


def open_rows(path, row):
    """Opens a CSV file to add rows like `row`; refuses one with other columns."""
    path = pathlib.Path(path)
    columns = ["date", "commit", *row]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("a+", newline="")
        file.seek(0)
        found = next(csv.reader(file), None)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ValueError(
            f"--results must be a CSV file that can be written, got {path} ({error})."
        ) from error
    writer = csv.DictWriter(file, fieldnames=columns, lineterminator="\n")
    if found is None:
        writer.writeheader()
    elif found != columns:
        raise ValueError(
            f"--results must be a file with the columns {', '.join(columns)}, got "
            f"{path} with {', '.join(found)}."
        )
    return file, writer


def append_row(path, row):
    """Adds a row, and date and commit, to a CSV file."""
    file, writer = open_rows(path, row)
    with file:
        today = datetime.date.today().isoformat()
        writer.writerow({"date": today, "commit": commit(), **row})


def format_table(rows):
    """Rows of equal keys as aligned text."""
    lines = [list(rows[0])] + [[str(value) for value in row.values()] for row in rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    return "\n".join(
        "  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True))
        for line in lines
    )
