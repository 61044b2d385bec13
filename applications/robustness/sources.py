"""Where the models of applications.robustness come from."""

import dataclasses
import functools
import pathlib
from collections.abc import Callable

import keras

from applications.common import optimization, published, runs
from applications.common.models import load_model
from kfeedback.models import registry


@dataclasses.dataclass(frozen=True)
class Source:
    """A model that a flag names.

    Attributes:
        flag: of its place.
        place: what the flag says.
        name: of its curve if nothing is said.
        file: path of its weights.
        mode: of its preprocessing.
        seed: that of its training, or empty.
        class_names: what its classes are called, or `None`.
        build: function that gives the `keras.Model`.
        rebuild: function of timesteps and a `DatasetInfo` that gives it with so many
            predictions; `None` where that cannot be.
    """

    flag: str
    place: str
    name: str
    file: pathlib.Path
    mode: str
    seed: str
    class_names: list | None
    build: Callable
    rebuild: Callable | None


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
    found = runs.read("runs", run)
    stored = found["flags"]
    can = can_rebuild(registry.get(stored.get("model"), "--runs"))
    return Source(
        flag="runs",
        place=place,
        name=run.resolve().name,
        file=run / "weights.h5",
        mode=stored.get("preprocessing"),
        seed=str(stored.get("seed", "")),
        class_names=found["class_names"],
        build=lambda: load_model("runs", run / "model.keras"),
        rebuild=functools.partial(rebuild, run, stored) if can else None,
    )


def _file(place, mode):
    return Source(
        flag="models",
        place=place,
        name=pathlib.Path(place).stem,
        file=pathlib.Path(place),
        mode=mode,
        seed="",
        class_names=None,
        build=lambda: load_model("models", place),
        rebuild=None,
    )


def _published(place):
    found = published.find("weights", place)

    def again(timesteps, _):
        return found.load(timesteps=timesteps)

    return Source(
        flag="weights",
        place=place,
        name=found.name,
        file=found.path,
        mode=found.preprocessing,
        seed="",
        class_names=found.about.get("class_names"),
        build=found.load,
        rebuild=again if found.has_timesteps else None,
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
    keras.config.set_dtype_policy(optimization.run_policy("runs", run))
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
