r"""Measures where a classifier looks: maps and boxes of several methods, compared.

    python -m applications.localize --run=runs/plain --dataset=cluttered_mnist \
        --eval_split=test --tuning_split='train[90%:]' --output_dir=runs/where
    python -m applications.localize --model=mine.keras --preprocessing=caffe \
        --dataset=voc/2007 --image_size=224 --output_dir=runs/voc

The data set is one of TFDS whose examples have objects with boxes, or a folder in the
form of VOC, whose names stand for the model's classes in the order of --class_names or
else of the alphabet. The class of every object is given. Thresholds and energy shares
are chosen on --tuning_split, never on --eval_split. Images are resized to --image_size,
by default what the model takes; the second look cuts out of them as they were before.

Into --output_dir go `localize.csv`, one row per method with all metrics; `gallery.png`;
and `localize.html`, one page with image, map, box and second look per method that opens
without a server.
"""

import logging
import pathlib

from applications.common import data, machine, rows
from applications.common.command_line import launch
from applications.common.models import load_model
from applications.localize import gallery, measures, page
from applications.localize.settings import Settings
from kfeedback.datasets.boxes import load_boxes
from kfeedback.explain import Explainer

_CHUNK = 64
_SHOWN = ("localization_error", "tuned_error", "max_box_error", "pointing_game")
_SHOWN += ("energy_in_box", "deletion", "insertion", "first_look", "second_look")


def main(settings):
    """Measures, prints, writes, draws."""
    output = pathlib.Path(settings.output_dir)
    # Each method is a graph of its own, of which TensorFlow warns.
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    if settings.run is not None:
        preprocess = data.get_preprocess(settings.preprocessing, settings.run)
        model = load_model("run", pathlib.Path(settings.run, "model.keras"))
    else:
        preprocess = settings.preprocessing
        model = load_model("model", settings.model)
    explainers = {
        name: Explainer(
            model, settings.method(name), preprocess=preprocess, batch_size=_CHUNK
        )
        for name in settings.methods
    }
    network = explainers[settings.methods[0]].network
    tuning = _boxed(settings, network, settings.tuning_split, settings.tuning_examples)
    test = _boxed(settings, network, settings.eval_split, settings.examples)
    output.mkdir(parents=True, exist_ok=True)
    about = {
        "experiment": settings.experiment_name,
        "dataset": settings.dataset,
        "eval_split": settings.eval_split,
        "images": len(test.images),
        "objects": len(test.labels),
        "tuning_split": settings.tuning_split,
        "tuning_objects": len(tuning.labels),
    }
    lines = []
    for method, explainer in explainers.items():
        measured = measures.measure(settings, explainer, tuning, test)
        line = about | {"method": method} | measured
        line |= {"hardware": machine.hardware(), "flags": settings.command_line()}
        rows.append_row(settings.results or output / "localize.csv", line)
        lines.append(line)
    print(f"{settings.dataset}, {settings.eval_split}: {len(test.labels)} objects")
    print(rows.format_table([{k: x[k] for k in ("method", *_SHOWN)} for x in lines]))
    if settings.gallery:
        energies = {line["method"]: line["tuned_energy"] for line in lines}
        examples = gallery.choose(settings, explainers, energies, test)
        gallery.draw(examples, output / "gallery.png")
        page.write(examples, about, lines, output / "localize.html")
        for name in ("gallery.png", "localize.html"):
            print(f"wrote {output / name}")


def _boxed(settings, network, split, count):
    size = network.model.inputs[0].shape[1:3]
    if settings.image_size:
        size = settings.image_size, settings.image_size
    try:
        found = load_boxes(
            settings.dataset,
            split,
            image_size=None if None in size else size,
            data_dir=settings.data_dir,
            class_names=list(settings.class_names) or None,
            count=count,
        )
    except ValueError as error:
        raise ValueError(f"--dataset={settings.dataset}: {error}") from error
    names = found.class_names
    if names and len(names) != network.classes:
        raise ValueError(
            f"--dataset must have the {network.classes} classes of the model, got "
            f"{settings.dataset} with {len(names)}; --class_names names those of a "
            "folder."
        )
    return found


if __name__ == "__main__":
    launch(main, Settings)
