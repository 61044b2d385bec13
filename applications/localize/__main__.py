r"""Measures where a classifier looks: maps and boxes of several methods, compared.

    python -m applications.localize --run=runs/plain --dataset=cluttered_mnist \
        --eval_split=test --tuning_split='train[90%:]' --output_dir=runs/where
    python -m applications.localize --model=mine.keras --preprocessing=caffe \
        --dataset=voc/2007 --image_size=224 --output_dir=runs/voc

The data set is one of TFDS whose examples have objects with boxes, or a folder in the
form of VOC, whose names stand for the model's classes in the order of --class_names,
else of those of --run, else of the alphabet. A target is a class of which an image has
objects: it is given, and a box is right that fits any of these. Thresholds and energy
shares are chosen on --tuning_split, never on --eval_split. Images are resized to
--image_size, by default what the model takes; the second look cuts out of them as they
were before. Images come in a stream: memory is the same for ten and for fifty thousand.

Into --output_dir go `localize.csv`, one row per method with all metrics; `gallery.png`
and `looks.png`, maps, boxes and second looks of some images; and `localize.html`, one
page with all of it that opens without a server.
"""

import itertools
import logging
import pathlib

from applications.common import data, machine, rows
from applications.common.command_line import launch
from applications.common.models import load_model
from applications.localize import gallery, page
from applications.localize.measures import Measures
from applications.localize.settings import Settings
from applications.localize.stream import Chunk, chunks, open_stream
from kfeedback.explain import Explainer, metrics

_SHOWN = ("localization_error", "tuned_error", "max_box_error", "pointing_game")
_SHOWN += ("energy_in_box", "pxap", "deletion", "insertion", "first_look")
_SHOWN += ("second_look", "seconds_per_map")


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
        name: Explainer(model, settings.method(name), preprocess=preprocess)
        for name in settings.methods
    }
    network = explainers[settings.methods[0]].network
    tuning, test = (
        open_stream(settings, network, split, count)
        for split, count in (
            (settings.tuning_split, settings.tuning_examples),
            (settings.eval_split, settings.examples),
        )
    )
    output.mkdir(parents=True, exist_ok=True)
    results = settings.results or output / "localize.csv"
    about = {
        "experiment": settings.experiment_name,
        "dataset": settings.dataset,
        "eval_split": settings.eval_split,
        "images": len(test),
        "targets": 0,
        "tuning_split": settings.tuning_split,
        "tuning_images": len(tuning),
    }
    measures = {k: Measures(settings, explainer) for k, explainer in explainers.items()}
    # Before hours of work: can rows be added, and are there scenes?
    for name, one in measures.items():
        rows.check_columns(results, _line(settings, about, name, one))
    scenes = _collages(settings.collages, test)
    for chunk in chunks(tuning, "tuning"):
        for one in measures.values():
            one.tune(chunk)
    right, wrong = [], []
    for chunk in chunks(test, "measuring"):
        errors = {name: one.add(chunk) for name, one in measures.items()}
        for n, example in enumerate(chunk.examples):
            missed = errors[settings.first][chunk.index == n].any()
            kept = wrong if missed else right
            kept += [example] * (len(kept) < settings.gallery / 2)
    shown = (right + wrong)[: settings.gallery]
    about["targets"] = next(iter(measures.values())).targets
    lines = []
    for name, one in measures.items():
        if scenes:
            one.add_collages(*scenes)
        lines.append(_line(settings, about, name, one))
    rows.append_rows(results, lines)
    print(f"{settings.dataset}, {settings.eval_split}: {about['targets']} targets")
    print(rows.format_table([{k: x[k] for k in ("method", *_SHOWN)} for x in lines]))
    if shown:
        energies = {name: one.energy for name, one in measures.items()}
        pictures = gallery.draw(
            settings, explainers, energies, shown, test.class_names, output
        )
        page.write(pictures, about, lines, output / "localize.html")
        for path in (*pictures, output / "localize.html"):
            print(f"wrote {path}")


def _line(settings, about, method, measures):
    line = about | {"method": method} | measures.row()
    flags = settings.command_line(also=("config", "run"))
    return line | {"hardware": machine.hardware(), "flags": flags}


def _collages(count, stream):
    """So many scenes, or as many as eight images for each give."""
    if not count:
        return ()
    pieces = [x for x in itertools.islice(stream, 8 * count) if len(x.labels)]
    if not pieces:
        raise ValueError("--collages must be of images with boxes, got none.")
    chunk = Chunk(pieces)
    labels = [x.labels[0] for x in pieces]
    try:
        found = metrics.collages(chunk.images, labels)
    except ValueError as error:
        raise ValueError(f"--collages={count}: {error}") from error
    if len(found[0]) < count:
        print(f"--collages: {len(found[0])} instead of {count}, as there are no more")
    return tuple(array[:count] for array in found)


if __name__ == "__main__":
    launch(main, Settings)
