"""The epochs of a run: train, validate, note, save; to be broken off at any moment.

A run that goes on does what it would have done without the stop: all that training
changes is in a checkpoint, and order and augmentation are a function of (seed, epoch).
"""

import contextlib
import time

import keras
import numpy as np

from applications.train.distribution import Distribution
from applications.train.interruptions import Interruption, noted

_LOOK_SECONDS = 1.0  # between looks at the loss


class Loop:
    """Trains a compiled model for some epochs.

    Args:
        model: compiled `keras.Model`, with a built optimizer.
        data: function of `(epoch, batch)` that gives the batches of that epoch from
            that batch on.
        validate: function that gives a dict of scores, or `None`.
        epochs: int, of the whole run.
        checkpoints: `Checkpoints` of the model's and the optimizer's variables.
        save_seconds: a checkpoint is written when so many seconds have passed.
        save_batches: or after so many batches, if not 0.
        validate_every: validate after so many epochs; the last one always, unless 0.
        on_epoch: function of the history after each epoch, a list of dicts.
        progress: `Progress`.
        distribution: `Distribution`, the devices.
    """

    def __init__(
        self,
        model,
        data,
        *,
        epochs,
        checkpoints,
        validate=None,
        validate_every=1,
        save_seconds=300.0,
        save_batches=0,
        on_epoch=lambda history: None,
        progress,
        distribution=None,
    ):
        self.model = model
        self._data = data
        self._validate = validate
        self._validate_every = validate_every
        self._epochs = epochs
        self._checkpoints = checkpoints
        self._save_seconds = save_seconds
        self._save_batches = save_batches
        self._on_epoch = on_epoch
        self._progress = progress
        self._distribution = distribution or Distribution()
        self._position = {"epoch": 0, "batch": 0, "metrics": [], "history": []}
        self._position |= {"logs": None, "seconds": 0.0}
        self._saved = self._started = self._looked = time.monotonic()
        self._has_checkpoint = False

    @property
    def history(self):
        """One dict of logs for each finished epoch."""
        return self._position["history"]

    @property
    def seconds(self):
        """That the run took, those before the last stop included."""
        return self._position["seconds"] + time.monotonic() - self._started

    def restore(self, say=print):
        """Goes on from the newest checkpoint, if there is one, and says from where."""
        position = self._checkpoints.restore(say)
        if position is not None:
            self._position, self._has_checkpoint = position, True
            say(f"resumed at epoch {position['epoch'] + 1}, batch {position['batch']}")
        return position is not None

    def run(self):
        """Trains what is left, and ends with a checkpoint of the last epoch's end.

        Raises:
            Interruption: after a signal, when the state is saved.
            ValueError: if a loss or a weight is not finite.
        """
        with noted() as self._signal:
            for epoch in range(self._position["epoch"], self._epochs):
                if self._position["logs"] is None:
                    self._train(epoch)
                    self._save_if_due()
                self._finish(epoch)
            self._check()  # a signal that came while the last epoch was saved

    def _train(self, epoch):
        start = self._position["batch"]
        data = self._data(epoch, start)
        self._last = start + len(data)
        watch = _Watch(self, epoch, start)
        self._distribution.fit(self.model, data, epoch, watch)
        watch.undo_average()
        self._position |= {"logs": watch.logs, "batch": self._last, "metrics": []}

    def _finish(self, epoch):
        """Validates, notes and saves."""
        logs = dict(self._position["logs"])
        require_finite(self.model, logs)
        due = self._validate_every and (
            (epoch + 1) % self._validate_every == 0 or epoch + 1 == self._epochs
        )
        if self._validate and due:
            try:
                with averaged(self.model):
                    found = self._validate(self._check)
            except Interruption:
                self._save()
                raise
            logs |= {f"val_{name}": value for name, value in found.items()}
        history = [*self.history, {"epoch": epoch, **logs}]
        self._position |= {"epoch": epoch + 1, "batch": 0, "logs": None}
        self._position["history"] = history
        # No row before there is a checkpoint: rows without one are a run that lost it.
        self._save_if_due(epoch + 1 == self._epochs or not self._has_checkpoint)
        self._on_epoch(history)

    def after_batch(self, epoch, batch, logs):
        """What is done after each batch, counted from 1 within the epoch."""
        self._position |= {"epoch": epoch, "batch": batch}
        self._progress.count()
        now = time.monotonic()
        if now - self._looked > _LOOK_SECONDS:  # a value may have to be waited for
            self._looked = now
            require_finite(self.model, logs, of_weights=False)
            self._progress.batch(epoch, batch, logs)
        if batch < self._last:  # else the epoch is whole in a moment
            by_count = self._save_batches and batch % self._save_batches == 0
            self._save_if_due(by_count)

    def _save_if_due(self, due=False):
        """Saves if it is time, or if there was a signal, which then ends the run."""
        late = time.monotonic() - self._saved > self._save_seconds
        told = self._distribution.agree(max(self._signal(), int(due or late)))
        if told:
            self._save()
        _end(told)

    def _check(self):
        """Ends the run if there was a signal, to any worker."""
        _end(self._distribution.agree(self._signal()))

    def metrics(self):
        """The state of the metrics at the position, empty at an epoch's start."""
        return self._position["metrics"]

    def _save(self):
        sync(self.model)
        require_finite(self.model)
        metrics = []
        if self._position["batch"] and self._position["logs"] is None:
            values = [value_of(v) for v in self.model.metrics_variables]
            metrics = [value.tolist() for value in values]
        now = {**self._position, "metrics": metrics, "seconds": self.seconds}
        self._checkpoints.save(now)
        self._distribution.wait()  # a worker that ends would end the one that writes
        self._saved, self._has_checkpoint = time.monotonic(), True


