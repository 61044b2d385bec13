"""The models and the sweep of applications.robustness."""

import csv
import dataclasses
import hashlib
import json
import pathlib
import statistics
import sys
from collections.abc import Callable

import keras
import numpy as np
from absl import flags

import kfeedback
from applications import _app, _data
from kfeedback import corruptions
from kfeedback.attacks import Attack, check_kind
from kfeedback.models.backbones import by_name

FLAGS = flags.FLAGS

ATTACKS = ("fgsm", "pgd")
RANDOM = ("noise", "occlusion", "pgd")  # the others have no seed
CLEAN = "none"
_REBUILT = {"lrnet": kfeedback.LRNet, "crcn": kfeedback.CRCN}
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


@dataclasses.dataclass
class Entry:
    """A model to measure.

    Attributes:
        name: of its curve.
        run: folder or file that it comes from.
        weights: start of the SHA-256 of its file.
        train_seed: that of its run, or empty.
        timesteps: its passes as --timesteps asks for them, or empty.
        model: `keras.Model`.
        preprocessing: of a model of --models, whose file does not say it, or empty.
        preprocess: function of images of 0 to 255, arrays or tensors.
        attack: `Attack`, or `None` if there are no attacks.
    """

    name: str
    run: str
    weights: str
    train_seed: str
    timesteps: str
    model: keras.Model
    preprocessing: str
    preprocess: Callable
    attack: Attack | None


def load_models(places, timesteps, info, attacked):
    """The entries of all models.

    Args:
        places: `(name, path, flags of the run or None)` of each.
        timesteps: the numbers of passes to rebuild feedback networks with.
        info: `DatasetInfo`.
        attacked: the attacks that are asked for.
    """
    entries = []
    for name, path, stored in places:
        mode = FLAGS.preprocessing if stored is None else stored.get("preprocessing")
        if attacked and mode == "gcn_zca":
            raise ValueError(
                f"--{attacked[0]} must be left out for '{path}', whose preprocessing "
                "gcn_zca has no gradient everywhere, got it."
            )
        preprocess = _data.get_preprocess(path, fit=False, mode=mode)
        for steps, model, file in _models(path, stored, timesteps, info):
            flag = "models" if stored is None else "runs"
            _app.check_images(flag, model, info, from_logits=FLAGS.from_logits)
            check_kind(model, FLAGS.from_logits)
            entries.append(
                Entry(
                    f"{name} T={steps}" if len(timesteps) > 1 and steps else name,
                    path.name,
                    hashlib.sha256(file.read_bytes()).hexdigest()[:12],
                    str((stored or {}).get("seed", "")),
                    str(steps),
                    model,
                    mode if stored is None else "",
                    preprocess,
                    _attack(model, preprocess) if attacked else None,
                )
            )
    seen = [(x.name, x.run, x.weights, x.timesteps) for x in entries]
    for entry, key in zip(entries, seen, strict=True):
        if seen.count(key) > 1:
            raise ValueError(
                "--runs and --models must not name a model twice, got "
                f"'{entry.run}' more than once as '{entry.name}'."
            )
    if timesteps and not any(entry.timesteps for entry in entries):
        raise ValueError(
            f"--timesteps must be left out without a run of {' or '.join(_REBUILT)}, "
            f"got {','.join(map(str, timesteps))}."
        )
    return entries


def _attack(model, preprocess):
    return Attack(
        model,
        preprocess=preprocess,
        from_logits=FLAGS.from_logits,
        batch_size=FLAGS.batch_size,
    )


def _models(path, stored, timesteps, info):
    """`(timesteps or "", model, file)` of each model that a place stands for."""
    if stored is None:
        return [("", _app.load_model("models", path), path)]
    file = path / "weights.h5"
    if timesteps and stored.get("model") in _REBUILT:
        return [(n, rebuild(path, stored, n, info), file) for n in timesteps]
    return [("", _app.load_model("runs", path / "model.keras"), file)]


def rebuild(run, stored, timesteps, info):
    """A feedback network with the weights of a run and another number of passes."""
    init = stored.get("init_from") or ""
    policy = keras.config.dtype_policy()
    if stored.get("mixed_precision"):
        keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        if init.endswith(".keras"):
            backbone = _app.load_model("runs", pathlib.Path(init))
        else:
            backbone = by_name(stored["backbone"])(
                **{"weights": None} | json.loads(stored["backbone_args"] or "{}"),
                input_shape=info.image_shape,
                classes=info.num_classes,
            )
        return _REBUILT[stored["model"]](
            backbone,
            weights=run / "weights.h5",
            timesteps=timesteps,
            **json.loads(stored["model_args"] or "{}"),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"--runs must lead to networks that can be built again, got '{run}': "
            f"{error}"
        ) from error
    finally:
        keras.config.set_dtype_policy(policy)


