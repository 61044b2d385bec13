"""Measures how models degrade on noisy, hidden, blurred or attacked images.

    python -m applications.robustness --runs=runs/vgg,runs/crcn --noise=10,20,30,40,50 \
        --occlusion=0.1,0.2,0.3 --fgsm=1,2,4,8 --seeds=0,1 --output_dir=runs/robust
    python -m applications.robustness --models=mine.keras --preprocessing=torch \
        --dataset=imagenet2012 --eval_split=validation --pgd=1,2 --output_dir=runs/mine

The corruptions, in the units of images of 0 to 255, come before a model's own
preprocessing. Data set and splits are those of the first run unless flags say
otherwise; the models of --models get --preprocessing.

Into --output_dir go `robustness.csv`, one row per model, corruption, severity and seed
(what has a row already is not measured again); `robustness.png`, accuracy against
severity with the standard deviation over the seeds of training and corruption; and,
with --tsne_layers, `tsne_<model>_<run>.png`.
"""

import logging
import pathlib

import keras
import numpy as np
from absl import flags

import kfeedback  # noqa: F401  (registers the layers that a saved model holds)
from applications import _app, _data, _robustness_figures
from applications._robustness import ATTACKS, Sweep, load_models, summary
from kfeedback.corruptions import OCCLUDERS

flags.DEFINE_list("runs", [], "Folders that applications.train wrote.")
flags.DEFINE_list("models", [], "Models that Keras can load: .keras files.")
flags.DEFINE_list(
    "names",
    [],
    "What rows and figures call the models; those of one name are one curve. By "
    "default the folder or the file.",
)
flags.DEFINE_list(
    "timesteps",
    [],
    "Passes at test time, several for several curves: rebuilds an lrnet or crcn run.",
)
_SEVERITIES = {
    "noise": "Standard deviations of Gaussian noise.",
    "occlusion": "Hidden shares of the image, kept within 0.01.",
    "blur": "Standard deviations of a Gaussian, in pixels.",
    "contrast": "Factors on the distance to the mean.",
    "jpeg": "Qualities of JPEG files, 1 to 100.",
    "fgsm": "Steps ε of FGSM.",
    "pgd": "Bounds ε of PGD.",
}
for _name, _help in _SEVERITIES.items():
    flags.DEFINE_list(_name, [], _help)
flags.DEFINE_enum("occluder", "rectangles", OCCLUDERS, "What hides a part.")
flags.DEFINE_integer("pgd_steps", 10, "Steps of PGD.", lower_bound=1)
_app.define_number("pgd_step_share", 0.25, "A step of PGD, as a share of ε.", above=0)
flags.DEFINE_bool("from_logits", False, "The models end in logits.")
flags.DEFINE_list("seeds", ["0"], "Seeds of what is random in a corruption.")
flags.DEFINE_list("tsne_layers", [], "Names of layers to draw by t-SNE.")
_app.define_number("tsne_noise", 30.0, "Noise of the second t-SNE figure.", above=0)
flags.DEFINE_integer("tsne_examples", 1000, "Images of t-SNE.", lower_bound=10)
flags.DEFINE_string("output_dir", None, "Folder of what is written (required).")
flags.DEFINE_string("results", None, "CSV file instead of robustness.csv there.")
FLAGS = flags.FLAGS

_OF_THE_DATA = ("dataset", "data_dir", "manual_dir", "train_split", "eval_split")
_OF_THE_DATA += ("classes", "image_size", "batch_size")


