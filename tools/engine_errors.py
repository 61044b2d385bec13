r"""The error of a published network on every engine and in every precision.

    python -m tools.engine_errors --weights=lnin_cifar10 --dataset=cifar10 \
        --engines=keras,openvino,openvino_int8 --csv=errors.csv

`openvino_int8` takes its ranges from the first --calibration images of --train_split,
and computes what it cannot compute in int8 in the precision of its row. Images are
preprocessed as the network was trained.
"""

import dataclasses

import numpy as np

from applications.common import data, machine, published, scores
from applications.common.command_line import launch
from applications.common.data import Data
from applications.common.models import check_class_names, check_images, predict_all
from applications.common.rows import append_rows, check_columns, format_table
from applications.common.settings import changed, field
from tools.engines import ENGINES, PRECISIONS, in_precision

COLUMNS = ("precision", "engine", "error", "weights", "dataset", "eval_split")
COLUMNS += ("examples", "hardware")


@dataclasses.dataclass(frozen=True)
class Settings(Data):
    """The flags of tools.engine_errors."""

    preprocessing: str | None = changed(Data, "preprocessing", None)
    weights: str | None = field(
        None, "A tag of list_weights, or a file of its kind.", required=True
    )
    precisions: tuple[str, ...] = field(
        tuple(PRECISIONS), "In which to compute.", choices=tuple(PRECISIONS)
    )
    engines: tuple[str, ...] = field(
        ("keras", "openvino", "openvino_int8"), "What computes.", choices=tuple(ENGINES)
    )
    calibration: int = field(300, "Training images for the ranges of int8.", least=1)
    csv: str | None = field(None, "File that gets the rows.")

    def check(self):
        """Refuses what the weights decide."""
        super().check()
        self.refuse(("preprocessing",), f"--weights={self.weights}")


def main(settings):
    """Measures and prints."""
    check_columns(settings.csv, COLUMNS, "csv")
    found = published.find("weights", settings.weights)
    preprocess = data.get_preprocess(found.preprocessing, None)
    test, info = data.load(settings, settings.eval_split, preprocess)
    scores.require_one_label(info)
    check_images("weights", found.load(), info)
    names = found.about.get("class_names")
    check_class_names("weights", names, settings.dataset, info.class_names)
    train, _ = data.load(settings, settings.train_split, preprocess)
    images, _ = data.first_images(train, settings.calibration)

    def build(precision):
        return in_precision(precision, found.load)

    rows = []
    for precision in settings.precisions:
        for engine in settings.engines:
            run = ENGINES[engine](build, precision, images)
            if not run:
                continue
            outputs, labels = predict_all(lambda x, run=run: run(np.asarray(x)), test)
            row = {"precision": precision, "engine": engine}
            row["error"] = f"{scores.top_k_error(outputs, labels, 1):.2f}"
            row |= {"weights": settings.weights, "dataset": info.name}
            row |= {"eval_split": info.split, "examples": len(labels)}
            rows.append(row | {"hardware": machine.hardware()})
    if not rows:
        raise ValueError(
            "--engines must be some that compute in --precisions, got "
            f"{', '.join(settings.engines)}."
        )
    print(format_table([dict([*row.items()][:3]) for row in rows]))
    append_rows(settings.csv, rows, "csv")


if __name__ == "__main__":
    launch(main, Settings)
