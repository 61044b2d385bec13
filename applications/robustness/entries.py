"""The models that applications.robustness measures."""

import dataclasses
import hashlib
import pathlib
from collections.abc import Callable

import keras

from applications.common import data, optimization
from applications.common.models import check_images, load_model
from applications.robustness.settings import can_rebuild
from kfeedback.attacks import Attack
from kfeedback.models import registry


@dataclasses.dataclass
class Entry:
    """A model to measure.

    Attributes:
        name: of its curve.
        run: folder or file that it comes from.
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
    entries = []
    for name, path, stored in settings.places:
        entries += _entries(settings, info, name, path, stored)
    seen = [(x.name, x.run, x.weights, x.timesteps) for x in entries]
    for entry, key in zip(entries, seen, strict=True):
        if seen.count(key) > 1:
            raise ValueError(
                "--runs and --models must not name a model twice, got "
                f"'{entry.run}' more than once as '{entry.name}'."
            )
    return entries


def _entries(settings, info, name, path, stored):
    """An entry for each model that a place stands for."""
    is_run = stored is not None
    mode = stored.get("preprocessing") if is_run else settings.preprocessing
    attacks = settings.attacks
    if attacks and mode == "gcn_zca":
        raise ValueError(
            f"--{attacks[0]} must be left out for '{path}', whose preprocessing "
            "gcn_zca has no gradient everywhere, got it."
        )
    preprocess = data.get_preprocess(mode, path)
    file = path / "weights.h5" if is_run else path
    rebuilds = is_run and can_rebuild(registry.get(stored.get("model"), "--runs"))
    for timesteps in (rebuilds and settings.timesteps) or [""]:
        if timesteps:
            model = rebuild(path, stored, timesteps, info)
        elif is_run:
            model = load_model("runs", path / "model.keras")
        else:
            model = load_model("models", path)
        flag = "runs" if is_run else "models"
        check_images(flag, model, info, from_logits=settings.from_logits)
        attack = None
        if attacks:
            attack = Attack(
                model,
                preprocess=preprocess,
                from_logits=settings.from_logits,
                batch_size=settings.batch_size,
            )
        yield Entry(
            f"{name} T={timesteps}"
            if len(settings.timesteps) > 1 and timesteps
            else name,
            path.name,
            hashlib.sha256(file.read_bytes()).hexdigest()[:12],
            str(stored.get("seed", "")) if is_run else "",
            str(timesteps),
            model,
            "" if is_run else mode,
            preprocess,
            attack,
        )


def rebuild(run, stored, timesteps, info):
    """A feedback network with the weights of a run and another number of timesteps.

    Args:
        run: folder of the run.
        stored: its flags.
        timesteps: int.
        info: `DatasetInfo`.
    """
    init = stored.get("init_from") or ""
    policy = keras.config.dtype_policy()
    precision = stored.get("mixed_precision")
    keras.config.set_dtype_policy(optimization.precision_policy(precision))
    try:
        if init.endswith(".keras"):
            backbone = load_model("runs", pathlib.Path(init))
        else:
            backbone = registry.get(stored["backbone"], "--backbone").factory(
                **(stored["backbone_args"] or {}),
                input_shape=info.image_shape,
                classes=info.num_classes,
            )
        return registry.get(stored["model"], "--model").factory(
            backbone,
            weights=run / "weights.h5",
            timesteps=timesteps,
            **(stored["model_args"] or {}),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"--runs must lead to networks that can be built again, got '{run}': "
            f"{error}"
        ) from error
    finally:
        keras.config.set_dtype_policy(policy)
