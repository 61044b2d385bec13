import functools
import json

import keras
import numpy as np
import pytest

from kfeedback.layers import StackTimesteps
from kfeedback.losses import TimestepLoss
from kfeedback.metrics import ExactMatch, TimestepMetric
from tests import harness
from tests.reference import operations as reference

RANDOM = np.random.default_rng(9)
CLASSES, STEPS, BATCH = 8, 3, 200
PREDICTIONS = reference.softmax(RANDOM.normal(0, 2, (BATCH, STEPS, CLASSES))).astype(
    "float32"
)
SPARSE = RANDOM.integers(0, CLASSES, BATCH)
ONE_HOT = np.eye(CLASSES, dtype="float32")[SPARSE]
WEIGHTS = RANDOM.uniform(0.1, 3, BATCH).astype("float32")
RIGHT = PREDICTIONS.argmax(axis=-1) == SPARSE[:, None]
RANK = (PREDICTIONS[np.arange(BATCH), :, SPARSE][..., None] < PREDICTIONS).sum(axis=-1)


def test_the_timesteps_here_differ():
    assert len(set(RIGHT.mean(axis=0))) == STEPS
    assert len(set((RANK < 5).mean(axis=0))) == STEPS


@pytest.mark.parametrize("timestep", [0, 1, 2, -1, -2, -3])
@pytest.mark.parametrize(
    "metric, labels",
    [
        ("accuracy", SPARSE),
        ("accuracy", SPARSE[:, None]),
        ("accuracy", ONE_HOT),
        ("acc", SPARSE),
        ("sparse_categorical_accuracy", SPARSE),
        ("categorical_accuracy", ONE_HOT),
        (keras.metrics.SparseCategoricalAccuracy, SPARSE),
        (keras.metrics.CategoricalAccuracy, ONE_HOT),
    ],
)
def test_accuracy(metric, labels, timestep):
    metric = TimestepMetric(metric() if isinstance(metric, type) else metric, timestep)
    metric.update_state(labels[:25], PREDICTIONS[:25])
    metric.update_state(labels[25:], PREDICTIONS[25:])
    expected = RIGHT[:, timestep].mean()
    np.testing.assert_allclose(float(metric.result()), expected, rtol=1e-6)
    metric.reset_state()
    metric.update_state(labels, PREDICTIONS, sample_weight=WEIGHTS)
    expected = np.average(RIGHT[:, timestep], weights=WEIGHTS)
    np.testing.assert_allclose(float(metric.result()), expected, rtol=1e-5)


@pytest.mark.parametrize("timestep", [0, -1])
def test_top_5_and_auc(timestep):
    top = TimestepMetric(keras.metrics.SparseTopKCategoricalAccuracy(5), timestep)
    top.update_state(SPARSE, PREDICTIONS)
    expected = (RANK[:, timestep] < 5).mean()
    np.testing.assert_allclose(float(top.result()), expected, rtol=1e-6)
    top = TimestepMetric(keras.metrics.TopKCategoricalAccuracy(5), timestep)
    top.update_state(ONE_HOT, PREDICTIONS)
    np.testing.assert_allclose(float(top.result()), expected, rtol=1e-6)

    auc = TimestepMetric(keras.metrics.AUC(), timestep)
    plain = keras.metrics.AUC()
    auc.update_state(ONE_HOT, PREDICTIONS)
    plain.update_state(ONE_HOT, PREDICTIONS[:, timestep])
    assert float(auc.result()) == float(plain.result())
    auc.reset_state()
    assert float(auc.result()) == 0


def test_names():
    names = [TimestepMetric("accuracy", step).name for step in (-1, 0, 1, 2)]
    assert names == ["accuracy", "accuracy_t1", "accuracy_t2", "accuracy_t3"]
    names = [TimestepMetric("accuracy", step).name for step in (-1, -2, -3)]
    assert len(set(names)) == 3
    assert all(len(name) < 20 and "999" not in name for name in names)
    assert TimestepMetric("accuracy", 0, name="first").name == "first"


