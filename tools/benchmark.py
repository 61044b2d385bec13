r"""Measures what a model costs, for every number of timesteps T.

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

import sys

from applications.common.command_line import launch
from applications.common.rows import align, append_rows, check_columns
from tools.costs import COLUMNS, MODES, SPEED, Settings, measure


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
    lines += align(cells)
    for mode in MODES:
        if row[f"{mode}_images_per_s"]:
            lines += ["", *align(_speed_cells(mode, rows))]
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


def main(settings):
    """Measures, prints the table, adds to the CSV."""
    check_columns(settings.csv, COLUMNS, "csv")
    rows = measure(settings, lambda line: print(line, file=sys.stderr, flush=True))
    print(report(rows))
    append_rows(
        settings.csv,
        [
            {k: f"{v:.5g}" if isinstance(v, float) else v for k, v in row.items()}
            for row in rows
        ],
        "csv",
    )


if __name__ == "__main__":
    launch(main, Settings)
