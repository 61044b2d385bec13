"""The measurements of applications.localize."""

import time

import numpy as np
from keras import ops

from kfeedback.explain import boxes, metrics

ENERGIES = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.97, 0.99)
"""Shares of energy to choose one from on the tuning split."""

THRESHOLDS = tuple(n * n / 2500 for n in range(2, 49))
"""Shares of the brightest pixel, more of them small: a gradient has few bright ones."""

IOUS = (0.3, 0.5, 0.7)
"""Those of MaxBoxAccV2."""

SIZES = (0, 0.05, 0.1, 0.2, 0.4, 1)
"""Bounds of the objects' sizes, as shares of the image."""

CURVES = 200
"""Deletion and insertion, 22 predictions a target, are of so many targets."""

_BY_SIZE = ("localization_error", "first_look", "second_look")
_BY_SIZE += ("first_look_top", "second_look_top")
_SHARES = ("pointing_game", "energy_in_box", "pxap", "deletion", "insertion")
_SHARES += ("collage_pointing_game", "collage_energy_in_box", "collage_pxap")


class Measures:
    """All metrics of one method, over however many images; it keeps sums alone.

    Args:
        settings: `Settings`.
        explainer: `Explainer`.

    Attributes:
        targets: int, how many were measured.
    """

    def __init__(self, settings, explainer):
        self._settings, self._explainer = settings, explainer
        self._wrong = np.zeros(len(ENERGIES))
        self._right = np.zeros((len(THRESHOLDS), len(IOUS)))
        self._sums, self._counts = {}, {}
        self._compiled = set()  # how many maps at once were had before
        self.targets = 0

    @property
    def energy(self):
        """The share of energy with the fewest errors in what was tuned on."""
        return ENERGIES[int(np.argmin(self._wrong))]

    @property
    def thresholds(self):
        """The best threshold there for each of `IOUS`."""
        return [THRESHOLDS[n] for n in np.argmax(self._right, axis=0)]

    def tune(self, chunk):
        """Counts the errors at every share of energy and every threshold."""
        maps, _ = self._maps(chunk)
        for n, energy in enumerate(ENERGIES):
            found = boxes_at(maps, energy)
            self._wrong[n] += metrics.localization_errors(found, chunk.boxes).sum()
        right = metrics.max_box_accuracies_v2(maps, chunk.boxes, THRESHOLDS, IOUS)
        self._right += right * len(maps)

    def add(self, chunk):
        """Measures some images; says of which targets the tuned box is wrong."""
        pictures, truth = chunk.pictures, chunk.boxes
        maps, seconds = self._maps(chunk, timed=True)
        self._add("seconds_per_map", seconds, len(maps))
        errors = metrics.localization_errors(boxes_at(maps, 0.95), truth)
        self._add_by_size("localization_error", errors, truth, chunk)
        tuned = metrics.localization_errors(boxes_at(maps, self.energy), truth)
        self._add("tuned_error", tuned)
        for threshold, iou in zip(self.thresholds, IOUS, strict=True):
            right = metrics.max_box_accuracies_v2(maps, truth, [threshold], [iou])
            self._add("max_box_error", (1 - right.item()) * len(maps), len(maps))
        self._add_shares("", maps, truth)
        curves = max(0, CURVES - self.targets)
        for curve in (metrics.deletion, metrics.insertion) if curves else ():
            areas = curve(
                lambda images: self._explainer.predict(images, verbose=False),
                pictures[:curves],
                maps[:curves],
                chunk.labels[:curves],
                steps=10,
            )
            self._add(curve.__name__, areas)
        if self._settings.top:
            self._add_looks(chunk)
        self.targets += len(maps)
        return tuned

    def add_collages(self, scenes, targets, cells):
        """Measures scenes, of which every class is asked for in turn."""
        for scene, classes, truth in zip(scenes, targets, cells, strict=True):
            maps = self._explainer.saliency(scene[None], classes[None], verbose=False)
            self._add_shares("collage_", maps[0], truth)

    def row(self):
        """The columns of a row, empty where nothing was measured."""
        mean, sizes = self._mean, range(1, len(SIZES))
        row = {
            "localization_error": mean("localization_error", 100),
            "tuned_energy": self.energy,
            "tuned_error": mean("tuned_error", 100),
            "thresholds": " ".join(f"{share:g}" for share in self.thresholds),
            "max_box_error": mean("max_box_error", 100),
        }
        row |= {name: mean(name) for name in _SHARES}
        for name in _BY_SIZE:
            row[name] = mean(name, 100)
            row |= {f"{name}_size_{n}": mean(f"{name}_size_{n}", 100) for n in sizes}
        return row | {"seconds_per_map": mean("seconds_per_map")}

    def _maps(self, chunk, timed=False):
        """The maps of a chunk, and the seconds that they took; compiling is no part."""
        size = min(len(chunk.labels), self._explainer.batch_size)
        is_first = size not in self._compiled
        for _ in range(1 + (timed and is_first)):
            start = time.perf_counter()
            maps = self._explainer.saliency(chunk.pictures, chunk.labels, verbose=False)
        self._compiled.add(size)
        return maps, time.perf_counter() - start

    def _add_looks(self, chunk):
        """Errors of one look and of two, where images have one target."""
        chosen = np.flatnonzero(np.bincount(chunk.index)[chunk.index] == 1)
        if not len(chosen):
            return
        looks = self._settings.look_twice(
            self._explainer,
            [chunk.examples[chunk.index[n]].original for n in chosen],
            chunk.images.shape[1:3],
        )
        truth = [chunk.boxes[n] for n in chosen]
        for name, key in (("first_look", "first_classes"), ("second_look", "classes")):
            wrong = looks[key] != chunk.labels[chosen, None]
            self._add_by_size(name, wrong[:, 0], truth, chunk)
            self._add_by_size(f"{name}_top", wrong.all(axis=1), truth, chunk)

    def _add_shares(self, start, maps, truth):
        self._add(f"{start}pointing_game", metrics.pointing_game(maps, truth))
        self._add(f"{start}energy_in_box", metrics.energy_in_box(maps, truth))
        self._add(f"{start}pxap", metrics.pixel_average_precision(maps, truth))

    def _add_by_size(self, name, errors, truth, chunk):
        self._add(name, errors)
        rows = metrics.error_by_size(errors, truth, chunk.images.shape[1:3], SIZES)
        for n, row in enumerate(rows, start=1):
            if row["count"]:
                self._add(f"{name}_size_{n}", row["error"] * row["count"], row["count"])

    def _add(self, name, values, count=None):
        """Adds values, or the sum of so many."""
        count = len(values) if count is None else count
        self._sums[name] = self._sums.get(name, 0.0) + float(np.sum(values))
        self._counts[name] = self._counts.get(name, 0) + count

    def _mean(self, name, factor=1):
        if name not in self._sums:
            return ""
        mean = factor * self._sums[name] / self._counts[name]
        return f"{mean:.{2 if factor == 100 else 4}f}"


def boxes_at(maps, energy):
    """The smallest box around the foreground of each map `(N, H, W)`."""
    mask = boxes.foreground(ops.convert_to_tensor(maps[:, None]), energy)
    return ops.convert_to_numpy(boxes.smallest_box(mask))[:, 0]