@pytest.mark.parametrize(
    "metric",
    [
        "accuracy",
        "sparse_categorical_accuracy",
        keras.metrics.SparseTopKCategoricalAccuracy,
    ],
)
def test_config_round_trip(metric):
    metric = TimestepMetric(metric(3) if isinstance(metric, type) else metric, 1)
    config = keras.saving.serialize_keras_object(metric)
    again = keras.saving.deserialize_keras_object(config)
    assert again.name == metric.name
    assert again.timestep == 1
    metric.update_state(SPARSE, PREDICTIONS)
    again.update_state(SPARSE, PREDICTIONS)
    assert float(again.result()) == float(metric.result())


@pytest.mark.parametrize("labels", [SPARSE, ONE_HOT], ids=["sparse", "one-hot"])
def test_fit_evaluate_and_a_saved_compiled_model(labels, tmp_path):
    kind = "sparse_categorical" if labels.ndim == 1 else "categorical"
    image = keras.Input((4,))
    x = keras.layers.Dense(STEPS * CLASSES)(image)
    x = keras.layers.Reshape((STEPS, CLASSES))(x)
    model = keras.Model(image, keras.layers.Softmax()(x))
    model.compile(
        "sgd",
        TimestepLoss(f"{kind}_crossentropy", 1.2),
        metrics=[TimestepMetric("accuracy", step) for step in (0, 1, -1)],
    )
    x = RANDOM.normal(size=(BATCH, 4)).astype("float32")
    history = model.fit(x, labels, verbose=0, validation_data=(x, labels)).history
    names = {"loss", "accuracy_t1", "accuracy_t2", "accuracy"}
    assert set(history) == names | {f"val_{name}" for name in names}
    result = model.evaluate(x, labels, verbose=0, return_dict=True)
    right = harness.to_numpy(model(x)).argmax(axis=-1) == SPARSE[:, None]
    for name, step in (("accuracy_t1", 0), ("accuracy_t2", 1), ("accuracy", 2)):
        np.testing.assert_allclose(result[name], right[:, step].mean(), rtol=1e-5)

    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    assert again.evaluate(x, labels, verbose=0, return_dict=True) == result
    history = again.fit(x, labels, verbose=0).history
    assert set(history) == names


@pytest.mark.parametrize("timestep", [1.5, "0", None, True])
def test_refuses_a_timestep(timestep):
    with pytest.raises(ValueError) as caught:
        TimestepMetric("accuracy", timestep)
    harness.assert_one_sentence(caught.value, "timestep")


@pytest.mark.parametrize("timestep", [3, -4, 100])
def test_refuses_a_timestep_out_of_range(timestep):
    metric = TimestepMetric("accuracy", timestep)
    with pytest.raises(ValueError) as caught:
        metric.update_state(SPARSE, PREDICTIONS)
    harness.assert_one_sentence(caught.value, "timestep")


@pytest.mark.parametrize("metric", ["best_metric", 3, None])
def test_refuses_an_unknown_metric(metric):
    with pytest.raises(ValueError) as caught:
        TimestepMetric(metric)
    harness.assert_one_sentence(caught.value, "metric")


def test_refuses_predictions_without_timesteps():
    with pytest.raises(ValueError) as caught:
        TimestepMetric("accuracy").update_state(SPARSE, PREDICTIONS[:, 0])
    harness.assert_one_sentence(caught.value, "y_pred")


def test_accuracy_of_one_sigmoid_unit_is_binary():
    labels = np.array([0, 1, 1, 0])
    right = np.array([0.1, 0.9, 0.8, 0.2], "float32")[:, None, None]
    metric = TimestepMetric("accuracy")
    metric.update_state(labels, right)
    assert float(metric.result()) == 1.0


def test_takes_a_partial_function():
    function = functools.partial(keras.metrics.sparse_top_k_categorical_accuracy, k=2)
    assert TimestepMetric(function, timestep=0).name == "partial_t1"


# --- Several labels an image ---------------------------------------------------------

