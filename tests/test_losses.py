import keras
import numpy as np
import pytest

from kfeedback.losses import TimestepLoss
from tests import harness
from tests.reference import operations as reference

RANDOM = np.random.default_rng(8)
CLASSES, STEPS, BATCH = 5, 3, 6
LOGITS = RANDOM.normal(0, 2, (BATCH, STEPS, CLASSES))
PROBABILITIES = reference.softmax(LOGITS).astype("float32")
SPARSE = RANDOM.integers(0, CLASSES, BATCH)
ONE_HOT = np.eye(CLASSES, dtype="float32")[SPARSE]
MANY = RANDOM.integers(0, 2, (BATCH, CLASSES)).astype("float32")
WEIGHTS = RANDOM.uniform(0.1, 3, BATCH).astype("float32")

# Each: the loss, its labels, its predictions, and the loss of a sample by hand.
CROSS_ENTROPY = -np.log(PROBABILITIES[np.arange(BATCH), :, SPARSE])
SIGMOID = (1 / (1 + np.exp(-LOGITS))).astype("float32")
BINARY = -(
    MANY[:, None] * np.log(SIGMOID) + (1 - MANY[:, None]) * np.log(1 - SIGMOID)
).mean(axis=-1)
SQUARED = ((PROBABILITIES - ONE_HOT[:, None]) ** 2).mean(axis=-1)
CASES = {
    "sparse, name": (
        "sparse_categorical_crossentropy",
        SPARSE,
        PROBABILITIES,
        CROSS_ENTROPY,
    ),
    "sparse, column": (
        "sparse_categorical_crossentropy",
        SPARSE[:, None],
        PROBABILITIES,
        CROSS_ENTROPY,
    ),
    "sparse, object": (
        keras.losses.SparseCategoricalCrossentropy(),
        SPARSE,
        PROBABILITIES,
        CROSS_ENTROPY,
    ),
    "sparse, logits": (
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        SPARSE,
        LOGITS.astype("float32"),
        CROSS_ENTROPY,
    ),
    "one-hot, name": (
        "categorical_crossentropy",
        ONE_HOT,
        PROBABILITIES,
        CROSS_ENTROPY,
    ),
    "one-hot, object": (
        keras.losses.CategoricalCrossentropy(),
        ONE_HOT,
        PROBABILITIES,
        CROSS_ENTROPY,
    ),
    "mse, name": ("mse", ONE_HOT, PROBABILITIES, SQUARED),
    "mse, object": (keras.losses.MeanSquaredError(), ONE_HOT, PROBABILITIES, SQUARED),
    "mse, function": (
        keras.losses.mean_squared_error,
        ONE_HOT,
        PROBABILITIES,
        SQUARED,
    ),
    "binary, name": ("binary_crossentropy", MANY, SIGMOID, BINARY),
    "binary, object": (keras.losses.BinaryCrossentropy(), MANY, SIGMOID, BINARY),
    "binary, logits": (
        keras.losses.BinaryCrossentropy(from_logits=True),
        MANY,
        LOGITS.astype("float32"),
        BINARY,
    ),
}


@pytest.mark.parametrize("discount", [1.0, 1.2, 0.5, 2])
@pytest.mark.parametrize("case", CASES)
def test_equals_the_sum_by_hand(case, discount):
    loss, labels, predictions, by_hand = CASES[case]
    factors = float(discount) ** np.arange(STEPS)
    samples = (by_hand * factors).sum(axis=1)
    loss = TimestepLoss(loss, discount)
    value = float(loss(labels, predictions))
    np.testing.assert_allclose(value, samples.mean(), rtol=1e-4)
    weighted = float(loss(labels, predictions, sample_weight=WEIGHTS))
    np.testing.assert_allclose(weighted, (samples * WEIGHTS).mean(), rtol=1e-4)


@pytest.mark.parametrize("case", ["sparse, object", "sparse, name"])
@pytest.mark.parametrize(
    "reduction, reduce",
    [
        ("sum", np.sum),
        ("sum_over_batch_size", np.mean),
        ("mean", np.mean),
        ("none", lambda x: x),
    ],
)
def test_reductions(case, reduction, reduce):
    loss, labels, predictions, by_hand = CASES[case]
    loss = TimestepLoss(loss, reduction=reduction)
    value = harness.to_numpy(loss(labels, predictions))
    np.testing.assert_allclose(value, reduce(by_hand.sum(axis=1)), rtol=1e-4)


def test_takes_the_reduction_of_its_loss():
    loss = TimestepLoss(keras.losses.MeanSquaredError(reduction="sum"))
    assert loss.reduction == "sum"
    value = float(loss(ONE_HOT, PROBABILITIES))
    np.testing.assert_allclose(value, SQUARED.sum(), rtol=1e-4)
    again = TimestepLoss(
        keras.losses.MeanSquaredError(reduction="sum"), reduction="mean"
    )
    np.testing.assert_allclose(
        float(again(ONE_HOT, PROBABILITIES)), SQUARED.sum() / BATCH, rtol=1e-4
    )


def test_one_timestep_is_the_loss():
    loss = TimestepLoss("categorical_crossentropy", 1.2)
    value = float(loss(ONE_HOT, PROBABILITIES[:, :1]))
    expected = float(
        keras.losses.CategoricalCrossentropy()(ONE_HOT, PROBABILITIES[:, 0])
    )
    np.testing.assert_allclose(value, expected, rtol=1e-6)


