r"""Puts the errors after each epoch of some runs into one CSV file, and draws them.

    python -m tools.curves --runs=runs/one,runs/other --csv=curves.csv --png=curves.png

Reads `epochs.csv` and `run.json` that applications.train left in each folder. A row is
one epoch of one run, named by its --experiment: errors in percent on the training
images, as they were augmented, and on those of --eval_split, for every timestep. The
figure draws those of the last timestep.
"""

import csv
import dataclasses
import itertools
import json
import pathlib

from applications.common import figures
from applications.common.command_line import launch
from applications.common.rows import write_rows
from applications.common.settings import Settings as Base
from applications.common.settings import field


@dataclasses.dataclass(frozen=True)
class Settings(Base):
    """The flags of tools.curves."""

    runs: tuple[str, ...] = field((), "Folders of runs.", required=True)
    csv: str | None = field(None, "File that is written.", required=True)
    png: str | None = field(None, "Figure that is written.")
    title: str | None = field(None, "Of the figure.")

    def check(self):
        """Refuses flags that would have no effect."""
        super().check()
        if self.png is None:
            self.refuse(("title",), "no --png")


def main(settings):
    """Reads all, then writes."""
    rows = [row for folder in settings.runs for row in epochs(folder)]
    columns = dict.fromkeys(key for row in rows for key in row)
    rows = [dict.fromkeys(columns, "") | row for row in rows]
    write_rows(pathlib.Path(settings.csv), rows)
    if settings.png:
        draw(rows, settings.png, settings.title)


def epochs(folder):
    """Rows of one run, with the errors as text of two decimals.

    Raises:
        ValueError: if the folder holds no run that has finished an epoch with a test.
    """
    folder = pathlib.Path(folder)
    try:
        run = json.loads((folder / "run.json").read_text(encoding="utf-8"))
        with (folder / "epochs.csv").open(newline="", encoding="utf-8") as file:
            found = list(csv.DictReader(file))
    except OSError as error:
        raise ValueError(
            f"--runs must be folders of applications.train, got {folder} ({error})."
        ) from error
    name = run["flags"]["experiment"] or folder.name
    steps = [key for key in found[0] if key.startswith("accuracy_t")] if found else []
    if not steps or any(not row.get(f"val_{key}") for row in found for key in steps):
        raise ValueError(
            "--runs must be folders of runs with an error after each epoch, got "
            f"{folder}."
        )
    return [
        {"experiment": name, "epoch": int(row["epoch"]) + 1}
        | {
            f"{kind}_error_{step.removeprefix('accuracy_')}": _error(row[prefix + step])
            for kind, prefix in (("training", ""), ("test", "val_"))
            for step in steps
        }
        for row in found
    ]


def _error(accuracy):
    return f"{100 * (1 - float(accuracy)):.2f}"


def draw(rows, path, title=None):
    """Draws rows of `epochs` into a file: one color a run, dashes for training."""
    figure, axes = figures.grid(1, 1, 7, 4)
    axis = axes[0, 0]
    runs = itertools.groupby(rows, key=lambda row: row["experiment"])
    for (name, group), color in zip(runs, itertools.cycle(figures.COLORS)):
        group = list(group)
        steps = [key for key in group[0] if "_error_" in key and group[0][key]]
        numbers = [row["epoch"] for row in group]
        for kind, style in (("training", "--"), ("test", "-")):
            last = [key for key in steps if key.startswith(kind)][-1]
            errors = [float(row[last]) for row in group]
            label = f"{name}: {errors[-1]:.2f} %" if kind == "test" else None
            axis.plot(numbers, errors, style, color=color, label=label)
    axis.set(xlabel="epoch", ylabel="error in %, training dashed", ylim=(0, None))
    axis.grid(alpha=0.3)
    axis.legend()
    figures.save(figure, path, title)


if __name__ == "__main__":
    launch(main, Settings)