LABELS = np.array([[1, 0, 1], [0, 0, 0], [0, 1, 0], [1, 1, 1]])
SURE = np.array(
    [
        # All right; one label too many; one too few; all right only above 0.3.
        [[0.9, 0.1, 0.6], [0.1, 0.7, 0.2], [0.2, 0.1, 0.4], [0.4, 0.4, 0.4]],
        [[0.9, 0.1, 0.6], [0.1, 0.2, 0.2], [0.2, 0.1, 0.4], [0.9, 0.9, 0.9]],
    ],
    "float32",
).transpose(1, 0, 2)


@pytest.mark.parametrize("dtype", ["uint8", "int64", "float32", "bool"])
@pytest.mark.parametrize(
    "step, threshold, expected", [(0, 0.5, 1 / 4), (0, 0.3, 2 / 4), (1, 0.5, 3 / 4)]
)
def test_exact_match(step, threshold, expected, dtype):
    metric = ExactMatch(threshold)
    labels = LABELS.astype(dtype)
    metric.update_state(labels[:1], SURE[:1, step])
    metric.update_state(labels[1:], SURE[1:, step])
    assert float(metric.result()) == expected
    metric.reset_state()
    assert float(metric.result()) == 0


def test_exact_match_takes_weights_and_leaves_the_threshold_out():
    metric = ExactMatch()
    metric.update_state(LABELS, SURE[:, 1], sample_weight=[1.0, 2.0, 3.0, 4.0])
    np.testing.assert_allclose(float(metric.result()), 0.7, rtol=1e-6)
    metric = ExactMatch()
    metric.update_state([[0], [1]], [[0.5], [0.5]])
    assert float(metric.result()) == 0.5


@pytest.mark.parametrize("step", [0, 1, -1, -2])
def test_exact_match_at_a_timestep(step):
    metric = TimestepMetric(ExactMatch(), step)
    assert metric.name.startswith("exact_match")
    metric.update_state(LABELS, SURE)
    assert float(metric.result()) == (1 / 4, 3 / 4)[step]


@pytest.mark.parametrize("timestep", [None, 1])
def test_exact_match_survives_its_config(timestep):
    metric = ExactMatch(0.3, name="all_labels")
    if timestep is not None:
        metric = TimestepMetric(metric, timestep)
    config = json.loads(json.dumps(keras.saving.serialize_keras_object(metric)))
    again = keras.saving.deserialize_keras_object(config)
    assert type(again) is type(metric) and again.name == metric.name
    assert again.get_config() == metric.get_config()
    inner = again if timestep is None else again.metric
    assert isinstance(inner, ExactMatch) and inner.threshold == 0.3
    expected = 2 / 4 if timestep is None else 3 / 4
    for one in (metric, again):
        one.update_state(LABELS, SURE[:, 0] if timestep is None else SURE)
        assert float(one.result()) == expected


def test_exact_match_in_a_saved_compiled_model(tmp_path):
    image = keras.Input((4,))
    x = keras.layers.Dense(STEPS * 3, activation="sigmoid")(image)
    model = keras.Model(image, keras.layers.Reshape((STEPS, 3))(x))
    model.compile(
        "sgd",
        TimestepLoss("binary_crossentropy"),
        metrics=[TimestepMetric(ExactMatch(0.4), step) for step in (0, 1, -1)],
    )
    random = np.random.default_rng(3)
    x = random.normal(size=(64, 4)).astype("float32")
    labels = random.integers(0, 2, (64, 3)).astype("uint8")
    model.fit(x, labels, verbose=0)
    result = model.evaluate(x, labels, verbose=0, return_dict=True)
    right = (harness.to_numpy(model(x)) > 0.4) == labels[:, None]
    expected = right.all(axis=-1).mean(axis=0)
    assert 0 < expected.min() < 1
    for step, name in enumerate(("exact_match_t1", "exact_match_t2", "exact_match")):
        np.testing.assert_allclose(result[name], expected[step], rtol=1e-6)
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    assert again.evaluate(x, labels, verbose=0, return_dict=True) == result
    assert set(again.fit(x, labels, verbose=0).history) == set(result)


@pytest.mark.parametrize("threshold", [1, -0.1, None, "half", True, float("nan")])
def test_exact_match_refuses(threshold):
    with pytest.raises(ValueError) as caught:
        ExactMatch(threshold)
    harness.assert_one_sentence(caught.value, "threshold")


