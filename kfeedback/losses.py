"""A loss over the predictions of all timesteps."""

import keras
from keras import ops


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
        ValueError: if Keras knows no such `loss`, `discount` is no positive number,
            or `y_pred` has no axis of timesteps.

    Reference:
        Li et al., Learning with Rethinking, 2017, eq. (4), with γ = 1; feedback
        ConvLSTM networks use γ = 1.2.
    """

    def __init__(self, loss, discount=1.0, reduction=None, name="timestep_loss"):
        loss = known("loss", loss, keras.losses.get)
        if reduction is None:
            reduction = getattr(loss, "reduction", "sum_over_batch_size")
        super().__init__(reduction=reduction, name=name)
        valid = isinstance(discount, int | float) and not isinstance(discount, bool)
        if not valid or not 0 < discount < float("inf"):
            raise ValueError(f"discount must be a number > 0, got {discount!r}.")
        self.loss = loss
        self.discount = discount

    def call(self, y_true, y_pred):
        """Returns the loss of each sample, `(B,)`."""
        # A Loss object reduces over the batch when called; its `call` does not.
        function = self.loss.call if _is_loss(self.loss) else self.loss
        total = 0.0
        for step in range(timesteps_of(y_pred)):
            total += self.discount**step * function(y_true, y_pred[:, step])
        return total

    def get_config(self):
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "loss": keras.losses.serialize(self.loss),
            "discount": self.discount,
        }


def known(argument, identifier, get):
    """What `get` of Keras finds for a name, function or object.

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


def _is_loss(loss):
    return isinstance(loss, keras.losses.Loss)
