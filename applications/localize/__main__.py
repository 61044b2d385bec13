"""Measures where a classifier looks: maps and boxes of several methods, compared.

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

import pathlib

from absl import flags
from kfeedback.explain._methods import STARTS

from applications import _app, _data, _localize, _localize_page
from kfeedback.datasets.boxes import load_boxes
from kfeedback.explain import METHODS, UPDATE_RULES

flags.DEFINE_string("run", None, "Folder that applications.train wrote.")
flags.DEFINE_string("model", None, "A classifier that Keras can load: a .keras file.")
flags.DEFINE_list("methods", list(METHODS), "What to compare.")
flags.DEFINE_list("class_names", [], "A name per class of the model, for a folder.")
flags.DEFINE_string("tuning_split", "train", "The examples to choose thresholds on.")
flags.DEFINE_integer("examples", 1000, "Images of --eval_split.", lower_bound=1)
flags.DEFINE_integer("tuning_examples", 500, "Images to tune on.", lower_bound=1)
flags.DEFINE_integer("iterations", 10, "Of the feedback's loop.", lower_bound=1)
_app.define_number("step_size", 0.1, "α of the loop.", above=0)
_app.define_number("sparsity", 0.02, "λ of the loop.", least=0)
flags.DEFINE_enum("update_rule", UPDATE_RULES[0], UPDATE_RULES, "Of the loop.")
flags.DEFINE_enum("start", "half", STARTS, "Where the gates start.")
flags.DEFINE_bool("normalize", True, "Gradients as a share of a layer's largest.")
flags.DEFINE_list("gate_layers", [], "Layers with gates; every ReLU by default.")
_app.define_number("look_energy", 0.95, "In the boxes of it.", above=0, most=1)
_app.define_number("margin", 0.25, "Added to a box for the second look.", least=0)
flags.DEFINE_bool("square", True, "Squares for the second look.")
flags.DEFINE_integer("top", 5, "Classes and boxes of a second look.", lower_bound=1)
flags.DEFINE_integer(
    "gallery", 6, "Images on the page; 0 for no page and gallery.", lower_bound=0
)
flags.DEFINE_string("experiment", "", "What the rows are called.")
flags.DEFINE_string("output_dir", None, "Folder of what is written (required).")
flags.DEFINE_string("results", None, "CSV file instead of localize.csv there.")
FLAGS = flags.FLAGS

_OF_THE_RUN = ("dataset", "preprocessing", "data_dir", "image_size")


def main():
    """Measures, prints, writes, draws."""
    output = pathlib.Path(_app.required("output_dir"))
    unknown = sorted(set(FLAGS.methods) - set(METHODS))
    if unknown or not FLAGS.methods:
        raise ValueError(
            f"--methods must hold some of {', '.join(METHODS)}, got "
            f"{','.join(FLAGS.methods)!r}."
        )
    if (FLAGS.run is None) == (FLAGS.model is None):
        raise ValueError(
            f"--run or --model must be given, one of them, got {FLAGS.run!r} and "
            f"{FLAGS.model!r}."
        )
    _app.refuse(("flip", "shift", "classes", "train_split"), "applications.localize")
    folder, place = None, FLAGS.model
    if FLAGS.run is not None:
        folder = pathlib.Path(FLAGS.run)
        stored = _app.stored_flags(folder)
        _app.take_flags({name: stored.get(name) for name in _OF_THE_RUN})
        place = folder / "model.keras"
    preprocess = _data.get_preprocess(folder, fit=False) if folder else None
    if preprocess is None:
        preprocess = FLAGS.preprocessing
        if preprocess in ("standardize", "gcn_zca"):
            raise ValueError(
                "--preprocessing must be one that nothing is fitted for with --model, "
                f"got {preprocess}."
            )
    model = _app.load_model("run" if folder else "model", place)
    explainers = {
        method: _localize.explainer_of(model, method, preprocess)
        for method in FLAGS.methods
    }
    network = explainers[FLAGS.methods[0]].network
    tuning = _boxed(network, FLAGS.tuning_split, FLAGS.tuning_examples)
    test = _boxed(network, FLAGS.eval_split, FLAGS.examples)
    output.mkdir(parents=True, exist_ok=True)
    results = FLAGS.results or output / "localize.csv"
    about = {
        "experiment": FLAGS.experiment or output.name,
        "dataset": FLAGS.dataset,
        "eval_split": FLAGS.eval_split,
        "images": len(test.images),
        "objects": len(test.labels),
        "tuning_split": FLAGS.tuning_split,
        "tuning_objects": len(tuning.labels),
    }
    rows = []
    for method, explainer in explainers.items():
        measured = _localize.measure(explainer, tuning, test)
        row = about | {"method": method} | measured
        row |= {"hardware": _app.hardware(), "flags": _app.command_line()}
        _app.append_row(results, row)
        rows.append(row)
    shown = ("localization_error", "tuned_error", "max_box_error", "pointing_game")
    shown += ("energy_in_box", "deletion", "insertion", "first_look", "second_look")
    print(f"{FLAGS.dataset}, {FLAGS.eval_split}: {len(test.labels)} objects")
    print(_app.format_table([{k: r[k] for k in ("method", *shown)} for r in rows]))
    if FLAGS.gallery:
        for path in _localize_page.write(explainers, rows, test, output):
            print(f"wrote {path}")


def _boxed(network, split, count):
    size = network.model.inputs[0].shape[1:3]
    if FLAGS.image_size:
        size = FLAGS.image_size, FLAGS.image_size
    try:
        found = load_boxes(
            FLAGS.dataset,
            split,
            image_size=None if None in size else size,
            data_dir=FLAGS.data_dir,
            class_names=FLAGS.class_names or None,
            count=count,
        )
    except ValueError as error:
        raise ValueError(f"--dataset={FLAGS.dataset}: {error}") from error
    names = found.class_names
    if names and len(names) != network.classes:
        raise ValueError(
            f"--dataset must have the {network.classes} classes of the model, got "
            f"{FLAGS.dataset} with {len(names)}; --class_names names those of a folder."
        )
    return found


if __name__ == "__main__":
    _app.launch(main)
