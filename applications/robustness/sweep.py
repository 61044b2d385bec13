"""The sweep of applications.robustness: all models on all corruptions."""

import csv
import pathlib
import sys

import keras
import numpy as np

from applications.common import machine, scores
from applications.common.rows import append_rows, check_columns
from applications.common.settings import as_text
from applications.robustness.settings import ATTACKS
from kfeedback import corruptions

CLEAN = "none"
_RANDOM = ("noise", "occlusion", "pgd")  # the others have no seed
_IDENTITY = (
    "model",
    "run",
    "weights",
    "timesteps",
    "dataset",
    "eval_split",
    "eval_examples",
    "corruption",
    "severity",
    "seed",
    "settings",
)


class Sweep:
    """All models on all corruptions.

    Args:
        settings: `Settings`.
        entries: list of `Entry`.
        batches: of images of 0 to 255 and labels.
        info: their `DatasetInfo`.
        others: images that patches come from, or `None`.
    """

    def __init__(self, settings, entries, batches, info, others):
        self._settings = settings
        self._entries = entries
        self._batches = batches
        self._info = info
        self._results = settings.results or pathlib.Path(
            settings.output_dir, "robustness.csv"
        )
        self._others = others
        self._known = {}
        check_columns(self._results, self._row(entries[0], CLEAN, 0, "", 0.0, 0.0))
        with open(self._results, newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                self._known[_identity(row)] = row

    def run(self):
        """Measures what has no row yet; the rows, dicts as in the file."""
        tasks = [(CLEAN, 0, "")] + [
            (name, severity, seed)
            for name, values in self._settings.severities.items()
            for severity in values
            for seed in (self._settings.seeds if name in _RANDOM else [""])
        ]
        progress = keras.utils.Progbar(
            len(tasks) * len(self._batches), verbose=int(sys.stdout.isatty())
        )
        rows = []
        for task in tasks:
            missing = [x for x in self._entries if self._find(x, *task) is None]
            if not missing:
                progress.add(len(self._batches))
            else:
                for entry, hits in self._count(missing, *task, progress):
                    self._add(entry, task, hits)
            rows += [self._find(entry, *task) for entry in self._entries]
        return rows

    def _count(self, entries, name, severity, seed, progress):
        """`(entry, correct predictions)` of each."""
        hits = [0] * len(entries)
        first = 0
        for images, labels in self._batches:
            images = keras.ops.convert_to_numpy(images)
            labels = keras.ops.convert_to_numpy(labels).reshape(-1)
            if name not in ATTACKS:
                images = self._corrupt(name, images, severity, seed, first)
            for place, entry in enumerate(entries):
                shown = images
                if name in ATTACKS:
                    batch = images, labels
                    shown = self._attack(entry, name, batch, severity, seed, first)
                prediction = entry.model.predict_on_batch(entry.preprocess(shown))
                prediction = np.asarray(prediction, "float32")
                if prediction.ndim == 3:
                    prediction = prediction[:, -1]
                hits[place] += int((prediction.argmax(-1) == labels).sum())
            first += len(images)
            progress.add(1)
        return zip(entries, hits, strict=True)

    def _corrupt(self, name, images, severity, seed, first):
        if name == "noise":
            return corruptions.gaussian_noise(images, severity, seed, first=first)
        if name == "occlusion":
            return corruptions.occlude(
                images,
                (max(0.0, severity - 0.01), min(1.0, severity + 0.01)),
                seed,
                kind=self._settings.occluder,
                others=self._others,
                first=first,
            )
        if name == CLEAN:
            return images
        return getattr(corruptions, name)(images, severity)

    def _add(self, entry, task, hits):
        accuracy = 100 * hits / self._info.num_examples
        clean = accuracy
        if task[0] != CLEAN:
            clean = float(self._find(entry, CLEAN, 0, "")["accuracy"])
        row = self._row(entry, *task, accuracy, clean - accuracy)
        append_rows(self._results, [row])
        self._known[_identity(row)] = {k: str(value) for k, value in row.items()}

    def _find(self, entry, name, severity, seed):
        key = _identity(self._row(entry, name, severity, seed, 0.0, 0.0))
        return self._known.get(key)

    def _row(self, entry, name, severity, seed, accuracy, drop):
        return {
            "model": entry.name,
            "run": entry.run,
            "weights": entry.weights,
            "train_seed": entry.train_seed,
            "timesteps": entry.timesteps,
            "dataset": self._dataset(),
            "eval_split": self._info.split,
            "eval_examples": self._info.num_examples,
            "corruption": name,
            "severity": f"{severity:g}",
            "seed": seed,
            "settings": self._depends_on(name, entry.preprocessing),
            "accuracy": f"{accuracy:.2f}",
            "drop": f"{drop:.2f}",
            # The paper's: how far the attack brings accuracy down.
            "fooling_rate": f"{drop:.2f}" if name in ATTACKS else "",
            "backend": keras.backend.backend(),
            "hardware": machine.hardware(),
        }

    def _attack(self, entry, name, batch, epsilon, seed, first):
        """A batch `(images, labels)` after an attack."""
        if name == "fgsm" or not epsilon:
            return entry.attack.fgsm(*batch, epsilon)
        step = self._settings.pgd_step_share * epsilon
        steps = self._settings.pgd_steps
        return entry.attack.pgd(*batch, epsilon, step, steps, seed=seed, first=first)

    def _dataset(self):
        one = self._settings
        chosen = f" classes={as_text(one.classes)}" if one.classes else ""
        size = f" image_size={one.image_size}" if one.image_size else ""
        crop = f" center_crop={one.center_crop}" if one.center_crop else ""
        return f"{place(one.dataset, one.data_dir)}{chosen}{size}{crop}"

    def _depends_on(self, name, preprocessing):
        """What else a row depends on."""
        one, found = self._settings, [preprocessing] if preprocessing else []
        if name == "occlusion":
            patches = one.occluder == "patches"
            found.append(f"patches of {one.train_split}" if patches else one.occluder)
        if name == "pgd":
            found.append(f"{one.pgd_steps} steps of {one.pgd_step_share:g} ε")
        return ", ".join(found)


def summary(rows):
    """One dict per model, corruption and severity: means and deviations over seeds."""
    groups = {}
    for row in rows:
        key = (row["model"], row["corruption"], row["severity"])
        groups.setdefault(key, []).append(row)
    lines = []
    for (model, corruption, severity), members in groups.items():
        line = {"model": model, "corruption": corruption, "severity": severity}
        line["rows"] = len(members)
        for column in ("accuracy", "drop", "fooling_rate"):
            values = [float(row[column]) for row in members if row[column]]
            line[column] = scores.spread(values) if values else ""
        lines.append(line)
    return lines


def place(dataset, data_dir):
    """The name of a data set; of a file or a folder where it is, from wherever."""
    is_file = dataset.endswith(".npz")
    if not is_file and not ("/" in dataset and pathlib.Path(dataset).is_dir()):
        return dataset
    # A relative folder starts from the current one, whatever --data_dir says.
    return str(pathlib.Path((data_dir if is_file else None) or ".", dataset).resolve())


def _identity(row):
    return tuple(str(row[column]) for column in _IDENTITY)
