"""Rows of results: CSV files, and tables to print."""

import contextlib
import csv
import datetime
import errno
import io
import os
import pathlib

from applications.common import machine
from applications.common.locks import lock


@contextlib.contextmanager
def _opened(path, columns, flag):
    """A CSV file with these columns to add text to, which no other process has.

    A last line without an end, as of an editor, gets one.
    """
    path = pathlib.Path(path)
    with contextlib.ExitStack() as opened:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            file = opened.enter_context(path.open("a+b", buffering=0))
            lock(file)
            file.seek(0)
            text = file.read().decode("utf-8")
            found = list(csv.reader(io.StringIO(text, newline=""), strict=True))
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise ValueError(
                f"--{flag} must be a CSV file that can be written, got {path} "
                f"({error})."
            ) from error
        if not found:
            _add(file, [columns])
        elif found[0] != columns:
            raise ValueError(
                f"--{flag} must be a file with the columns {', '.join(columns)}, got "
                f"{path} with {', '.join(found[0])}."
            )
        elif text[-1] not in "\r\n":
            if len(found[-1]) < len(columns):
                raise ValueError(
                    f"--{flag} must be a file of whole rows, got {path}, whose last "
                    "row is cut off."
                )
            file.write(b"\n")
        yield file


def _add(file, lines):
    """Adds lines of cells to an open file: all of them or, on a full disk, none."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(lines)
    data = text.getvalue().encode("utf-8")
    end = file.seek(0, io.SEEK_END)
    if file.write(data) < len(data):
        file.truncate(end)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), file.name)


def _columns(names):
    return list(dict.fromkeys(("date", "commit", *names)))


def check_columns(path, columns, flag="results"):
    """Refuses a file that rows of these columns cannot be added to, before the work.

    Args:
        path: of the CSV file, which is begun if there is none; or `None`.
        columns: names; date and commit come first, listed or not.
        flag: that names the file.
    """
    if path:
        with _opened(path, _columns(columns), flag):
            pass


def append_rows(path, rows, flag="results"):
    """Adds rows, with date and commit, to a CSV file: all of them or none.

    Args:
        path: of the file, to which other processes may add as well; `None`: nowhere.
        rows: list of dicts of equal keys.
        flag: that names the file.
    """
    if not path:
        return
    about = {"date": datetime.date.today().isoformat(), "commit": machine.commit()}
    columns = _columns(rows[0])
    cells = [[*(about | row).values()] for row in rows if row.keys() == rows[0].keys()]
    if len(cells) < len(rows):
        raise ValueError(f"rows must have equal keys, got others than {columns}.")
    with _opened(path, columns, flag) as file:
        _add(file, cells)


def write_rows(path, rows):
    """Writes a CSV file of rows of equal keys."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def by_timestep(name, values, count):
    """`name_t1` … of the values, two decimals, and empty ones up to `count`."""
    padded = [f"{value:.2f}" for value in values] + [""] * (count - len(values))
    return {f"{name}_t{n}": value for n, value in enumerate(padded, start=1)}


def format_table(rows):
    """Rows of equal keys as aligned text."""
    return "\n".join(
        align([list(rows[0]), *([str(v) for v in row.values()] for row in rows)])
    )


def align(cells):
    """Lists of cells as lines, each column as wide as its widest cell."""
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return [
        "  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True))
        for line in cells
    ]
