"""The measurements of applications.localize."""

import time

import numpy as np
from keras import ops

from kfeedback.explain import boxes, metrics

ENERGIES = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.97, 0.99)
"""Shares of energy to choose one from on the tuning split."""

THRESHOLDS = tuple(n / 50 for n in range(1, 46))

SIZES = (0, 0.05, 0.1, 0.2, 0.4, 1)
"""Bounds of the objects' sizes, as shares of the image."""

CURVES = 200
"""Deletion and insertion, 22 predictions an object, are of so many objects."""


def measure(settings, explainer, tuning, test):
    """All metrics of one method, as columns of a row."""
    energy, threshold = tune(explainer, tuning)
    start = time.perf_counter()
    maps = explainer.saliency(test.images[test.index], test.labels)
    seconds = time.perf_counter() - start
    errors = metrics.localization_errors(boxes_at(maps, 0.95), test.boxes)
    tuned = metrics.localization_errors(boxes_at(maps, energy), test.boxes)
    accuracy = metrics.max_box_accuracies(maps, test.boxes, [threshold])[0]
    pictures = test.images[test.index[:CURVES]].astype(np.float32)
    curves = [
        curve(
            lambda images: explainer.predict(images, verbose=False),
            pictures,
            maps[:CURVES],
            test.labels[:CURVES],
            steps=10,
        ).mean()
        for curve in (metrics.deletion, metrics.insertion)
    ]
    row = {
        "localization_error": _percent(errors),
        "tuned_energy": energy,
        "tuned_error": _percent(tuned),
        "threshold": threshold,
        "max_box_error": f"{100 * (1 - accuracy):.2f}",
        "pointing_game": f"{metrics.pointing_game(maps, test.boxes).mean():.4f}",
        "energy_in_box": f"{metrics.energy_in_box(maps, test.boxes).mean():.4f}",
        "deletion": f"{curves[0]:.4f}",
        "insertion": f"{curves[1]:.4f}",
    }
    shape = test.images.shape[1:3]
    row |= _by_size("localization", errors, test.boxes, shape)
    row |= second_look(settings, explainer, test)
    row["maps_per_second"] = f"{len(maps) / seconds:.1f}"
    return row


def tune(explainer, tuning):
    """The share of energy and the threshold with the fewest errors."""
    maps = explainer.saliency(tuning.images[tuning.index], tuning.labels)
    errors = [
        metrics.localization_errors(boxes_at(maps, energy), tuning.boxes).mean()
        for energy in ENERGIES
    ]
    accuracies = metrics.max_box_accuracies(maps, tuning.boxes, THRESHOLDS)
    return ENERGIES[int(np.argmin(errors))], THRESHOLDS[int(np.argmax(accuracies))]


def boxes_at(maps, energy):
    """The smallest box around the foreground of each map `(N, H, W)`."""
    parts = [
        boxes.smallest_box(
            boxes.foreground(ops.convert_to_tensor(maps[i : i + 256, None]), energy)
        )
        for i in range(0, len(maps), 256)
    ]
    return np.concatenate([ops.convert_to_numpy(part)[:, 0] for part in parts])


def second_look(settings, explainer, test):
    """Top-1 errors of one look and of two, by size, where images have one object."""
    names = ("first_look", "second_look")
    sizes = ["", *(f"_size_{n}" for n in range(1, len(SIZES)))]
    row = {f"{name}{size}": "" for name in names for size in sizes}
    if not np.array_equal(test.index, np.arange(len(test.images))):
        return row
    shape = test.images.shape[1:3]
    looks = settings.look_twice(explainer, test.originals, shape)
    for name, key in zip(names, ("first_classes", "classes"), strict=True):
        wrong = looks[key][:, 0] != test.labels
        row[name] = _percent(wrong)
        row |= _by_size(name, wrong, test.boxes, shape)
    return row


def _by_size(name, errors, truth, shape):
    rows = metrics.error_by_size(errors, truth, shape, SIZES)
    return {
        f"{name}_size_{n}": "" if row["count"] == 0 else f"{100 * row['error']:.2f}"
        for n, row in enumerate(rows, start=1)
    }


def _percent(errors):
    return f"{100 * np.mean(errors):.2f}"
