"""Mean and standard deviation over seeds of the errors in a results file.

python -m tools.summarize \
    applications/results/learning_with_rethinking/lr_lenet_mnist_bg.csv
"""

import csv
import pathlib
import sys

from applications.common.scores import spread


def summarize(rows):
    """Lines of a Markdown table: one a named experiment, in the order of the file."""
    names = list(dict.fromkeys(row["experiment"] for row in rows))
    steps = [key for key in rows[0] if key.startswith("error_t")]
    steps = [key for key in steps if any(row[key] for row in rows)]
    titles = [f"error % at timestep {key.removeprefix('error_t')}" for key in steps]
    lines = [f"| experiment | seeds | {' | '.join(titles)} |"]
    lines.append("| --- " * (len(steps) + 2) + "|")
    for name in names:
        chosen = [row for row in rows if row["experiment"] == name]
        cells = [
            spread([float(row[key]) for row in chosen if row[key]]) for key in steps
        ]
        lines.append(f"| {name} | {len(chosen)} | {' | '.join(cells)} |")
    return lines


def main():
    """Prints the table of the file that the command line names."""
    if len(sys.argv) != 2 or not pathlib.Path(sys.argv[1]).is_file():
        sys.exit(f"error: one CSV file must be given, got {sys.argv[1:]}.")
    with open(sys.argv[1], newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    if not rows or "experiment" not in rows[0]:
        sys.exit(f"error: {sys.argv[1]} must hold rows of applications.train.")
    print("\n".join(summarize(rows)))


if __name__ == "__main__":
    main()
