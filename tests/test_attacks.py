import os
import subprocess
import sys

import keras
import numpy as np
import pytest

import kfeedback
from kfeedback import attacks
from kfeedback.backend import input_gradient
from tests import harness
from tests.test_imports import REPOSITORY

SCALE = 1 / 255


def _scale(images):
    return images * SCALE - 0.5


@pytest.fixture(scope="module")
def data():
    random = np.random.default_rng(0)
    images = random.uniform(0, 255, (10, 16, 16, 1)).astype("float32")
    images[0] = random.integers(0, 2, images[0].shape) * 255  # at the edges
    return images, np.arange(10) % 4


def _linear(classes=4, activation="softmax", scale=1.0):
    image = keras.Input((16, 16, 1))
    x = keras.layers.Flatten()(image)
    x = keras.layers.Dense(classes, activation=activation, name="dense")(x)
    model = keras.Model(image, x, name="linear")
    kernel = np.random.default_rng(1).normal(size=(256, classes)) * scale
    model.get_layer("dense").kernel.assign(kernel)
    return model


def _net(timesteps=1):
    keras.utils.set_random_seed(2)
    model = kfeedback.LRNet(
        "lenet", input_shape=(16, 16, 1), classes=4, timesteps=timesteps
    )
    return harness.randomize(model)


@pytest.fixture(scope="module")
def attack():
    """Of one network, compiled once."""
    return attacks.Attack(_net(), preprocess=_scale)


def _right(model, images, labels):
    """The mean posterior of the label at the last timestep."""
    output = harness.to_numpy(model(_scale(images)))
    output = output.reshape(len(images), -1, 4)[:, -1]
    return output[np.arange(len(labels)), labels].mean()


def _closed_form(model, images, labels):
    """The gradient of the cross-entropy of a linear softmax classifier."""
    layer = model.get_layer("dense")
    kernel = harness.to_numpy(layer.kernel).astype("float64")
    logits = (images.reshape(len(images), -1) * SCALE - 0.5) @ kernel
    posterior = np.exp(logits - logits.max(1, keepdims=True))
    posterior /= posterior.sum(1, keepdims=True)
    rows = np.arange(len(labels))
    posterior[rows, labels] = 0
    posterior[rows, labels] = -posterior.sum(1)  # p - 1, also where p rounds to 1
    return (posterior @ kernel.T).reshape(images.shape)


@pytest.mark.parametrize("from_logits", [False, True])
def test_fgsm_of_a_linear_classifier_is_the_closed_form(data, from_logits):
    images, labels = data
    model = _linear(activation="linear" if from_logits else "softmax")
    result = attacks.fgsm(
        model, images, labels, 4.0, preprocess=_scale, from_logits=from_logits
    )
    gradient = _closed_form(model, images, labels)
    expected = np.clip(images + 4 * np.sign(gradient), 0, 255)
    np.testing.assert_allclose(result, expected, atol=1e-4)


def test_the_gradient_does_not_vanish_where_the_posterior_rounds_to_one(data):
    images, _ = data
    model = _linear(scale=4.0)
    posterior = harness.to_numpy(model(_scale(images)))
    labels = posterior.argmax(1)
    sure = posterior.max(1) == 1.0
    assert sure.any()
    result = attacks.fgsm(model, images, labels, 4.0, preprocess=_scale)
    expected = np.sign(_closed_form(model, images, labels))
    inner = (images > 4) & (images < 251) & sure[:, None, None, None]
    moved = np.sign(result - images)
    assert (moved[inner] == expected[inner]).mean() > 0.999


@pytest.mark.parametrize("epsilon", [0.3, 4.0, 60])
@pytest.mark.parametrize("random_start", [False, True])
def test_pgd_stays_in_the_ball_and_the_range(data, attack, epsilon, random_start):
    images, labels = data
    result = attack.pgd(
        images, labels, epsilon, 0.7 * epsilon, 3, random_start=random_start
    )
    assert result.dtype == np.float32
    exact = result.astype("float64") - images.astype("float64")
    assert np.abs(exact).max() <= epsilon
    assert np.abs(exact).max() > 0.9 * epsilon
    assert result.min() >= 0 and result.max() <= 255


def test_attacks_lower_the_posterior_of_the_label(data):
    images, labels = data
    model = _net(timesteps=2)
    attack = attacks.Attack(model, preprocess=_scale, batch_size=4)
    clean = _right(model, images, labels)
    once = _right(model, attack.fgsm(images, labels, 8), labels=labels)
    often = _right(model, attack.pgd(images, labels, 8, 2, 10), labels)
    assert often < once < clean


