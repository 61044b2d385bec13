"""Settings of applications.train."""

import dataclasses
import functools
import inspect
from collections.abc import Mapping

from applications.common.optimization import POLICIES, Training
from applications.common.settings import as_text, field
from kfeedback.models import registry

ERRORS = 4  # columns of a row

_model = functools.partial(field, group="model")
_run = functools.partial(field, group="run")


@dataclasses.dataclass(frozen=True)
class Settings(Training):
    """The flags of applications.train."""

    model: str = _model(
        "lrnet",
        "What to train.",
        choices=tuple(n for n, one in registry.families().items() if one.trains),
    )
    backbone: str = _model(
        "lenet",
        "What a --model that gives feedback gives it to.",
        choices=tuple(registry.backbones()),
    )
    timesteps: int | None = _model(
        None,
        "Predictions of a --model that has several; its own number by default.",
        least=1,
    )
    model_args: Mapping = _model(dict, "More arguments of --model.")
    backbone_args: Mapping = _model(dict, "More arguments of --backbone.")
    feedback_init: float = _model(
        0.0, "Standard deviation of the feedback weights W.", least=0
    )
    init_from: str | None = _model(
        None,
        "weights.h5 or model.keras of a trained --backbone or --model, or a tag of "
        "kfeedback.list_weights.",
    )
    freeze_batch_norm: bool = field(
        False,
        "Batch norms keep the statistics, scale and shift of --init_from.",
        group="optimization",
    )
    epochs: int = _run(16, "Passes over the training split.", least=1)
    validation_freq: int = _run(
        1,
        "Errors on --eval_split every so many epochs; 0: only after the last one.",
        least=0,
    )
    distribution: str = _run(
        "none",
        "Devices that share every batch: all of this host (mirrored), all of the "
        "hosts in TF_CONFIG (multi_worker), under JAX all (data_parallel).",
        choices=("none", "mirrored", "multi_worker", "data_parallel"),
    )
    logical_cpus: int = _run(
        0, "Split the CPU into so many devices, to try --distribution.", least=0
    )
    wait_minutes: float = _run(
        10.0, "So long a worker waits for the others to start.", above=0
    )
    mixed_precision: str = _run(
        "none",
        "Layers compute in 16 bits and keep their weights in 32; auto: bfloat16 where "
        "the device has it.",
        choices=(*POLICIES, "auto"),
    )
    tensorboard: bool = _run(False, "Write TensorBoard logs.")
    save_minutes: float = _run(
        5.0, "A checkpoint is written when so many have passed.", above=0
    )
    save_batches: int = _run(
        0, "Or after so many batches of an epoch; 0: by time alone.", least=0
    )
    keep: int = _run(3, "So many of the last checkpoints stay.", least=2)

    @property
    def family(self):
        """The family of --model."""
        return registry.get(self.model, "--model")

    @property
    def starts_from_model(self):
        """Whether --init_from is a whole model, which may be one of nobody's."""
        return (self.init_from or "").endswith(".keras")

    def get_timesteps(self):
        """--timesteps or the default of the model; `None` for one that has none."""
        default = self.takes().get("timesteps")
        return default and (self.timesteps or default.default)

    def takes(self):
        """The parameters of the factory of --model, by name."""
        return inspect.signature(self.family.factory).parameters

    def check(self):
        """Refuses flags that would have no effect."""
        super().check()
        timesteps = self.get_timesteps()
        of_feedback = ("feedback_init", "feedback_lr_mult")
        if timesteps is None:
            self.refuse(("timesteps", "discount"), f"--model={self.model}")
        if "feedback_initializer" not in self.takes():
            self.refuse(of_feedback, f"--model={self.model}")
        if not self.family.gives_feedback:
            self.refuse(("backbone", "backbone_args"), f"--model={self.model}")
            if self.starts_from_model:
                raise ValueError(
                    "--init_from must be a weights.h5 for a --model that gives no "
                    f"feedback, got {self.init_from!r}; --model=lrnet --timesteps=1 "
                    "trains a .keras on."
                )
        elif self.starts_from_model:
            self.refuse(("backbone", "backbone_args"), f"--init_from={self.init_from}")
        if self.init_from is None:
            self.refuse(("freeze_batch_norm",), "no --init_from")
        if timesteps == 1:
            self.refuse(("discount", *of_feedback), "--timesteps=1")
        if self.results is None:
            self.refuse(("experiment",), "no --results")
        elif (timesteps or 1) > ERRORS:
            raise ValueError(
                f"--timesteps must be at most {ERRORS} with --results, which has so "
                f"many columns, got {timesteps}."
            )
        if self.distribution in ("none", "multi_worker"):
            self.refuse(("logical_cpus",), f"--distribution={self.distribution}")
        if self.distribution in ("none", "mirrored"):
            self.refuse(("wait_minutes",), f"--distribution={self.distribution}")
        if self.distribution in ("mirrored", "multi_worker"):
            for flag, is_on, why in (
                ("jit", self.jit, "under which it crashes (keras#18145)"),
                ("clip_norm", self.clip_norm, "where each replica would clip its own"),
                (
                    "mixed_precision",
                    self.mixed_precision == "float16",
                    "where one replica alone sees whether gradients are finite",
                ),
            ):
                if is_on:
                    raise ValueError(
                        f"--{flag} must be left out with --distribution="
                        f"{self.distribution}, {why}, got "
                        f"{as_text(getattr(self, flag))}."
                    )
