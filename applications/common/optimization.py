"""Optimizer, loss and metrics of a training run."""

import dataclasses
import functools
import math

import keras

from applications.common import machine, runs
from applications.common.data import TrainingData
from applications.common.settings import Experiment, field
from kfeedback.datasets import augmentation
from kfeedback.losses import TimestepLoss
from kfeedback.metrics import ExactMatch, TimestepMetric

_optimization = functools.partial(field, group="optimization")
_run = functools.partial(field, group="run")

SCHEDULES = ("constant", "steps", "cosine", "one_cycle")


@dataclasses.dataclass(frozen=True)
class Training(Experiment, TrainingData):
    """Of programs that train networks."""

    seed: int = _run(
        0, "Of weights, order, augmentation and dropout.", least=0, most=2**32 - 1
    )
    verbose: int = _run(1, "Progress as in keras.Model.fit.", choices=(0, 1, 2))
    optimizer: str = _optimization(
        "sgd", "SGD, or Keras' Adam.", choices=("sgd", "adam")
    )
    lr: float = _optimization(0.01, "Learning rate.", above=0)
    feedback_lr_mult: float = _optimization(
        1.0, "Times lr, for the weights of feedback layers.", above=0
    )
    schedule: str = _optimization(
        "steps",
        "Of the learning rate: constant; steps, to a tenth at each of --lr_drops; "
        "cosine, down to 0; one_cycle, from a 25th in a line up to --lr, and by a "
        "cosine down to a 250,000th.",
        choices=SCHEDULES,
    )
    lr_drops: tuple[float, ...] = _optimization(
        (),
        "Rising shares of all epochs at which lr falls to a tenth.",
        above=0,
        below=1,
    )
    warmup: float | None = _optimization(
        None,
        "Share of all steps in which lr rises from 0, in a line; by default 0, of "
        "one_cycle 0.3.",
        least=0,
        below=1,
    )
    momentum: float = _optimization(0.9, "Momentum of SGD.", least=0, below=1)
    nesterov: bool = _optimization(False, "Nesterov momentum.")
    weight_decay: float = _optimization(
        1e-4, "L2: this times a weight is added to its gradient.", least=0
    )
    weight_decay_on: str = _optimization(
        "kernels", "Kernels only, or all weights.", choices=("kernels", "all")
    )
    clip_norm: float | None = _optimization(
        None, "Greatest norm of all gradients together.", above=0
    )
    ema: float = _optimization(
        0.0,
        "Momentum of a moving average of the weights, which is what is validated and "
        "saved; 0: none.",
        least=0,
        below=1,
    )
    label_smoothing: float = _optimization(
        0.0, "So much of each label is spread over all classes.", least=0, below=1
    )
    discount: float = _optimization(1.0, "γ: timestep t weighs γ^t, t from 0.", above=0)
    jit: bool = _run(False, "Compile by XLA; else Keras decides.")

    def check(self):
        """Refuses flags that contradict others or would have no effect."""
        super().check()
        if sorted(self.lr_drops) != list(self.lr_drops):
            raise ValueError(
                "--lr_drops must be rising shares between 0 and 1, such as 0.5,0.75, "
                f"got {','.join(map(str, self.lr_drops))!r}."
            )
        if self.schedule != "steps":
            self.refuse(("lr_drops",), f"--schedule={self.schedule}")
        elif "schedule" in self.given and not self.lr_drops:
            raise ValueError(
                "--lr_drops must be given with --schedule=steps, got none."
            )
        if self.schedule == "one_cycle" and self.warmup == 0:
            raise ValueError("--warmup must be > 0 with --schedule=one_cycle, got 0.")
        if self.optimizer == "adam":
            self.refuse(
                ("momentum", "nesterov", "feedback_lr_mult"), "--optimizer=adam"
            )


@keras.saving.register_keras_serializable(package="applications")
class MultiplierSGD(keras.optimizers.SGD):
    """SGD with a multiple of the learning rate for some variables, Caffe's `lr_mult`.

    Args:
        *args: arguments of `keras.optimizers.SGD`.
        multipliers: dict from a part of a variable's path to its factor.
        **kwargs: arguments of `keras.optimizers.SGD`.
    """

    def __init__(self, *args, multipliers=None, **kwargs):
        super().__init__(*args, **kwargs)
        self.multipliers = multipliers or {}

    def _backend_update_step(self, grads, trainable_variables, learning_rate):
        """One step, of gradients that are clipped: a factor is one on the rate."""
        scaled = [
            grad * self._factor(variable.path)
            for grad, variable in zip(grads, trainable_variables, strict=True)
        ]
        super()._backend_update_step(scaled, trainable_variables, learning_rate)

    def _factor(self, path):
        return math.prod(f for part, f in self.multipliers.items() if part in path)

    def get_config(self):
        """The constructor's arguments."""
        return {**super().get_config(), "multipliers": self.multipliers}


