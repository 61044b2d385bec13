r"""How long it takes from `python` to a first prediction and a first training step.

    python -m tools.startup --models=lrnet,cliquenet --csv=startup.csv

Each family starts in a process of its own, with its defaults and one image for the
prediction, --batch_size for training; several rounds take turns. The first row imports
alone: of kfeedback, after that of Keras with its backend, which it brings along.
"""

import dataclasses
import json
import os
import statistics
import subprocess
import sys
import time

from applications.common import machine
from applications.common.command_line import launch
from applications.common.rows import align, append_rows, check_columns
from applications.common.settings import Settings as Base
from applications.common.settings import field
from kfeedback.models import registry

STAGES = ("python", "keras", "kfeedback", "build", "first_prediction")
STAGES += ("second_prediction", "first_training_step", "second_training_step")
COLUMNS = ("model", *STAGES, "backbone", "batch_size", "repeats", "hardware")

_PROGRAM = """
import json, sys, time
marks = {"python": time.time()}
def mark(name):
    marks[name] = time.time()
import keras
mark("keras")
import kfeedback
mark("kfeedback")
name, batch, backbone = sys.argv[1], int(sys.argv[2]), sys.argv[3]
if name:
    import numpy as np
    from kfeedback.models import registry
    from tools import timing
    family = registry.get(name)
    arguments = {"backbone": backbone} if family.gives_feedback else {}
    model = family.factory(**arguments)
    mark("build")
    images = np.zeros((batch, *model.input_shape[1:]), "float32")
    forward = timing.compiled_forward(model)
    for name in ("first_prediction", "second_prediction"):
        forward(keras.ops.convert_to_tensor(images[:1]))
        mark(name)
    step = timing.training_step(model, keras.ops.convert_to_tensor(images))
    for name in ("first_training_step", "second_training_step"):
        step()
        mark(name)
print(json.dumps(marks))
"""


@dataclasses.dataclass(frozen=True)
class Settings(Base):
    """The flags of tools.startup."""

    models: tuple[str, ...] = field(
        ("lrnet", "crcn", "cliquenet", "feedback_convlstm"),
        "Families.",
        choices=tuple(registry.families()),
    )
    backbone: str = field(
        "vgg_small",
        "What feedback is given to.",
        choices=tuple(registry.backbones()),
    )
    batch_size: int = field(32, "Images of a training step.", least=1)
    repeats: int = field(3, "Rounds.", least=1)
    csv: str | None = field(None, "File that gets the rows.")


def main(settings):
    """Measures, prints, writes."""
    check_columns(settings.csv, COLUMNS, "csv")
    families = ("", *settings.models)
    rounds = {family: [] for family in families}
    for number in range(settings.repeats):
        for family in families:
            print(f"round {number + 1}/{settings.repeats}: {family or 'imports'}")
            rounds[family].append(
                stages(family, settings.batch_size, settings.backbone)
            )
    found = [row(family, rounds[family], settings) for family in families]
    shown = ("model", *STAGES)
    cells = [list(shown), *([str(line[key]) for key in shown] for line in found)]
    print(f"{machine.hardware()}, seconds of each stage, medians")
    print("\n".join(align(cells)))
    append_rows(settings.csv, found, "csv")


def stages(family, batch_size, backbone="vgg_small"):
    """Seconds of each stage of a new process that builds and runs a family.

    Args:
        family: its name in the registry; empty for the imports alone.
        batch_size: images of a training step.
        backbone: what a family gets that gives feedback to one.

    Returns:
        dict from the names of `STAGES` that it reached to seconds.
    """
    start = time.time()
    run = subprocess.run(
        [sys.executable, "-c", _PROGRAM, family, str(batch_size), backbone],
        stdout=subprocess.PIPE,
        check=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
    )
    marks = json.loads(run.stdout.splitlines()[-1])
    before = [start, *marks.values()]
    return {
        name: end - begin
        for (name, end), begin in zip(marks.items(), before, strict=False)
    }


def row(family, rounds, settings):
    """A row of medians, seconds; empty for stages that were not reached."""
    medians = {
        name: f"{statistics.median(one[name] for one in rounds):.2f}"
        if name in rounds[0]
        else ""
        for name in STAGES
    }
    return {
        "model": family or "imports",
        **medians,
        "backbone": settings.backbone,
        "batch_size": settings.batch_size,
        "repeats": settings.repeats,
        "hardware": machine.hardware(),
    }


if __name__ == "__main__":
    launch(main, Settings)