@pytest.mark.parametrize("case", CASES)
def test_config_round_trip(case):
    loss, labels, predictions, _ = CASES[case]
    loss = TimestepLoss(loss, 1.2, name="mine")
    config = keras.saving.serialize_keras_object(loss)
    again = keras.saving.deserialize_keras_object(config)
    assert again.get_config() == loss.get_config()
    assert (again.discount, again.name, again.reduction) == (
        1.2,
        "mine",
        loss.reduction,
    )
    assert float(again(labels, predictions)) == float(loss(labels, predictions))


class WithState(keras.losses.Loss):
    """A loss of somebody who wrote no `get_config`."""

    def __init__(self, factor):
        super().__init__()
        self.factor = factor

    def call(self, y_true, y_pred):
        return self.factor * keras.losses.mean_squared_error(y_true, y_pred)


def test_another_reduction_keeps_what_a_loss_holds():
    inner = WithState(10.0)
    value = float(TimestepLoss(inner, reduction="sum")(ONE_HOT, PROBABILITIES))
    np.testing.assert_allclose(value, 10 * SQUARED.sum(), rtol=1e-4)
    assert inner.reduction == "sum_over_batch_size"


def test_refuses_an_unknown_reduction():
    with pytest.raises(ValueError) as caught:
        TimestepLoss("mse", reduction="bogus")
    harness.assert_one_sentence(caught.value, "reduction")


def test_ignored_classes_do_not_count():
    inner = keras.losses.SparseCategoricalCrossentropy(ignore_class=2)
    labels = np.array([0, 2, 1, 2, 3, 4])
    value = float(TimestepLoss(inner, 1.2)(labels, PROBABILITIES))
    kept = labels != 2
    by_hand = -np.log(PROBABILITIES[np.arange(BATCH), :, labels])[kept]
    expected = (by_hand * 1.2 ** np.arange(STEPS)).sum(axis=1).mean()
    np.testing.assert_allclose(value, expected, rtol=1e-4)


@pytest.mark.parametrize("loss", ["binary_crossentropy", "mse"])
def test_labels_without_an_axis_fit_one_unit(loss):
    labels = MANY[:, 0]
    value = float(TimestepLoss(loss)(labels, SIGMOID[:, :, :1]))
    column = float(TimestepLoss(loss)(labels[:, None], SIGMOID[:, :, :1]))
    assert value == column
    by_hand = SIGMOID[:, :, 0]
    truth = labels[:, None]
    each = {
        "mse": (by_hand - truth) ** 2,
        "binary_crossentropy": -np.log(np.where(truth, by_hand, 1 - by_hand)),
    }
    np.testing.assert_allclose(value, each[loss].sum(axis=1).mean(), rtol=1e-4)


def sequence_model():
    image = keras.Input((4,))
    x = keras.layers.Dense(STEPS * CLASSES, name="dense")(image)
    x = keras.layers.Reshape((STEPS, CLASSES))(x)
    return keras.Model(image, keras.layers.Softmax()(x))


@pytest.mark.parametrize("labels", [SPARSE, ONE_HOT], ids=["sparse", "one-hot"])
def test_fit_and_evaluate(labels):
    kind = "sparse_categorical" if labels.ndim == 1 else "categorical"
    model = sequence_model()
    model.compile("sgd", TimestepLoss(f"{kind}_crossentropy", 1.2))
    x = RANDOM.normal(size=(BATCH, 4)).astype("float32")
    history = model.fit(x, labels, batch_size=4, epochs=3, verbose=0).history["loss"]
    assert history[-1] < history[0]
    loss = model.evaluate(x, labels, batch_size=BATCH, verbose=0)
    predictions = harness.to_numpy(model(x))
    by_hand = -np.log(predictions[np.arange(BATCH), :, SPARSE])
    expected = (by_hand * 1.2 ** np.arange(STEPS)).sum(axis=1).mean()
    np.testing.assert_allclose(loss, expected, rtol=1e-4)


def test_gradient_reaches_every_timestep():
    model = sequence_model()
    x = RANDOM.normal(size=(BATCH, 4)).astype("float32")
    loss = TimestepLoss("sparse_categorical_crossentropy")
    by_path, _ = harness.gradients(model, [x], lambda p: loss(SPARSE, p))
    bias = by_path["dense/bias"].reshape(STEPS, CLASSES)
    assert (np.abs(bias).max(axis=1) > 1e-3).all()


@pytest.mark.parametrize(
    "discount", [0, -1, float("nan"), float("inf"), "1.2", None, True]
)
def test_refuses_a_discount(discount):
    with pytest.raises(ValueError) as caught:
        TimestepLoss("mse", discount)
    harness.assert_one_sentence(caught.value, "discount")


@pytest.mark.parametrize("loss", ["best_loss", 3, None])
def test_refuses_an_unknown_loss(loss):
    with pytest.raises(ValueError) as caught:
        TimestepLoss(loss)
    harness.assert_one_sentence(caught.value, "loss")


def test_refuses_predictions_without_timesteps():
    with pytest.raises(ValueError) as caught:
        TimestepLoss("mse")(ONE_HOT, PROBABILITIES[:, 0])
    harness.assert_one_sentence(caught.value, "y_pred")