class Sweep:
    """All models on all corruptions.

    Attributes:
        rows: dicts as in the file, of the last `run`.
    """

    def __init__(self, entries, data, info, results, others):
        self._entries = entries
        self._data = data
        self._info = info
        self._results = results
        self._others = others
        self._known = {}
        self.rows = []
        empty = self._row(entries[0], CLEAN, 0, "", 0.0, 0.0)
        _app.open_rows(results, empty)[0].close()
        with open(results, newline="") as file:
            for row in csv.DictReader(file):
                self._known[_identity(row)] = row

    def run(self, severities, seeds):
        """Measures what has no row yet."""
        tasks = [(CLEAN, 0, "")] + [
            (name, severity, seed)
            for name, values in severities.items()
            for severity in values
            for seed in (seeds if name in RANDOM else [""])
        ]
        progress = keras.utils.Progbar(
            len(tasks) * len(self._data), verbose=int(sys.stdout.isatty())
        )
        self.rows = []
        for task in tasks:
            missing = [x for x in self._entries if self._find(x, *task) is None]
            if not missing:
                progress.add(len(self._data))
            else:
                for entry, hits in self._count(missing, *task, progress):
                    self._add(entry, task, hits)
            self.rows += [self._find(entry, *task) for entry in self._entries]

    def _count(self, entries, name, severity, seed, progress):
        """`(entry, correct predictions)` of each."""
        hits = [0] * len(entries)
        first = 0
        for images, labels in self._data:
            images = keras.ops.convert_to_numpy(images)
            labels = keras.ops.convert_to_numpy(labels).reshape(-1)
            if name not in ATTACKS:
                images = self._corrupt(name, images, severity, seed, first)
            for place, entry in enumerate(entries):
                shown = images
                if name in ATTACKS:
                    shown = attack_images(
                        entry.attack, name, images, labels, severity, seed, first
                    )
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
                kind=FLAGS.occluder,
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
        _app.append_row(self._results, row)
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
            "dataset": _dataset(),
            "eval_split": self._info.split,
            "eval_examples": self._info.num_examples,
            "corruption": name,
            "severity": f"{severity:g}",
            "seed": seed,
            "settings": _settings(name, entry.preprocessing),
            "accuracy": f"{accuracy:.2f}",
            "drop": f"{drop:.2f}",
            # The paper's: how far the attack brings accuracy down.
            "fooling_rate": f"{drop:.2f}" if name in ATTACKS else "",
            "backend": keras.backend.backend(),
            "hardware": _app.hardware(),
        }


def attack_images(attack, name, images, labels, epsilon, seed, first):
    """A batch after an attack, with the flags' settings."""
    if name == "fgsm" or not epsilon:
        return attack.fgsm(images, labels, epsilon)
    step = FLAGS.pgd_step_share * epsilon
    return attack.pgd(
        images, labels, epsilon, step, FLAGS.pgd_steps, seed=seed, first=first
    )


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
            line[column] = spread(values) if values else ""
        lines.append(line)
    return lines


def spread(values):
    """Mean, and standard deviation if there are several, as text."""
    if len(values) == 1:
        return f"{values[0]:.2f}"
    return f"{statistics.mean(values):.2f} ± {statistics.stdev(values):.2f}"


def _identity(row):
    return tuple(str(row[column]) for column in _IDENTITY)


def _dataset():
    chosen = f" classes={','.join(FLAGS.classes)}" if FLAGS.classes else ""
    size = f" image_size={FLAGS.image_size}" if FLAGS.image_size else ""
    return f"{FLAGS.dataset}{chosen}{size}"


def _settings(name, preprocessing):
    """What else a row depends on."""
    settings = [preprocessing] if preprocessing else []
    if name == "occlusion":
        patches = FLAGS.occluder == "patches"
        settings.append(
            f"patches of {FLAGS.train_split}" if patches else FLAGS.occluder
        )
    if name == "pgd":
        settings.append(f"{FLAGS.pgd_steps} steps of {FLAGS.pgd_step_share:g} ε")
    return ", ".join(settings)
