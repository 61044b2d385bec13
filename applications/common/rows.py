"""Rows of results: CSV files, and tables to print."""

import csv
import datetime
import pathlib

from applications.common import machine


def open_rows(path, row, flag="results"):
    """Opens a CSV file to add rows like `row`; refuses one with other columns.

    A last line without an end, as of an editor or of a full disk, gets one.
    """
    path = pathlib.Path(path)
    columns = list({"date": "", "commit": ""} | row)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("a+", newline="", encoding="utf-8")
        file.seek(0)
        found = next(csv.reader(file), None)
        file.seek(0)
        ends = file.read()[-1:] in ("", "\n", "\r")
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ValueError(
            f"--{flag} must be a CSV file that can be written, got {path} ({error})."
        ) from error
    writer = csv.DictWriter(file, fieldnames=columns, lineterminator="\n")
    if found is None:
        writer.writeheader()
    elif found != columns:
        raise ValueError(
            f"--{flag} must be a file with the columns {', '.join(columns)}, got "
            f"{path} with {', '.join(found)}."
        )
    if not ends:
        file.write("\n")
    return file, writer


def check_columns(path, columns, flag="results"):
    """Refuses a file that rows of these columns cannot be added to, before the work.

    Args:
        path: of the CSV file, which is begun if there is none; or `None`.
        columns: names, all but date and commit.
        flag: that names the file.
    """
    if path:
        open_rows(path, dict.fromkeys(columns), flag)[0].close()


def append_row(path, row, flag="results"):
    """Adds a row, and date and commit, to a CSV file, which a flag names."""
    file, writer = open_rows(path, row, flag)
    with file:
        today = datetime.date.today().isoformat()
        writer.writerow({"date": today, "commit": machine.commit(), **row})


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
