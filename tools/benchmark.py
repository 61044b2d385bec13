"""Measures what a model costs, for every number of timesteps T.

    python -m tools.benchmark --model=kfeedback.LRNet --kwargs='{"backbone": "lnin"}' \
        --timesteps=1,2,3 --batch_size=32 --input_shape=32,32,3 --csv=costs.csv

Speed of inference and training, the multiply-adds that the network executes, the two
together as a share of what this machine reaches on plain convolutions, and, against
T = 1, how much more time a multiply-add takes ("cost", 1 is ideal). Runs on the
TensorFlow and JAX backends (KERAS_BACKEND=jax).

Multiply-adds are those of convolutions and matrix products for one image, forward, read
off the traced graph (TensorFlow) or jaxpr (JAX): what is computed once counts once.
GFLOP/s are 2 · multiply-adds · images/s; a training step counts as three forwards.
"""

import csv
import json
import pathlib
import sys

import keras
from absl import flags

from applications import _app
from applications._multiply_adds import count_multiply_adds
from tools._costs import COLUMNS, MODES, SPEED, Settings, commas, find_factory, measure
from tools._timing import machine_conv_gflops

__all__ = ["Settings", "count_multiply_adds", "machine_conv_gflops", "measure"]


def report(rows):
    """The rows of `measure` as readable text."""
    row = rows[0]
    xla = "with" if row["jit_compile"] else "without"
    lines = [
        f"{row['model']} {row['kwargs']}, batch {row['batch_size']}, input "
        f"{row['input_shape']}",
        f"{row['hardware']}; {row['dtype']}; {row['backend']} backend {xla} XLA",
        f"{row['versions']}; load average {row['load_average']:.1f} before timing",
        f"3x3 convolutions reach {row['machine_conv_gflops']:.1f} GFLOP/s in this "
        "run: a share of 100 %",
        f"speed: median (slowest..fastest) of {row['repeats']} repeats",
        "peak memory: of a fresh process on the host, before the model is built, after "
        "inference, after training",
        "",
    ]
    cells = [
        ["T", "parameters", "multiply-adds", "build", "first inference / training"]
    ]
    cells[0].append("peak memory")
    for row in rows:
        first = [_number(row[f"first_{mode}_s"], "{:.2f} s") for mode in MODES]
        peaks = [row[f"peak_mb_{name}"] for name in ("before", *MODES)]
        cells.append(
            [
                str(row["timesteps"]) or "-",
                f"{row['parameters']:,}",
                _number(row["multiply_adds"], "{:,}"),
                _number(row["build_s"], "{:.2f} s"),
                " / ".join(first),
                " / ".join(_number(peak, "{:.0f}") for peak in peaks) + " MB",
            ]
        )
    lines += _table(cells)
    for mode in MODES:
        if row[f"{mode}_images_per_s"]:
            lines += ["", *_table(_speed_cells(mode, rows))]
    return "\n".join(lines)


def _speed_cells(mode, rows):
    cells = [["T", f"{mode}, images/s", "GFLOP/s", "share", "time / T=1"]]
    cells[0] += ["multiply-adds / T=1", "cost"]
    for row in rows:
        speed, slowest, fastest, gflops, share = (row[f"{mode}_{n}"] for n in SPEED)
        cells.append(
            [
                str(row["timesteps"]) or "-",
                f"{speed:.4g} ({slowest:.4g}..{fastest:.4g})",
                _number(gflops, "{:.1f}"),
                _number(share, "{:.1%}"),
                _number(row[f"{mode}_time_ratio"], "{:.2f}"),
                _number(row["multiply_adds_ratio"], "{:.2f}"),
                _number(row[f"{mode}_cost"], "{:.2f}"),
            ]
        )
    return cells


def _number(value, template):
    return "-" if value == "" else template.format(value)


def _table(cells):
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return [
        "  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True))
        for line in cells
    ]


def define_flags(values):
    """Defines the flags in `values`, so that importing this module defines none."""
    define = {"flag_values": values}
    flags.DEFINE_string("model", None, "Dotted name of a model factory.", **define)
    flags.DEFINE_string("kwargs", "{}", "Its arguments, as JSON.", **define)
    flags.DEFINE_list(
        "timesteps",
        None,
        "Values of T, for a factory with an argument timesteps; 1 by default.",
        **define,
    )
    flags.DEFINE_list(
        "input_shape", None, "H,W,C of an image; the model's own by default.", **define
    )
    flags.DEFINE_integer("batch_size", 32, "Images.", lower_bound=1, **define)
    flags.DEFINE_list("mode", list(MODES), "inference, training or both.", **define)
    flags.DEFINE_enum(
        "dtype", "float32", ["float32", "mixed_bfloat16"], "Dtype policy.", **define
    )
    flags.DEFINE_bool("jit_compile", False, "XLA; JAX always has it.", **define)
    flags.DEFINE_integer("repeats", 5, "Timings of each.", lower_bound=1, **define)
    flags.DEFINE_float("seconds", 0.5, "Least duration of one timing.", **define)
    flags.DEFINE_bool(
        "fresh_process",
        True,
        "Run each T once in a process of its own, for memory and first run.",
        **define,
    )
    flags.DEFINE_string("csv", None, "File that gets one row for every T.", **define)