def main():
    """Measures, prints, writes, draws."""
    output = pathlib.Path(_app.required("output_dir"))
    # Each model is traced anew, of which TensorFlow warns.
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    severities = {name: _severities(name) for name in _SEVERITIES}
    seeds = _numbers("seeds", int, "whole numbers from 0 on", lambda n: n >= 0)
    timesteps = _numbers("timesteps", int, "whole numbers from 1 on", lambda n: n > 0)
    _check_flags(severities)
    if FLAGS.runs:
        stored = _run_flags(pathlib.Path(FLAGS.runs[0]))
        _app.take_flags({name: stored.get(name) for name in _OF_THE_DATA})
    data, info = _data.get_data(FLAGS.eval_split, None, training=False)
    if info.multi_label:
        raise ValueError(
            f"--dataset must have one label an image, got {info.name}, which has "
            "several."
        )
    attacked = [name for name in ATTACKS if severities[name]]
    entries = load_models(_places(), timesteps, info, attacked)
    _robustness_figures.check_layers(entries, FLAGS.tsne_layers)
    output.mkdir(parents=True, exist_ok=True)
    results = pathlib.Path(FLAGS.results or output / "robustness.csv")
    others = None
    if severities["occlusion"] and FLAGS.occluder == "patches":
        others = _some_images(FLAGS.train_split, 512)
    sweep = Sweep(entries, data, info, results, others)
    sweep.run(severities, seeds)
    rows = sweep.rows
    print(f"{info.name}, {info.split}: {info.num_examples} examples")
    print(_app.format_table(summary(rows)))
    if any(severities.values()):
        _robustness_figures.draw_curves(rows, output / "robustness.png")
        print(f"wrote {output / 'robustness.png'}")
    if FLAGS.tsne_layers:
        for path in _robustness_figures.draw_tsne(
            entries, FLAGS.tsne_layers, data, output, FLAGS.tsne_noise, seeds[0]
        ):
            print(f"wrote {path}")


def _numbers(name, kind, takes, valid):
    """The values of a list flag, checked."""
    try:
        values = [kind(text) for text in FLAGS[name].value]
        right = all(valid(value) for value in values)
    except ValueError:
        right = False
    if not right or len(set(values)) != len(values):
        raise ValueError(
            f"--{name} must be different {takes}, separated by commas, got "
            f"{','.join(map(str, FLAGS[name].value))!r}."
        )
    return values


def _severities(name):
    if name == "jpeg":
        return _numbers(name, int, "qualities from 1 to 100", lambda n: 1 <= n <= 100)
    if name == "occlusion":
        takes = "shares between 0 and 1"
        return _numbers(name, float, takes, lambda n: 0 < n < 1)
    if name in ATTACKS:
        return _numbers(name, float, "numbers in 0 to 255", lambda n: 0 <= n <= 255)
    takes = "numbers ≥ 0"
    most = 100 if name == "blur" else 1e6
    return _numbers(name, float, takes, lambda n: 0 <= n <= most)


def _check_flags(severities):
    """Refuses flags that contradict others or would have no effect."""
    if not (FLAGS.runs or FLAGS.models):
        raise ValueError("--runs or --models must be given, got none.")
    if FLAGS.names and len(FLAGS.names) != len(FLAGS.runs) + len(FLAGS.models):
        raise ValueError(
            f"--names must name each of the {len(FLAGS.runs) + len(FLAGS.models)} "
            f"models, got {len(FLAGS.names)} names."
        )
    if not FLAGS.models:
        _app.refuse(("preprocessing",), "no --models")
    elif FLAGS.preprocessing in ("standardize", "gcn_zca"):
        raise ValueError(
            "--preprocessing must be one that nothing is fitted for with --models, got "
            f"{FLAGS.preprocessing}."
        )
    if not FLAGS.seeds:
        raise ValueError("--seeds must hold one at least, got none.")
    for flag, needs in (
        ("occluder", "occlusion"),
        ("pgd_steps", "pgd"),
        ("pgd_step_share", "pgd"),
    ):
        if not severities[needs]:
            _app.refuse((flag,), f"no --{needs}")
    if not FLAGS.tsne_layers:
        _app.refuse(("tsne_noise", "tsne_examples"), "no --tsne_layers")
    _app.refuse(("flip", "shift"), "evaluation")


def _run_flags(run):
    if not (run / "run.json").is_file():
        raise ValueError(
            f"--runs must be folders that applications.train wrote, got '{run}'."
        )
    return _app.stored_flags(run)


def _places():
    """`(name, path, flags of the run or None)` of each model."""
    paths = [pathlib.Path(place) for place in [*FLAGS.runs, *FLAGS.models]]
    names = FLAGS.names or [
        path.name if n < len(FLAGS.runs) else path.stem for n, path in enumerate(paths)
    ]
    runs = len(FLAGS.runs)
    return [
        (name, path, _run_flags(path) if n < runs else None)
        for n, (name, path) in enumerate(zip(names, paths, strict=True))
    ]


def _some_images(split, count):
    """The first images of a split."""
    found = []
    for images, _ in _data.get_data(split, None, training=False)[0]:
        found.append(keras.ops.convert_to_numpy(images))
        if sum(map(len, found)) >= count:
            break
    return np.concatenate(found)[:count]


if __name__ == "__main__":
    _app.launch(main)
