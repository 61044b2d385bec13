"""Optimizer, loss and metrics of a training run."""

import dataclasses
import functools
import math
import time

import keras

from applications.common.data import TrainingData
from applications.common.settings import Experiment, field
from kfeedback.losses import TimestepLoss
from kfeedback.metrics import ExactMatch, TimestepMetric

_optimization = functools.partial(field, group="optimization")
_run = functools.partial(field, group="run")


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
    lr_drops: tuple[float, ...] = _optimization(
        (),
        "Rising shares of all epochs at which lr falls to a tenth.",
        above=0,
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
    discount: float = _optimization(1.0, "γ: timestep t weighs γ^t, t from 0.", above=0)

    def check(self):
        """Refuses flags that contradict others or would have no effect."""
        super().check()
        if sorted(self.lr_drops) != list(self.lr_drops):
            raise ValueError(
                "--lr_drops must be rising shares between 0 and 1, such as 0.5,0.75, "
                f"got {','.join(map(str, self.lr_drops))!r}."
            )
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

    def apply(self, grads, trainable_variables=None):
        """One step; a factor on the gradient is one on the learning rate of SGD."""
        variables = trainable_variables or self._trainable_variables
        scaled = [
            grad if grad is None else grad * self._factor(variable.path)
            for grad, variable in zip(grads, variables, strict=True)
        ]
        return super().apply(scaled, trainable_variables)

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
    schedule = lr
    if settings.lr_drops:
        schedule = keras.optimizers.schedules.PiecewiseConstantDecay(
            [int(share * steps) for share in settings.lr_drops],
            [lr * 0.1**n for n in range(len(settings.lr_drops) + 1)],
        )
    if settings.optimizer == "adam":
        optimizer = keras.optimizers.Adam(schedule)
    else:
        optimizer = MultiplierSGD(
            schedule,
            momentum=settings.momentum,
            nesterov=settings.nesterov,
            multipliers={"_feedback/": settings.feedback_lr_mult},
        )
    loss = "binary_crossentropy" if multi_label else "sparse_categorical_crossentropy"
    model.compile(
        optimizer=optimizer,
        loss=TimestepLoss(loss, discount=settings.discount),
        metrics=[
            TimestepMetric(
                ExactMatch() if multi_label else "accuracy",
                step,
                name=f"accuracy_t{step + 1}",
            )
            for step in range(model.output_shape[1])
        ],
    )


def fit(model, *data, flag="lr", rate, callbacks=(), **arguments):
    """`model.fit` that stops where a loss is not finite.

    Args:
        model: compiled.
        *data: as `fit` takes them.
        flag: name of the flag that gave the learning rate.
        rate: its value.
        callbacks: more callbacks.
        **arguments: of `fit`.

    Returns:
        the seconds it took.
    """
    start = time.time()
    stop = keras.callbacks.TerminateOnNaN(raise_error=True)
    try:
        model.fit(*data, callbacks=[stop, *callbacks], **arguments)
    except RuntimeError as error:  # of TerminateOnNaN
        raise ValueError(
            f"--{flag} must be one at which training stays finite, got {rate}: {error}"
        ) from error
    return time.time() - start