def get_settings(values):
    """The `Settings` that parsed flags hold; raises a ValueError naming the flag."""
    backend = keras.backend.backend()
    if backend not in ("tensorflow", "jax"):
        raise ValueError(f"KERAS_BACKEND must be tensorflow or jax, got {backend}.")
    try:
        kwargs = json.loads(values.kwargs)
    except json.JSONDecodeError:
        kwargs = None
    if not isinstance(kwargs, dict):
        raise ValueError(f"--kwargs must be a JSON object, got {values.kwargs!r}.")
    for name in ("timesteps", "input_shape"):
        if name in kwargs:
            raise ValueError(
                f"--kwargs must leave {name} to --{name}, got {values.kwargs!r}."
            )
    if not values.mode or not {*values.mode} <= {*MODES}:
        raise ValueError(
            f"--mode must be inference, training or both, got {commas(values.mode)!r}."
        )
    if not 0 < values.seconds < 3600:
        raise ValueError(
            f"--seconds must be between 0 and 3600, got {values.seconds!r}."
        )
    timesteps = _positive_ints("timesteps", values.timesteps)
    if timesteps and len({*timesteps}) < len(timesteps):
        raise ValueError(
            f"--timesteps must name each T once, got {commas(timesteps)!r}."
        )
    _, takes = find_factory(values.model)
    unknown = {*kwargs} - {*takes}
    if unknown and not any(p.kind is p.VAR_KEYWORD for p in takes.values()):
        raise ValueError(
            f"--kwargs must hold arguments that --model={values.model} takes, which "
            f"are {', '.join(takes)}, got {', '.join(sorted(unknown))}."
        )
    if "timesteps" not in takes and timesteps:
        raise ValueError(
            f"--timesteps must be left out for {values.model}, which takes no "
            f"timesteps, got {commas(timesteps)}."
        )
    return Settings(
        model=values.model,
        kwargs=kwargs,
        timesteps=timesteps or ((1,) if "timesteps" in takes else (None,)),
        batch_size=values.batch_size,
        input_shape=_positive_ints("input_shape", values.input_shape),
        modes=tuple(mode for mode in MODES if mode in values.mode),
        dtype=values.dtype,
        jit_compile=values.jit_compile,
        repeats=values.repeats,
        seconds=values.seconds,
        fresh_process=values.fresh_process,
    )


def _positive_ints(name, texts):
    if texts is None:
        return None
    if not texts or not all(text.isdecimal() and int(text) for text in texts):
        raise ValueError(
            f"--{name} must be positive integers like 1,2,3, got {commas(texts)!r}."
        )
    return tuple(int(text) for text in texts)


def _check_csv(path):
    """True if the file needs a header; a file with other columns is refused."""
    path = pathlib.Path(path)
    if path.is_dir() or not path.parent.is_dir():
        raise ValueError(
            f"--csv must be a file in a folder that exists, got {str(path)!r}."
        )
    if not path.exists() or path.stat().st_size == 0:
        return True
    with path.open(newline="") as file:
        columns = next(csv.reader(file))
    if columns != list(COLUMNS):
        raise ValueError(
            f"--csv must be a new file or one with the columns of this program, got "
            f"{str(path)!r} with {', '.join(columns)}."
        )
    return False


def append_rows(path, rows):
    """Adds the rows of `measure` to a CSV file."""
    new = _check_csv(path)
    with pathlib.Path(path).open("a", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        if new:
            writer.writeheader()
        for row in rows:
            floats = {n: f"{v:.5g}" for n, v in row.items() if isinstance(v, float)}
            writer.writerow(row | floats)


def main(values):
    """Measures what the parsed flags say, prints the table, adds to the CSV."""
    settings = get_settings(values)
    if values.csv:
        _check_csv(values.csv)
    rows = measure(settings, lambda line: print(line, file=sys.stderr, flush=True))
    print(report(rows))
    if values.csv:
        append_rows(values.csv, rows)


if __name__ == "__main__":
    define_flags(flags.FLAGS)
    _app.launch(lambda: main(flags.FLAGS))
