"""A loss over the predictions of all timesteps."""

import keras
from keras import ops

from kfeedback import checks

_REDUCTIONS = ("sum_over_batch_size", "mean", "mean_with_sample_weight", "sum", "none")


@keras.saving.register_keras_serializable(package="kfeedback")
class TimestepLoss(keras.losses.Loss):
    """Sums a loss over timesteps: `L = Σ_t γ^t ℓ(y, ŷ_t)`, t from 0.

    The labels are given once and hold for every timestep.

    Args:
        loss: a `keras.losses.Loss`, or a name or function that Keras knows.
        discount: γ > 0; 1 weighs all timesteps equally.
        reduction: over the batch, as Keras has it; by default that of `loss`.
        name: name of the loss.

    Call arguments:
        y_true: labels as `loss` takes them, such as `(B,)` or `(B, classes)`.
        y_pred: `(B, T, classes)`.

    Raises:
        ValueError: if Keras knows no such `loss` or reduction, `discount` is no
            positive number, or `y_pred` has no axis of timesteps.

    Reference:
        Li et al., Learning with Rethinking, 2017, the loss of all passes, with γ = 1;
        feedback ConvLSTM networks use γ = 1.2.

    Example:
        >>> y_true = np.array([3, 5])
        >>> y_pred = np.full((2, 3, 10), 0.1, "float32")  # three timesteps
        >>> loss = TimestepLoss("sparse_categorical_crossentropy", discount=1.2)
        >>> round(float(loss(y_true, y_pred)), 2)  # (1 + 1.2 + 1.44) ln 10
        8.38
    """

    def __init__(self, loss, discount=1.0, reduction=None, name="timestep_loss"):
        loss = known("loss", loss, keras.losses.get)
        if not isinstance(loss, keras.losses.Loss):
            loss = _FunctionLoss(loss)
        if reduction is not None:
            if reduction not in _REDUCTIONS:
                raise ValueError(
                    f"reduction must be None or one of {', '.join(_REDUCTIONS)}, got "
                    f"{reduction!r}."
                )
            loss = _with_reduction(loss, reduction)
        super().__init__(reduction=loss.reduction, name=name)
        self.loss = loss
        self.discount = checks.number("discount", discount, above=0)

    def __call__(self, y_true, y_pred, sample_weight=None):
        """Returns the loss, reduced over the batch as `loss` does it."""
        # Through the loss's own call, which knows of masks such as `ignore_class`.
        y_pred = ops.convert_to_tensor(y_pred)
        return sum(
            self.discount**timestep
            * self.loss(y_true, y_pred[:, timestep], sample_weight)
            for timestep in range(timesteps_of(y_pred))
        )

    def get_config(self):
        """The constructor's arguments."""
        return {
            "name": self.name,
            "reduction": self.reduction,
            "loss": keras.losses.serialize(self.loss),
            "discount": self.discount,
        }


@keras.saving.register_keras_serializable(package="kfeedback")
class _FunctionLoss(keras.losses.Loss):
    """A function of `(y_true, y_pred)` as a loss; labels `(B,)` fit one unit."""

    def __init__(self, function, reduction="sum_over_batch_size", name=None):
        super().__init__(reduction=reduction, name=name)
        self.function = keras.losses.get(function)

    def call(self, y_true, y_pred):
        if len(y_true.shape) == len(y_pred.shape) - 1 and y_pred.shape[-1] == 1:
            y_true = ops.expand_dims(y_true, -1)
        return self.function(y_true, y_pred)

    def get_config(self):
        return {
            "name": self.name,
            "reduction": self.reduction,
            "function": keras.losses.serialize(self.function),
        }


def _with_reduction(loss, reduction):
    """A copy of a loss with another reduction and whatever else it holds."""
    # `copy.copy` of a Keras object goes through its config, which may lack something.
    twin = object.__new__(type(loss))
    twin.__dict__.update(loss.__dict__ | {"reduction": reduction})
    return twin


def known(argument, identifier, get):
    """What `get` of Keras finds for a name, function or object.

    Args:
        argument: what it is, `"loss"` or `"metric"`, for the error.
        identifier: a name, function or object.
        get: `keras.losses.get` or `keras.metrics.get`.

    Raises:
        ValueError: if it finds nothing; `argument` is what the error calls it.
    """
    try:
        found = get(identifier)
    except (TypeError, ValueError):
        found = None
    if found is None:
        raise ValueError(
            f"{argument} must be a Keras {argument}, its name or a function, got "
            f"{identifier!r}."
        )
    return found


def timesteps_of(y_pred):
    """The static number of timesteps of `(B, T, ...)`.

    Args:
        y_pred: tensor `(B, T, ...)`.

    Raises:
        ValueError: if there is no such axis.
    """
    shape = ops.shape(y_pred)
    if len(shape) < 3 or not isinstance(shape[1], int):
        raise ValueError(
            "y_pred must be (batch, timesteps, classes), as a model built with "
            f"return_sequences=True gives it, got shape {tuple(y_pred.shape)}."
        )
    return shape[1]
