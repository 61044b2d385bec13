"""What early exit costs and saves: accuracy against multiply-adds over thresholds."""

import statistics
import sys
import time

import keras
import numpy as np

import kfeedback
from applications.common import figures
from applications.common.multiply_adds import count_multiply_adds
from kfeedback import graph
from kfeedback.backend import compile_forward
from kfeedback.early_exit import predictions_of

THRESHOLDS = (*(n / 20 for n in range(4, 19)), 0.925, 0.95, 0.97, 0.98, 0.99, 0.995)
THRESHOLDS += (0.999, 1.0)
_REPEATS = 5


def require_timesteps(model):
    """Refuses a model whose predictions cannot be left early."""
    try:
        kfeedback.early_exit(model, 1.0)
    except ValueError as error:
        raise ValueError(
            "--early_exit must be used with a model that predicts the classes of an "
            f"image at several timesteps, got '{model.name}' ({error})"
        ) from error


def costs(model):
    """Multiply-adds of one image up to each timestep, `(T,)`."""
    model = graph.seen_through(model)
    image = model.inputs[0]
    return np.array(
        [count_multiply_adds(keras.Model(image, p)) for p in predictions_of(model)]
    )


def exits(posteriors, threshold):
    """The timestep, from 0, at which each sample of `(N, T, classes)` stops."""
    sure = posteriors.max(axis=-1) >= threshold
    sure[:, -1] = True
    return sure.argmax(axis=1)


def curve(posteriors, labels, cost):
    """One dict a threshold: accuracy in percent, mean timesteps and multiply-adds."""
    rows = []
    for threshold in THRESHOLDS:
        stops = exits(posteriors, threshold)
        chosen = posteriors[np.arange(len(stops)), stops]
        accuracy = 100 * (chosen.argmax(axis=-1) == labels).mean()
        rows.append(
            {
                "threshold": threshold,
                "accuracy": round(accuracy, 2),
                "mean_timesteps": round(1 + stops.mean(), 3),
                "mean_multiply_adds": round(cost[stops].mean()),
                "saved_percent": round(100 * (1 - cost[stops].mean() / cost[-1]), 1),
            }
        )
    return rows


def choose(posteriors, labels, cost, loss):
    """The threshold of fewest multiply-adds that loses at most `loss` points.

    One standard error of the loss counts as lost, or the choice would be one that these
    samples happen to favor.

    1.0 if none does: even that loses, where a posterior of exactly 1 is wrong.
    """
    samples = np.arange(len(labels))

    def lost(threshold):
        stops = exits(posteriors, threshold)
        found = posteriors[[samples, samples], [stops, np.full_like(stops, -1)]]
        early, full = (found.argmax(axis=-1) == labels).astype(int)
        return (full - early).sum() + np.sqrt((full != early).sum())

    allowed = [x for x in THRESHOLDS if lost(x) <= loss / 100 * len(labels) + 1e-9]
    mean = {x: cost[exits(posteriors, x)].mean() for x in allowed}
    return min(allowed, key=mean.get, default=1.0)


def measure(model, images, labels, threshold, batch_size):
    """Accuracy and speed of all passes and of early exit, timed in turn.

    Args:
        model: gives `(B, T, classes)`.
        images: preprocessed, `(N, H, W, C)`.
        labels: `(N,)`.
        threshold: of the early exit.
        batch_size: images that start together.

    Returns:
        a dict, speeds as medians of 5 runs over all images.
    """
    forward = compile_forward(model)
    predictor = kfeedback.early_exit(model, threshold)

    def run_all():
        parts = range(0, len(images), batch_size)
        batches = (images[n : n + batch_size] for n in parts)
        outputs = [forward([keras.ops.convert_to_tensor(batch)]) for batch in batches]
        return np.concatenate([keras.ops.convert_to_numpy(x)[:, -1] for x in outputs])

    def run_early():
        return predictor.predict(images, batch_size)[0]

    found, seconds = {}, {run_all: [], run_early: []}
    progress = keras.utils.Progbar(1 + _REPEATS, verbose=int(sys.stdout.isatty()))
    for _ in range(1 + _REPEATS):  # the first to warm up
        for run, times in seconds.items():
            start = time.perf_counter()
            found[run] = run()
            times.append(time.perf_counter() - start)
        progress.add(1)
    speed = {
        run: len(images) / statistics.median(times[1:])
        for run, times in seconds.items()
    }
    accuracy = {
        run: 100 * (output.argmax(axis=-1) == labels).mean()
        for run, output in found.items()
    }
    return {
        "threshold": threshold,
        "accuracy_all": round(accuracy[run_all], 2),
        "accuracy_early": round(accuracy[run_early], 2),
        "images_per_s_all": round(speed[run_all], 1),
        "images_per_s_early": round(speed[run_early], 1),
        "speedup": round(speed[run_early] / speed[run_all], 2),
    }


def draw(rows, posteriors, labels, cost, path):
    """Accuracy against mean multiply-adds, thresholds beside, and each fixed T."""
    figure, ((axes,),) = figures.grid(1, 1, 6.4, 4.2)
    fixed = 100 * (posteriors.argmax(axis=-1) == labels[:, None]).mean(axis=0)
    axes.plot(
        [row["mean_multiply_adds"] / 1e6 for row in rows],
        [row["accuracy"] for row in rows],
        "o-",
        label="early exit, by threshold",
    )
    axes.plot(cost / 1e6, fixed, "s--", color="0.4", label="all stop at timestep T")
    for timestep, (x, y) in enumerate(zip(cost / 1e6, fixed, strict=True), start=1):
        axes.annotate(
            f"T = {timestep}", (x, y), (4, -12), textcoords="offset points", color="0.3"
        )
    for row in rows:
        if row["threshold"] in (0.5, 0.7, 0.9, 0.99):
            place = (row["mean_multiply_adds"] / 1e6, row["accuracy"])
            text = f"{row['threshold']:g}"
            axes.annotate(text, place, (-4, 7), textcoords="offset points", ha="right")
    axes.set_xlabel("mean multiply-adds an image, millions")
    axes.set_ylabel("accuracy, %")
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right")
    figures.save(figure, path)
