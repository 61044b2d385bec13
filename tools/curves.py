r"""Puts the errors after each epoch of some runs into one CSV file, and draws them.

    python -m tools.curves --runs=runs/one-0,runs/other-0 --csv=curves.csv \
        --png=curves.png --names="one,as long"

Reads `epochs.csv` and `run.json` that applications.train left in each folder. A row is
one epoch of one run: errors in percent for every timestep, on the training images as
they were augmented, as means over the epoch while the network learns, and on those of
--eval_split. The figure draws those of the last timestep.
"""

import csv
import dataclasses
import itertools
import pathlib

from applications.common import figures, runs
from applications.common.command_line import launch
from applications.common.rows import write_rows
from applications.common.settings import Settings as Base
from applications.common.settings import field

_TICKS = (1, 2, 5, 10, 20, 50, 100)


@dataclasses.dataclass(frozen=True)
class Settings(Base):
    """The flags of tools.curves."""

    runs: tuple[str, ...] = field(
        (), "Folders that applications.train wrote.", required=True
    )
    csv: str | None = field(None, "File that is written.", required=True)
    png: str | None = field(None, "Figure that is written.")
    names: tuple[str, ...] = field(
        (), "What the figure calls them; by default their --experiment."
    )
    title: str | None = field(None, "Title of the figure.")

    def check(self):
        """Refuses flags that would have no effect, and files that would be lost."""
        super().check()
        if self.png is None:
            self.refuse(("names", "title"), "no --png")
        elif pathlib.Path(self.png).suffix != ".png":
            raise ValueError(f"--png must be a file.png, got {self.png}.")
        if self.names and len(self.names) != len(self.runs):
            raise ValueError(
                f"--names must name each of the {len(self.runs)} runs, got "
                f"{len(self.names)} names."
            )
        folders = [pathlib.Path(folder).resolve() for folder in self.runs]
        if len({*folders}) < len(folders):
            raise ValueError("--runs must be different folders, got one twice.")
        for flag in ("csv", "png"):
            path = getattr(self, flag)
            if path and pathlib.Path(path).resolve().parent in folders:
                raise ValueError(
                    f"--{flag} must be outside the folders of --runs, got {path}."
                )


def main(settings):
    """Reads all, then writes."""
    curves = [epochs(folder) for folder in settings.runs]
    rows = [row for curve in curves for row in curve]
    columns = dict.fromkeys(key for row in rows for key in row)
    for path in filter(None, (settings.csv, settings.png)):
        pathlib.Path(path).parent.mkdir(parents=True, exist_ok=True)
    rows = [dict.fromkeys(columns, "") | row for row in rows]
    write_rows(pathlib.Path(settings.csv), rows)
    if settings.png:
        names = settings.names or [curve[0]["experiment"] for curve in curves]
        draw(list(zip(names, curves, strict=True)), settings.png, settings.title)


def epochs(folder):
    """Rows of one run, with the errors as text of two decimals.

    Raises:
        ValueError: if the folder holds no run with a test after every epoch.
    """
    flags = runs.read("runs", folder)["flags"]
    about = {
        "experiment": flags.get("experiment") or pathlib.Path(folder).resolve().name,
        "seed": flags.get("seed", ""),
    }
    try:
        text = pathlib.Path(folder, "epochs.csv").read_text(encoding="utf-8")
        found = list(csv.DictReader(text.splitlines(), strict=True))
        steps = [key for key in found[0] if key.startswith("accuracy_t")]
        return [about | _errors(row, steps) for row in found]
    except (OSError, csv.Error, IndexError, KeyError, TypeError, ValueError) as error:
        raise ValueError(
            "--runs must be folders of applications.train with an error after every "
            f"epoch (--validation_freq=1), got {folder} ({error!r})."
        ) from error


def _errors(row, steps):
    prefixes = {"training": "", "test": "val_"}
    return {"epoch": int(row["epoch"]) + 1} | {
        f"{kind}_error_{step.removeprefix('accuracy_')}": (
            f"{100 * (1 - float(row[prefix + step])):.2f}"
        )
        for kind, prefix in prefixes.items()
        for step in steps
    }


def draw(curves, path, title=None):
    """Draws curves into a file: a color each, dashes for the training images.

    Args:
        curves: list of `(name, rows)`, rows as `epochs` gives them.
        path: of the file.
        title: text, or `None`.
    """
    figure, axes = figures.grid(1, 1, 7, 4.5)
    axis = axes[0, 0]
    for (name, rows), color in zip(curves, itertools.cycle(figures.COLORS)):
        numbers = [row["epoch"] for row in rows]
        for kind, style in (("training", "--"), ("test", "-")):
            last = [key for key in rows[0] if key.startswith(f"{kind}_error")][-1]
            errors = [float(row[last]) for row in rows]
            axis.plot(
                numbers,
                errors,
                style,
                color=color,
                label=f"{name}: {kind} {errors[-1]:.2f} %",
            )
    axis.set(xlabel="epoch of the run", ylabel="error (%)", yscale="log")
    axis.set_yticks(_TICKS, [str(tick) for tick in _TICKS])
    axis.minorticks_off()
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8)
    figures.save(figure, path, title)


if __name__ == "__main__":
    launch(main, Settings)