def compile_model(model, settings, steps, multi_label=False, *, lr=None):
    """Optimizer, L2 and the summed loss, with the accuracy of every timestep.

    Args:
        model: gives `(B, timesteps, classes)`.
        settings: `Training`.
        steps: batches of all epochs.
        multi_label: bool, labels are `(B, classes)`: the loss is the binary
            cross-entropy, and right is what is right for every class.
        lr: the learning rate to start from instead of --lr.
    """
    lr = lr or settings.lr
    # Keras' weight_decay is decoupled from the gradient; the papers' L2 is not.
    for variable in model.trainable_variables:
        chosen = settings.weight_decay_on == "all" or len(variable.shape) > 1
        if chosen and settings.weight_decay:
            variable.regularizer = keras.regularizers.L2(settings.weight_decay / 2)
    options = {
        "learning_rate": schedule(settings, steps, lr),
        "global_clipnorm": settings.clip_norm,
    }
    if settings.ema:
        options |= {"use_ema": True, "ema_momentum": settings.ema}
    if settings.optimizer == "adam":
        optimizer = keras.optimizers.Adam(**options)
    else:
        optimizer = MultiplierSGD(
            **options,
            momentum=settings.momentum,
            nesterov=settings.nesterov,
            multipliers={"_feedback/": settings.feedback_lr_mult},
        )
    loss = _loss(settings, multi_label)
    model.compile(
        optimizer=optimizer,
        loss=TimestepLoss(loss, discount=settings.discount),
        metrics=_watched(model.output_shape[1], loss, multi_label),
        jit_compile=settings.jit or "auto",
    )


def _watched(timesteps, loss, multi_label):
    """What is right at each timestep and, if there are several, the loss of each."""
    found = [
        TimestepMetric(
            ExactMatch() if multi_label else "accuracy",
            step,
            name=f"accuracy_t{step + 1}",
        )
        for step in range(timesteps)
    ]
    losses = range(timesteps if timesteps > 1 else 0)
    return found + [
        TimestepMetric(loss, step, name=f"loss_t{step + 1}") for step in losses
    ]


def schedule(settings, steps, lr):
    """The learning rate of a run: a number or a schedule of Keras.

    Args:
        settings: `Training`.
        steps: batches of all epochs.
        lr: the highest learning rate.
    """
    schedules = keras.optimizers.schedules
    cycle = settings.schedule == "one_cycle"
    share = (0.3 if cycle else 0.0) if settings.warmup is None else settings.warmup
    warmup = int(share * steps)
    if cycle or settings.schedule == "cosine":
        decay, end = max(1, steps - warmup), 4e-6 if cycle else 0.0
        if not warmup:
            return schedules.CosineDecay(lr, decay, end)
        start = lr / 25 if cycle else 0.0
        return schedules.CosineDecay(
            start, decay, end, warmup_target=lr, warmup_steps=warmup
        )
    found = lr
    if settings.schedule == "steps" and settings.lr_drops:
        found = schedules.PiecewiseConstantDecay(
            [int(share * steps) for share in settings.lr_drops],
            [lr * 0.1**n for n in range(len(settings.lr_drops) + 1)],
        )
    return WarmUp(found, warmup) if warmup else found


@keras.saving.register_keras_serializable(package="applications")
class WarmUp(keras.optimizers.schedules.LearningRateSchedule):
    """A learning rate that first rises in a line, which of Keras' own only cosines do.

    Args:
        rate: a number or a schedule, or the config of one.
        steps: that it takes to rise from 0.
    """

    def __init__(self, rate, steps):
        super().__init__()
        if isinstance(rate, dict):
            rate = keras.optimizers.schedules.deserialize(rate)
        self.rate, self.steps = rate, steps

    def __call__(self, step):
        """The learning rate at a step, counted from 0."""
        rate = self.rate(step) if callable(self.rate) else self.rate
        return rate * keras.ops.minimum(keras.ops.cast(step, "float32") / self.steps, 1)

    def get_config(self):
        """The constructor's arguments."""
        rate = self.rate
        if callable(rate):
            rate = keras.optimizers.schedules.serialize(rate)
        return {"rate": rate, "steps": self.steps}


def _loss(settings, multi_label):
    """The loss of one timestep, `(B,)`: of integer labels or of vectors."""
    smoothing = settings.label_smoothing
    if multi_label:
        return functools.partial(
            keras.losses.binary_crossentropy, label_smoothing=smoothing
        )
    if not smoothing and not augmentation.mixes(settings.augment):
        return keras.losses.sparse_categorical_crossentropy
    categorical = keras.losses.categorical_crossentropy

    def crossentropy(labels, posteriors):
        if len(labels.shape) < len(posteriors.shape):  # those that are validated on
            labels = keras.ops.one_hot(labels, posteriors.shape[-1])
        return categorical(labels, posteriors, label_smoothing=smoothing)

    return crossentropy


POLICIES = {"none": "float32", "bfloat16": "mixed_bfloat16", "float16": "mixed_float16"}


def precision_policy(mixed_precision):
    """The dtype policy that a --mixed_precision names.

    Args:
        mixed_precision: `"none"`, `"bfloat16"`, `"float16"` or `"auto"`: bfloat16 where
            the device computes in it. What a run of an earlier version lacks is none.
    """
    if mixed_precision == "auto":
        mixed_precision = "bfloat16" if machine.has_bfloat16() else "none"
    return POLICIES[mixed_precision or "none"]


def run_policy(flag, folder):
    """The dtype policy in which a run computed, on whatever machine that was.

    Args:
        flag: the flag that the folder comes from, for the errors.
        folder: of the run.
    """
    found = runs.read(flag, folder)
    return found["policy"] or precision_policy(found["flags"].get("mixed_precision"))