def test_pgd_of_one_full_step_is_fgsm(data, attack):
    images, labels = data
    one = attack.pgd(images, labels, 5, 5, 1, random_start=False)
    assert np.array_equal(one, attack.fgsm(images, labels, 5))


def test_nothing_changes_at_epsilon_zero(data, attack):
    images, labels = data
    before = images.copy()
    for result in (attack.fgsm(images, labels, 0), attack.pgd(images, labels, 0, 1, 3)):
        assert np.array_equal(result, images) and result is not images
    assert np.array_equal(images, before)


def test_the_same_seed_gives_the_same_bytes_in_any_parts(data):
    images, labels = data
    attack = attacks.Attack(_linear(), preprocess=_scale)
    whole = attack.pgd(images, labels, 8, 0.5, 2, seed=5)
    assert whole.tobytes() == attack.pgd(images, labels, 8, 0.5, 2, seed=5).tobytes()
    assert not np.array_equal(whole, attack.pgd(images, labels, 8, 0.5, 2, seed=6))
    parts = [
        attack.pgd(images[:3], labels[:3], 8, 0.5, 2, seed=5),
        attack.pgd(images[3:], labels[3:], 8, 0.5, 2, seed=5, first=3),
    ]
    assert np.concatenate(parts).tobytes() == whole.tobytes()


def test_the_gradient_goes_through_all_timesteps(data):
    """It is that of finite differences of the last of three predictions, or of all."""
    images, labels = data
    images, labels = images[1:3], labels[1:3]
    image = keras.Input((16, 16, 1))
    x = keras.layers.Conv2D(4, 5, strides=3, activation="tanh", name="conv")(image)
    x = keras.layers.Dense(4, activation="softmax")(keras.layers.Flatten()(x))
    model = kfeedback.LRNet(keras.Model(image, x), timesteps=3, return_sequences=True)
    harness.randomize(model)

    def losses(x):
        output = harness.to_numpy(model(_scale(x))).astype("float64")
        output = output.reshape(len(x), -1, 4)
        return -np.log(output[np.arange(len(x)), :, labels])

    direction = np.random.default_rng(3).normal(size=images.shape).astype("float32")
    step = 0.2
    ahead, behind = images + step * direction, images - step * direction
    for predictions in attacks.PREDICTIONS:
        gradient = input_gradient(
            model,
            lambda output, y, last=predictions == "last": attacks._loss(
                output, y, False, last
            ),
            _scale,
        )
        slope = harness.to_numpy(gradient(images, labels)[1])
        slope = (slope * direction).sum((1, 2, 3))
        difference = (losses(ahead) - losses(behind)) / (2 * step)
        if predictions == "last":
            wrong = 1 - np.exp(-losses(images)[:, -1])
            expected = difference[:, -1] / wrong  # of the log-odds
        else:
            expected = difference.sum(1)
        np.testing.assert_allclose(slope, expected, rtol=0.02, atol=1e-4)


def test_new_weights_count(data):
    images, labels = data
    model = _linear()
    attack = attacks.Attack(model, preprocess=_scale)
    before = attack.fgsm(images, labels, 4)
    model.get_layer("dense").kernel.assign(-model.get_layer("dense").kernel)
    assert not np.array_equal(attack.fgsm(images, labels, 4), before)


@pytest.mark.parametrize("from_logits", [False, True])
def test_what_a_nested_model_ends_in_is_seen(from_logits):
    inner = _linear(activation="linear" if from_logits else "softmax")
    image = keras.Input((16, 16, 1))
    model = keras.Model(image, inner(keras.layers.Rescaling(SCALE)(image)))
    assert attacks.Attack(model, from_logits=from_logits)
    if not from_logits:
        with pytest.raises(ValueError, match="from_logits must be False"):
            attacks.Attack(model, from_logits=True)


def test_any_keras_model_can_be_attacked(data):
    images, labels = data

    class Subclassed(keras.Model):
        def __init__(self):
            super().__init__()
            self.flatten = keras.layers.Flatten()
            self.dense = keras.layers.Dense(4, activation="softmax")

        def call(self, inputs):
            return self.dense(self.flatten(inputs))

    nested = keras.Sequential([keras.layers.Rescaling(SCALE), _linear()])
    for model in (Subclassed(), nested):
        result = attacks.fgsm(model, images, labels, 2, preprocess=_scale)
        assert np.abs(result - images).max() == 2


