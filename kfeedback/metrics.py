"""A metric of the predictions at one timestep, and one of several labels an image."""

import warnings

import keras
from keras import ops

from kfeedback import checks
from kfeedback.losses import known, timesteps_of


@keras.saving.register_keras_serializable(package="kfeedback")
class TimestepMetric(keras.metrics.Metric):
    """Watches one timestep of a sequence of predictions with any Keras metric.

    Args:
        metric: a `keras.metrics.Metric`, of which a copy counts, so that one may be
            given for several timesteps; or a name that Keras knows; `"accuracy"`
            takes integer or one-hot labels.
        timestep: which one, from 0; negative counts from the last.
        name: name of the metric; by default that of `metric`, followed by
            `_t1`, `_t2`, … for timesteps 0, 1, … and `_t-2`, … for -2, ….

    Call arguments:
        y_true: labels as `metric` takes them.
        y_pred: `(B, T, classes)`.

    Raises:
        ValueError: if Keras knows no such `metric`, or cannot copy it by its config for
            a second timestep; `timestep` is no integer; or `y_pred` has no such
            timestep.

    Example:
        >>> y_true = np.array([3, 5])
        >>> y_pred = np.full((2, 3, 10), 0.1, "float32")  # three timesteps
        >>> metric = TimestepMetric("accuracy", timestep=-1)
        >>> metric.update_state(y_true, y_pred)
        >>> float(metric.result())
        0.0
    """

    def __init__(self, metric, timestep=-1, name=None):
        timestep = checks.integer("timestep", timestep, least=None)
        self._shorthand = metric if metric in ("accuracy", "acc") else None
        if self._shorthand:
            metric = keras.metrics.MeanMetricWrapper(_accuracy, name=metric)
            metric._direction = "up"
        metric = known("metric", metric, keras.metrics.get)
        if isinstance(metric, keras.metrics.Metric):
            metric = _copy(metric)
        else:
            function = metric
            name_of = getattr(function, "__name__", type(function).__name__)
            metric = keras.metrics.MeanMetricWrapper(function, name=name_of)
        suffix = "" if timestep == -1 else f"_t{timestep + (timestep >= 0)}"
        super().__init__(name=name or metric.name + suffix)
        self.metric = metric
        self.timestep = timestep
        if hasattr(metric, "_direction"):  # by which callbacks know what is better
            self._direction = metric._direction

    @property
    def variables(self):
        """The state of the metric."""
        return self.metric.variables

    def update_state(self, y_true, y_pred, sample_weight=None):
        """Adds one batch.

        Args:
            y_true: labels `(B, ...)`, as the metric takes them.
            y_pred: `(B, T, ...)`, the predictions of all timesteps.
            sample_weight: `None`, or `(B,)`.
        """
        timesteps = timesteps_of(y_pred)
        if not -timesteps <= self.timestep < timesteps:
            raise ValueError(
                f"timestep must be in [{-timesteps}, {timesteps}) for {timesteps} "
                f"predictions, got {self.timestep}."
            )
        return self.metric.update_state(
            y_true, y_pred[:, self.timestep], sample_weight=sample_weight
        )

    def result(self):
        """The value over all batches since the last reset."""
        return self.metric.result()

    def reset_state(self):
        """Forgets all batches."""
        self.metric.reset_state()

    def get_config(self):
        """The constructor's arguments."""
        return {
            "metric": self._shorthand or keras.metrics.serialize(self.metric),
            "timestep": self.timestep,
            "name": self.name,
        }


def _copy(metric):
    """A metric with a state of its own."""
    if type(metric) is keras.metrics.MeanMetricWrapper:
        # A config has a function's name alone, which Keras may have for another one.
        found = keras.metrics.MeanMetricWrapper(
            metric._fn, name=metric.name, dtype=metric.dtype, **metric._fn_kwargs
        )
        return _as_good(found, metric)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Keras warns of a lambda
            found = type(metric).from_config(metric.get_config())
    except Exception as error:  # a metric of somebody's own raises whatever it likes
        if getattr(metric, "_has_timestep", False):
            raise ValueError(
                "metric must be another one for each timestep where its config makes "
                f"no copy, got {metric.name!r} again: {checks.reason(error)}."
            ) from error
        metric._has_timestep = True
        return metric
    return _as_good(found, metric)


def _as_good(found, metric):
    """`found`, of which callbacks know what is better, as of `metric`."""
    if hasattr(metric, "_direction"):
        found._direction = metric._direction
    return found


@keras.saving.register_keras_serializable(package="kfeedback")
class ExactMatch(keras.metrics.MeanMetricWrapper):
    """Share of samples whose predicted labels are exactly the true ones.

    Args:
        threshold: a class is predicted if its probability is above this.
        name: name of the metric.

    Call arguments:
        y_true: `(B, classes)` of 0 and 1.
        y_pred: probabilities `(B, classes)`.

    Raises:
        ValueError: if `threshold` is no number from 0 to below 1.

    Example:
        >>> metric = ExactMatch()
        >>> labels, posteriors = np.array([[1, 0], [1, 1]]), np.array([[0.9, 0.2]] * 2)
        >>> metric.update_state(labels, posteriors)
        >>> float(metric.result())
        0.5
    """

    def __init__(self, threshold=0.5, name="exact_match"):
        self.threshold = checks.number("threshold", threshold, least=0, below=1)
        super().__init__(self._matches, name=name)
        self._direction = "up"  # by which callbacks know what is better

    def _matches(self, y_true, y_pred):
        y_true, y_pred = (ops.convert_to_tensor(y) for y in (y_true, y_pred))
        ranks = (len(y_true.shape), len(y_pred.shape))
        if ranks != (2, 2) or y_true.shape[1] != y_pred.shape[1]:
            raise ValueError(
                "y_true must have the shape of y_pred, (batch, classes), got "
                f"{tuple(y_true.shape)} and {tuple(y_pred.shape)}."
            )
        predicted = ops.cast(ops.greater(y_pred, self.threshold), "int32")
        return ops.all(predicted == ops.cast(y_true, "int32"), axis=-1)

    def get_config(self):
        """The constructor's arguments."""
        return {"threshold": self.threshold, "name": self.name}


@keras.saving.register_keras_serializable(package="kfeedback")
def _accuracy(y_true, y_pred):
    """Accuracy of one-hot or integer labels, by their shape; binary for one unit."""
    if ops.shape(y_pred)[-1] == 1:
        return keras.metrics.binary_accuracy(y_true, y_pred)
    one_hot = len(ops.shape(y_true)) == 2 and ops.shape(y_true)[1] != 1
    if one_hot:
        return keras.metrics.categorical_accuracy(y_true, y_pred)
    return keras.metrics.sparse_categorical_accuracy(y_true, y_pred)
