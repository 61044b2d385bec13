"""Where the models of applications.robustness come from."""

import dataclasses
import functools
import pathlib
from collections.abc import Callable

import keras

from applications.common import optimization, runs
from applications.common.models import (
    known_weights,
    load_model,
    load_weights,
    stored_preprocessing,
)
from kfeedback.models import registry


@dataclasses.dataclass(frozen=True)
class Source:
    """A model that a flag names.

    Attributes:
        flag: of its place.
        place: what the flag says.
        file: path of its weights.
        mode: of its preprocessing.
        seed: that of its training, or empty.
        build: function of a `DatasetInfo` that gives the `keras.Model`.
        rebuild: function of timesteps and a `DatasetInfo` that gives it with so many
            predictions; `None` where that cannot be.
    """

    flag: str
    place: str
    file: pathlib.Path
    mode: str
    seed: str
    build: Callable
    rebuild: Callable | None

    @property
    def name(self):
        """What its curve is called if nothing is said."""
        path = pathlib.Path(self.place)
        return path.name if self.flag == "runs" else path.stem


def find(settings):
    """A `Source` for each model that the settings name, none of them loaded."""
    found = [_run(place) for place in settings.runs]
    found += [_file(place, settings.preprocessing) for place in settings.models]
    return found + [_published(place) for place in settings.weights]


def can_rebuild(family):
    """Whether a run of a `Family` can be rebuilt with other timesteps."""
    return family.gives_feedback and family.has_timesteps


def _run(place):
    run = pathlib.Path(place)
    stored = runs.stored_flags("runs", run)
    can = can_rebuild(registry.get(stored.get("model"), "--runs"))
    return Source(
        "runs",
        place,
        run / "weights.h5",
        stored.get("preprocessing"),
        str(stored.get("seed", "")),
        lambda _: load_model("runs", run / "model.keras"),
        functools.partial(rebuild, run, stored) if can else None,
    )


def _file(place, mode):
    return Source(
        "models",
        place,
        pathlib.Path(place),
        mode,
        "",
        lambda _: load_model("models", place),
        None,
    )


def _published(place):
    path, about = known_weights("weights", place)

    def build(_, **arguments):
        return load_weights("weights", place, **arguments)[0]

    can = "timesteps" in (about.get("arguments") or {})
    return Source(
        "weights",
        place,
        path,
        stored_preprocessing(place, about),
        "",
        build,
        (lambda timesteps, info: build(info, timesteps=timesteps)) if can else None,
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
