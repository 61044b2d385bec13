"""Measures a trained model: errors at every timestep, and pictures of its feedback.

    python -m applications.evaluate --run=runs/lr_lenet --figures

Data set, preprocessing and splits are those of the run unless flags say otherwise.
Into the run's folder go `evaluation.csv`, top-1 and top-5 error a timestep, and with
--figures those of the model's paper: `emphasis.png`, `channels.png` and `top_k.png`,
figures 6 to 8 of Learning with Rethinking; or `clique_weights.png` and
`clique_stages.png`, figures 5 and 6 of CliqueNet.

With --early_exit samples stop at the timestep where the model is sure of them:
`early_exit.csv` and `early_exit.png` show accuracy against multiply-adds over all
thresholds. The cheapest threshold that costs at most --exit_loss points of accuracy is
chosen on one half of the evaluation split; on the other one accuracy and speed are
measured against those of all passes.
"""

import csv
import pathlib
import sys

import keras
import numpy as np
from absl import flags

import kfeedback  # noqa: F401  (registers the layers that a saved model holds)
from applications import _app, _data, _early_exit

flags.DEFINE_string("run", None, "Folder that applications.train wrote (required).")
flags.DEFINE_bool("figures", False, "Draw the figures of the model's paper.")
flags.DEFINE_bool("flip_average", False, "Mean posterior of image and mirror image.")
flags.DEFINE_bool("early_exit", False, "Measure stopping as soon as it is sure.")
_app.define_number(
    "exit_loss", 0.2, "Points of accuracy that early exit may cost.", least=0
)
flags.DEFINE_integer(
    "exit_batch_size", 256, "Images that start together.", lower_bound=1
)
flags.DEFINE_string("exit_results", None, "CSV file that gets a row of --early_exit.")
FLAGS = flags.FLAGS


def main():
    """Evaluates, prints, writes."""
    run = pathlib.Path(_app.required("run"))
    _app.take_flags(_app.stored_flags(run))
    _app.refuse(("flip", "shift"), "evaluation")
    model = _app.load_model("run", run / "model.keras")
    preprocess = _data.get_preprocess(run, fit=False)
    data, info = _data.get_data(FLAGS.eval_split, preprocess, training=False)
    _app.check_images("run", model, info)
    figures = drawing(model) if FLAGS.figures else None
    if FLAGS.early_exit:
        _early_exit.check(model)
    else:
        exits = ("exit_loss", "exit_batch_size", "exit_results")
        _app.refuse(exits, "no --early_exit")
    posteriors, labels = predict(model, data, flip_average=FLAGS.flip_average)
    rows = error_rows(posteriors, labels)
    print(f"{info.name}, {info.split}: {info.num_examples} examples")
    print(_app.format_table(rows))
    _write_rows(run / "evaluation.csv", rows)
    if figures is not None:
        train, _ = _data.get_data(FLAGS.train_split, preprocess, training=False)
        for path in figures(run, (data, posteriors, labels), train):
            print(f"wrote {path}")
    if FLAGS.early_exit:
        leave_early(run, model, (data, posteriors, labels))


def leave_early(run, model, test):
    """Chooses a threshold, measures it, prints, writes and draws."""
    data, posteriors, labels = test
    half = len(labels) // 2
    cost = _early_exit.costs(model)
    threshold = _early_exit.choose(
        posteriors[:half], labels[:half], cost, FLAGS.exit_loss
    )
    images = np.concatenate([np.asarray(images) for images, _ in data])[half:]
    rows = _early_exit.curve(posteriors[half:], labels[half:], cost)
    measured = {
        "examples": len(images),
        "batch_size": FLAGS.exit_batch_size,
        **_early_exit.measure(
            model, images, labels[half:], threshold, FLAGS.exit_batch_size
        ),
        **{
            name: value
            for row in rows
            if row["threshold"] == threshold
            for name, value in row.items()
            if name.startswith(("mean", "saved"))
        },
    }
    print(_app.format_table(rows))
    print(_app.format_table([measured]))
    _write_rows(run / "early_exit.csv", rows)
    if FLAGS.exit_results:
        fixed = {"run": run.name, "dataset": FLAGS.dataset, "model": model.name}
        hardware = {"hardware": _app.hardware()}
        _app.append_row(FLAGS.exit_results, {**fixed, **measured, **hardware})
    _early_exit.draw(
        rows, posteriors[half:], labels[half:], cost, run / "early_exit.png"
    )
    print(f"wrote {run / 'early_exit.png'}")


def _write_rows(path, rows):
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def drawing(model):
    """Function of (folder, test, train batches) that draws the model's figures.

    Raises:
        ValueError: if there are none for such a model.
    """
    from applications import _clique_figures, _figures

    if _clique_figures.clique_blocks(model):
        return lambda folder, test, _: _clique_figures.draw_all(model, folder, test[0])
    _figures.check(model)
    return lambda folder, test, train: _figures.draw_all(
        model, folder, test=test, train=predict(model, train)
    )


def predict(model, data, flip_average=False):
    """Posteriors `(N, T, classes)` and labels `(N,)` of batches.

    With `flip_average` the posteriors of each image and its mirror are averaged.
    """
    posteriors, labels = [], []
    progress = keras.utils.Progbar(len(data), verbose=int(sys.stdout.isatty()))
    for images, batch_labels in data:
        images = keras.ops.convert_to_tensor(images)
        batch = model.predict_on_batch(images)
        if flip_average:
            mirrored = model.predict_on_batch(keras.ops.flip(images, axis=2))
            batch = (batch + mirrored) / 2
        posteriors.append(batch.astype("float32"))
        labels.append(np.asarray(batch_labels))
        progress.add(1)
    posteriors = np.concatenate(posteriors)
    if posteriors.ndim == 2:  # a feedforward network makes one prediction
        posteriors = posteriors[:, None]
    return posteriors, np.concatenate(labels).reshape(-1)


def top_k_error(posteriors, labels, k):
    """Share in percent of samples whose label is not among the k best classes."""
    best = np.argsort(-posteriors, axis=-1, kind="stable")[:, :k]
    return 100 * (1 - (best == labels[:, None]).any(axis=1).mean())


def error_rows(posteriors, labels):
    """One dict a timestep: top-1 error, and top-5 error where there are > 5 classes."""
    rows = []
    for step in range(posteriors.shape[1]):
        row = {"timestep": step + 1}
        for k in (1, 5):
            if k < posteriors.shape[2]:
                error = top_k_error(posteriors[:, step], labels, k)
                row[f"top{k}_error"] = f"{error:.2f}"
        rows.append(row)
    return rows


if __name__ == "__main__":
    _app.launch(main)
