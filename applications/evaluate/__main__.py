r"""Measures a trained model: errors at every timestep, and pictures of its feedback.

    python -m applications.evaluate --run=runs/lr_lenet --figures
    python -m applications.evaluate --weights=lr_lenet_mnist_bg_sample --early_exit \
        --output_dir=runs/lr_lenet_mnist_bg_sample

Data set, preprocessing and splits are those of the run unless flags say otherwise. With
--weights the preprocessing is that of the card, the data set that of --dataset. Into
--output_dir, by default the run's folder, go `evaluation.csv`, top-1 and top-5 error a
timestep, and with --figures those of the model's paper: `emphasis.png`, `channels.png`
and `top_k.png`, figures 6 to 8 of Learning with Rethinking; or `clique_weights.png` and
`clique_stages.png`, figures 5 and 6 of CliqueNet.

With --early_exit samples stop at the timestep where the model is sure of them:
`early_exit.csv` and `early_exit.png` show accuracy against multiply-adds over all
thresholds. The cheapest threshold that costs at most --exit_loss points of accuracy,
one standard error included, is chosen on every other example of the evaluation split;
on the rest accuracy and speed are measured against those of all passes.
"""

import pathlib

import keras
import numpy as np

from applications.common import (
    data,
    early_exit,
    machine,
    published,
    rows,
    runs,
    scores,
)
from applications.common.command_line import launch
from applications.common.models import (
    check_class_names,
    check_images,
    load_model,
    predict_all,
)
from applications.evaluate.settings import Settings

EXITS = ("run", "dataset", "model", "examples", "batch_size", "threshold")
EXITS += ("accuracy_all", "accuracy_early", "images_per_s_all", "images_per_s_early")
EXITS += ("speedup", "mean_timesteps", "mean_multiply_adds", "saved_percent")
EXITS += ("hardware",)
"""Columns of --exit_results."""


def main(settings):
    """Evaluates, prints, writes."""
    name, model, preprocess, classes = load(settings)
    test, info = data.load(settings, settings.eval_split, preprocess)
    check_images(settings.source, model, info)
    check_class_names(settings.source, classes, settings.dataset, info.class_names)
    figures = drawing(model, info) if settings.figures else None
    if settings.early_exit:
        scores.require_one_label(info)
        early_exit.require_timesteps(model)
        if info.num_examples < 2:
            raise ValueError(
                "--eval_split must hold at least 2 examples with --early_exit, one to "
                f"choose a threshold and one to measure, got {info.num_examples}."
            )
    rows.check_columns(settings.exit_results, EXITS, "exit_results")
    folder = pathlib.Path(settings.output_dir or settings.run)
    folder.mkdir(parents=True, exist_ok=True)
    posteriors, labels = predict(model, test, flip_average=settings.flip_average)
    scores.check_labels("eval_split", labels, info)
    errors = error_rows(posteriors, labels)
    print(f"{info.name}, {info.split}: {info.num_examples} examples")
    print(rows.format_table(errors))
    rows.write_rows(folder / "evaluation.csv", errors)
    if figures is not None:
        train, _ = data.load(settings, settings.train_split, preprocess)
        for path in figures(folder, (test, posteriors, labels), train):
            print(f"wrote {path}")
    if settings.early_exit:
        row = leave_early(settings, folder, model, (test, posteriors, labels))
        row = {"run": name, "dataset": settings.dataset, "model": model.name} | row
        row |= {"hardware": machine.hardware()}
        rows.append_rows(settings.exit_results, [row], "exit_results")


def load(settings):
    """Name, model, function of preprocessing and class names of what is named."""
    if settings.source == "weights":
        found = published.find("weights", settings.weights)
        preprocess = data.get_preprocess(found.preprocessing, None)
        model = found.load(all_looks=True)
        return found.name, model, preprocess, found.about.get("class_names")
    run = pathlib.Path(settings.run)
    preprocess = data.get_preprocess(settings.preprocessing, run)
    classes = runs.read("run", run)["class_names"]
    name, model = run.resolve().name, load_model("run", run / "model.keras")
    return name, model, preprocess, classes


def leave_early(settings, folder, model, test):
    """Chooses a threshold, measures it, prints, writes and draws; gives the row."""
    batches, posteriors, labels = test
    cost = early_exit.costs(model)
    # Every other one: examples may be in the order of their classes.
    threshold = early_exit.choose(
        posteriors[::2], labels[::2], cost, settings.exit_loss
    )
    images, first = [], 0
    for batch, _ in batches:
        images.append(keras.ops.convert_to_numpy(batch)[(first + 1) % 2 :: 2])
        first += len(batch)
    images = np.concatenate(images)
    posteriors, labels = posteriors[1::2], labels[1::2]
    curve = early_exit.curve(posteriors, labels, cost)
    (chosen,) = [row for row in curve if row["threshold"] == threshold]
    measured = {
        "examples": len(images),
        "batch_size": settings.exit_batch_size,
        **early_exit.measure(
            model, images, labels, threshold, settings.exit_batch_size
        ),
        **{k: v for k, v in chosen.items() if k.startswith(("mean", "saved"))},
    }
    print(rows.format_table(curve))
    print(rows.format_table([measured]))
    rows.write_rows(folder / "early_exit.csv", curve)
    path = folder / "early_exit.png"
    early_exit.draw(curve, posteriors, labels, cost, path)
    print(f"wrote {path}")
    return measured


def drawing(model, info):
    """Function of (folder, test, train batches) that draws the model's figures.

    Raises:
        ValueError: if there are none for such a model, or for such labels.
    """
    from applications.evaluate import clique_figures, lrnet_figures

    if clique_figures.clique_blocks(model):
        return lambda folder, test, _: clique_figures.draw_all(model, folder, test[0])
    lrnet_figures.require_feedback(model)
    scores.require_one_label(info)
    return lambda folder, test, train: lrnet_figures.draw_all(
        model, folder, test=test, train=predict(model, train)
    )


def predict(model, batches, flip_average=False):
    """Posteriors `(N, T, classes)` and labels, `(N,)` or several, of batches.

    With `flip_average` the posteriors of each image and its mirror are averaged.
    """

    def outputs(images):
        found = model.predict_on_batch(images)
        if flip_average:
            mirrored = model.predict_on_batch(keras.ops.flip(images, axis=2))
            found = (found + mirrored) / 2
        return found

    posteriors, labels = predict_all(outputs, batches)
    if posteriors.ndim == 2:  # a feedforward network makes one prediction
        posteriors = posteriors[:, None]
    return posteriors, labels


def error_rows(posteriors, labels):
    """One dict a timestep: top-1 error, and top-5 error where there are > 5 classes.

    With several labels an image, `(N, classes)`: share of images whose labels are not
    exactly right, and mean average precision. All in percent.
    """
    if labels.ndim == 2:
        exact = scores.accuracy(posteriors, labels)
        precision = scores.mean_average_precision(posteriors, labels)
        return [
            {
                "timestep": step,
                "exact_match_error": f"{100 - match:.2f}",
                "mean_average_precision": f"{mean:.2f}",
            }
            for step, (match, mean) in enumerate(
                zip(exact, precision, strict=True), start=1
            )
        ]
    rows = []
    for step in range(posteriors.shape[1]):
        row = {"timestep": step + 1}
        for k in (1, 5):
            if k < posteriors.shape[2]:
                error = scores.top_k_error(posteriors[:, step], labels, k)
                row[f"top{k}_error"] = f"{error:.2f}"
        rows.append(row)
    return rows


if __name__ == "__main__":
    launch(main, Settings)