class _Watch(keras.callbacks.Callback):
    """What one epoch of `fit` tells the loop."""

    def __init__(self, loop, epoch, start):
        super().__init__()
        self.logs = None
        self._loop, self._epoch, self._start = loop, epoch, start
        self._raw = None

    def on_train_batch_end(self, batch, logs=None):
        """Counts, saves if it is time, ends if it was told to."""
        if batch == 0 and self._loop.metrics():
            # Only now all of them are there; as totals and counts they add up.
            sync(self.model)
            before = zip(
                self.model.metrics_variables, self._loop.metrics(), strict=True
            )
            for variable, value in before:
                variable.assign(variable + np.asarray(value, variable.dtype))
        self._loop.after_batch(self._epoch, self._start + batch + 1, logs)

    def on_epoch_end(self, epoch, logs=None):
        """Keeps the logs, and the weights that the end of `fit` replaces by means."""
        self.logs = {name: float(value) for name, value in logs.items()}
        if uses_average(self.model.optimizer):
            self._raw = [value_of(v) for v in self.model.trainable_variables]

    def undo_average(self):
        """Takes back that `fit` ends with the moving averages for weights."""
        for variable, value in zip(
            self.model.trainable_variables, self._raw or [], strict=False
        ):
            variable.assign(value)


def _end(told):
    if told > 1:
        raise Interruption(128 + told)


def sync(model):
    """Under JAX, gives the variables the values that they have in `fit`."""
    if keras.backend.backend() == "jax":
        model.jax_state_sync()


@contextlib.contextmanager
def averaged(model, trained=None):
    """The moving averages of the weights in their place, where the optimizer has some.

    Keras' own `SwapEMAWeights` swaps by adding and subtracting, which rounds: after a
    validation the weights would not be what they were.

    Args:
        model: compiled.
        trained: the variables that its optimizer was built with; by default those that
            can be trained now.
    """
    weights = model.trainable_variables if trained is None else trained
    if not uses_average(model.optimizer):
        weights = []
    before = [value_of(variable) for variable in weights]
    if weights:
        model.optimizer.finalize_variable_values(weights)
    for variable in weights:  # under JAX the two now share what `evaluate` gives away
        variable.assign(value_of(variable))
    try:
        yield
    finally:
        sync(model)  # else a later one would bring the averages back
        for variable, value in zip(weights, before, strict=True):
            variable.assign(value)


def require_finite(model, logs=None, of_weights=True):
    """Raises a ValueError that names the first of loss and weights that is not finite.

    A weight can be NaN while the loss is not: a ReLU on a CPU gives 0 for NaN.
    """
    wrong = [name for name, value in (logs or {}).items() if not np.isfinite(value)]
    variables = [*model.variables, *model.optimizer.variables]
    for variable in variables if of_weights and not wrong else ():
        value = keras.ops.convert_to_numpy(variable)
        if (
            value.dtype.kind not in "iub"
            and not np.isfinite(np.asarray(value, "float32")).all()
        ):
            wrong.append(variable.path)
            break
    if wrong:
        raise ValueError(
            "--lr must be one at which training stays finite, got a run whose "
            f"{wrong[0]} is not: the same command would get there again; another "
            "--output_dir takes another --lr."
        )


def uses_average(optimizer):
    """Whether an optimizer keeps a moving average of the weights."""
    return getattr(optimizer, "inner_optimizer", optimizer).use_ema


def value_of(variable):
    """A copy of a variable's value, which stays when JAX gives its memory away."""
    return np.array(keras.ops.convert_to_numpy(variable), copy=True)