@pytest.mark.parametrize("kind", ["input", "nested input", "preprocess"])
def test_whole_numbers_have_no_gradient(data, kind):
    """Else nothing would be attacked, and the model would look robust."""
    images, labels = data
    whole = "uint8" if "input" in kind else "float32"
    image = keras.Input((16, 16, 1), dtype=whole)
    model = keras.Model(image, _linear()(keras.layers.Rescaling(SCALE)(image)))
    if kind == "nested input":
        model = keras.Sequential([keras.Input((16, 16, 1)), model])
    preprocess = keras.ops.round if kind == "preprocess" else None
    attack = attacks.Attack(model, preprocess=preprocess)
    with pytest.raises(ValueError, match="gradient") as error:
        attack.fgsm(images, labels, 4)
    harness.assert_one_sentence(error.value, "model")
    with pytest.raises(ValueError, match="gradient"):
        attack.pgd(images, labels, 4, 1, 2)


def test_a_model_that_does_not_look_cannot_be_fooled(data):
    images, labels = data
    model = _linear(scale=0.0)
    for result in (
        attacks.fgsm(model, images, labels, 4),
        attacks.pgd(model, images, labels, 4, 1, 2, random_start=False),
    ):
        assert np.array_equal(result, images)


def _model_bad(kind):
    return attacks.Attack(_linear(activation=kind))


def _attack(**changes):
    random = np.random.default_rng(0)
    arguments = {
        "model": _linear(),
        "images": random.uniform(0, 255, (2, 16, 16, 1)),
        "labels": [0, 1],
        "epsilon": 2,
        "step_size": 1,
        "steps": 1,
    }
    return attacks.pgd(**(arguments | changes))


BAD = {
    "epsilon": lambda: _attack(epsilon=-1),
    "epsilon must": lambda: attacks.fgsm(_linear(), np.zeros((1, 16, 16, 1)), [0], -1),
    "step_size": lambda: _attack(step_size=0),
    "steps": lambda: _attack(steps=0),
    "seed": lambda: _attack(seed=-1),
    "0 to 255, got -1": lambda: _attack(images=np.zeros((2, 16, 16, 1)) - 1),
    "images must be numbers": lambda: _attack(images=np.zeros(2)),
    "labels must": lambda: _attack(labels=[0, 4]),
    "labels must be whole": lambda: _attack(labels=[0.0, 1.0]),
    "shape \\(2,\\), got": lambda: _attack(labels=[0]),
    "ends in a sigmoid": lambda: _model_bad("sigmoid"),
    "does not sum": lambda: _attack(model=_linear(activation="linear")),
    "from_logits must": lambda: attacks.Attack(_linear(), from_logits=True),
    "predictions": lambda: attacks.Attack(_linear(), predictions="first"),
    "batch_size": lambda: attacks.Attack(_linear(), batch_size=0),
    "two classes or more": lambda: _attack(model=_linear(classes=1), labels=[0, 0]),
}


@pytest.mark.parametrize("message", BAD)
def test_bad_input_is_one_sentence(message):
    with pytest.raises(ValueError, match=message) as error:
        BAD[message]()
    assert str(error.value).endswith(".") and "\n" not in str(error.value)


def test_what_is_no_model_is_refused():
    with pytest.raises(TypeError, match="model must be"):
        attacks.Attack("lenet")
    with pytest.raises(TypeError, match="preprocess must be"):
        attacks.Attack(_linear(), preprocess=1)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="runs another")
def test_pytorch():
    """JAX runs them in tests/integration."""
    pytest.importorskip("torch")
    names = "closed_form or one_full_step or timesteps or count or any_keras or whole"
    command = [sys.executable, "-m", "pytest", __file__, "-q", "-p", "no:cacheprovider"]
    result = subprocess.run(
        [*command, "-k", names],
        env={**os.environ, "KERAS_BACKEND": "torch"},
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stdout[-6000:] + result.stderr[-2000:]
    assert "failed" not in result.stdout and " passed" in result.stdout


def test_a_normalization_in_a_nested_model_that_adapts_is_seen():
    image = keras.Input((4, 4, 2))
    normalization = keras.layers.Normalization()
    inner = keras.Model(image, keras.layers.Flatten()(normalization(image)))
    outer = keras.Sequential([keras.Input((4, 4, 2)), inner])
    outer.add(keras.layers.Dense(3, "softmax"))
    images = np.random.default_rng(0).uniform(0, 255, (2, 4, 4, 2)).astype("float32")
    labels, found = np.array([0, 2]), []
    normalization.adapt(images)
    attack = attacks.Attack(outer, batch_size=2)
    for factor in (1, 1000):
        normalization.adapt(images * factor)
        found.append(attack.pgd(images, labels, 8, 2, 3, random_start=False))
        wanted = attacks.pgd(outer, images, labels, 8, 2, 3, random_start=False)
        np.testing.assert_array_equal(found[-1], wanted)
