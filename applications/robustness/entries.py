"""The models that applications.robustness measures."""

import dataclasses
import hashlib
import pathlib
from collections.abc import Callable

import keras

from applications.common import data
from applications.common.models import check_class_names, check_images
from kfeedback.attacks import Attack


@dataclasses.dataclass
class Entry:
    """A model to measure.

    Attributes:
        name: of its curve.
        run: folder, file or tag that it comes from.
        weights: start of the SHA-256 of its file.
        train_seed: that of its run, or empty.
        timesteps: its predictions as --timesteps asks for them, or empty.
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


def load_entries(settings, info):
    """The entries of all models that the settings name, for a `DatasetInfo`."""
    found = settings.sources
    names = settings.names or [source.name for source in found]
    entries = []
    for name, source in zip(names, found, strict=True):
        entries += _entries(settings, info, name, source)
    seen = [(x.name, x.run, x.weights, x.timesteps) for x in entries]
    for entry, key in zip(entries, seen, strict=True):
        if seen.count(key) > 1:
            raise ValueError(
                "--runs, --models and --weights must not name a model twice, got "
                f"'{entry.run}' more than once as '{entry.name}'."
            )
    return entries


def _entries(settings, info, name, source):
    """An entry for each model that a `Source` stands for."""
    attacks = settings.attacks
    if attacks and source.mode == "gcn_zca":
        raise ValueError(
            f"--{attacks[0]} must be left out for '{source.place}', whose "
            "preprocessing gcn_zca has no gradient everywhere, got it."
        )
    preprocess = data.get_preprocess(source.mode, source.place)
    for timesteps in (source.rebuild and settings.timesteps) or [""]:
        if timesteps:
            model = source.rebuild(timesteps, info)
        else:
            model = source.build()
        check_images(source.flag, model, info, from_logits=settings.from_logits)
        names = source.class_names, settings.dataset, info.class_names
        check_class_names(source.flag, *names)
        attack = None
        if attacks:
            attack = Attack(
                model,
                preprocess=preprocess,
                from_logits=settings.from_logits,
                batch_size=settings.batch_size,
            )
        several = len(settings.timesteps) > 1 and timesteps
        yield Entry(
            f"{name} T={timesteps}" if several else name,
            pathlib.Path(source.place).name,
            hashlib.sha256(source.file.read_bytes()).hexdigest()[:12],
            source.seed,
            str(timesteps),
            model,
            source.mode if source.flag == "models" else "",
            preprocess,
            attack,
        )