def test_exact_match_refuses_labels_that_are_no_vectors():
    with pytest.raises(ValueError) as error:
        ExactMatch()(np.array([1, 0]), np.array([[0.2, 0.9], [0.8, 0.1]]))
    harness.assert_one_sentence(error.value, "y_true")


@pytest.mark.parametrize("steps", [1, BATCH])
def test_exact_match_refuses_predictions_of_several_timesteps(steps):
    labels, predictions = np.ones((steps, 3)), np.ones((steps, steps, 3))
    with pytest.raises(ValueError) as error:
        ExactMatch()(labels, predictions)
    harness.assert_one_sentence(error.value, "y_true must have the shape of y_pred")


def test_one_metric_serves_several_timesteps():
    one = keras.metrics.SparseTopKCategoricalAccuracy(5)
    metrics = [TimestepMetric(one, step) for step in range(STEPS)]
    for metric in metrics:
        metric.update_state(SPARSE, PREDICTIONS)
    found = [float(metric.result()) for metric in metrics]
    np.testing.assert_allclose(found, (RANK < 5).mean(axis=0), rtol=1e-6)
    assert all(metric._direction == "up" for metric in metrics) == hasattr(
        one, "_direction"
    )


def test_a_copy_has_the_function_that_was_given():
    """Not one of Keras of the same name."""

    def categorical_accuracy(y, x):
        return x[:, 0]

    for function in (categorical_accuracy, lambda y, x: x[:, 0]):
        metric = keras.metrics.MeanMetricWrapper(function, name="own")
        for step in range(STEPS):
            one = TimestepMetric(metric, step)
            one.update_state(ONE_HOT, PREDICTIONS)
            wanted = PREDICTIONS[:, step, 0].mean()
            np.testing.assert_allclose(float(one.result()), wanted, rtol=1e-5)


def test_a_metric_without_a_copy_serves_one_timestep():
    class Own(keras.metrics.Mean):
        def __init__(self, column):
            super().__init__(name="own")
            self.column = column

        def update_state(self, y_true, y_pred, sample_weight=None):
            return super().update_state(y_pred[:, self.column])

    metric = Own(0)
    one = TimestepMetric(metric, 1)
    one.update_state(SPARSE, PREDICTIONS)
    wanted = PREDICTIONS[:, 1, 0].mean()
    np.testing.assert_allclose(float(one.result()), wanted, rtol=1e-5)
    with pytest.raises(ValueError) as error:
        TimestepMetric(metric, 2)
    harness.assert_one_sentence(error.value, "metric must be another one for each")


@pytest.mark.parametrize("wrapped", [False, True])
def test_callbacks_know_that_more_matches_are_better(tmp_path, wrapped):
    x = inputs = keras.Input((4,))
    dense = keras.layers.Dense(3, activation="sigmoid")
    metric = ExactMatch(name="matches")
    loss = keras.losses.BinaryCrossentropy()
    if wrapped:
        outputs = StackTimesteps()([dense(x), dense(x)])
        metric, loss = TimestepMetric(metric), TimestepLoss(loss)
    else:
        outputs = dense(x)
    model = keras.Model(inputs, outputs)
    model.compile("sgd", loss, metrics=[metric])
    model.save(tmp_path / "a.keras")
    model = keras.models.load_model(tmp_path / "a.keras")
    stop = keras.callbacks.EarlyStopping("val_matches")
    data = np.zeros((4, 4)), np.ones((4, 3))
    model.fit(*data, validation_data=data, callbacks=[stop], verbose=0)
    assert stop.monitor_op(1.0, 0.0)


@pytest.mark.parametrize("metric", ["accuracy", "acc", "sparse_categorical_accuracy"])
def test_a_reloaded_metric_knows_which_way_is_better(metric):
    metric = TimestepMetric(metric, 1)
    config = json.loads(json.dumps(keras.metrics.serialize(metric)))
    again = keras.metrics.deserialize(config)
    assert again.name == metric.name and again._direction == "up"
    again.update_state(SPARSE, PREDICTIONS)
    np.testing.assert_allclose(float(again.result()), RIGHT[:, 1].mean(), rtol=1e-6)
