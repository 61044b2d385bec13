import keras
import numpy as np
import pytest
from keras import ops

from kfeedback.layers import ConvLSTMGates
from tests import harness
from tests.layer_checks import LAYER_CHECKS, check_layer
from tests.reference import feedback_convlstm as reference
from tests.reference import operations

RANDOM = np.random.default_rng(7)
X = RANDOM.normal(size=(8, 6, 12, 3)).astype("float32")
ODD = RANDOM.normal(size=(4, 9, 15, 3)).astype("float32")
OPTIONS = {
    "plain": {},
    "batch norm": {"batch_norm": True},
    "strides": {"strides": 2, "batch_norm": True},
}
STATISTICS = ("moving_mean", "moving_variance")


def make(filters=4, x=X, **kwargs):
    harness.fresh_names()
    gates = ConvLSTMGates(filters, name="gates", **kwargs)
    gates.build(x.shape)
    return harness.randomize(gates)


def arrays(layer):
    return {w.path: np.asarray(w.numpy(), "float64") for w in layer.weights}


def moved(before, after):
    """Slots that moved, of the mean; those of the variance are the same."""
    found = [
        [
            slot
            for slot in range(len(before[p]))
            if np.any(before[p][slot] != value[slot])
        ]
        for p, value in after.items()
        if p.endswith(STATISTICS)
    ]
    assert len(found) == 2 and found[0] == found[1]
    return found[0]


@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("check", LAYER_CHECKS)
def test_harness(check, option):
    check_layer(
        lambda **kwargs: ConvLSTMGates(4, name="gates", **OPTIONS[option], **kwargs),
        [X],
        checks=[check],
    )


@pytest.mark.parametrize(
    "batch_norm, batch",
    [(False, False), (True, False), (True, True)],
    ids=["plain", "moving", "batch"],
)
@pytest.mark.parametrize("kernel_size", [1, 3, 5])
@pytest.mark.parametrize(
    "x, strides",
    [(X, 1), (X, 2), (X, 3), (ODD, 1), (ODD, 3)],
    ids=["even-1", "even-2", "even-3", "odd-1", "odd-3"],
)
def test_equals_the_reference(x, strides, kernel_size, batch_norm, batch):
    gates = make(
        x=x,
        kernel_size=kernel_size,
        strides=strides,
        batch_norm=batch_norm,
        timesteps=3,
    )
    weights = arrays(gates)
    for timestep in (0, 2, 5):
        result = harness.to_numpy(gates(x, timestep=timestep, training=batch))
        expected = reference.conv_lstm_gates(
            x, weights, "gates", strides, timestep, batch
        )
        assert result.shape == (*x[:, ::strides, ::strides].shape[:3], 16)
        np.testing.assert_allclose(result, expected, atol=1e-5)


def test_the_same_padding_of_the_reference_is_that_of_keras():
    """Also where the stride does not divide the side, which the layer refuses."""
    for side in (5, 6, 7, 8):
        for size in (1, 2, 3, 4):
            for stride in (1, 2, 3):
                x = RANDOM.normal(size=(2, side, side + 1, 3)).astype("float32")
                kernel = RANDOM.normal(size=(size, 3, 3, 2)).astype("float32")
                result = ops.conv(x, kernel, stride, padding="same")
                expected = operations.conv2d(x, kernel, 0.0, "same", stride)
                np.testing.assert_allclose(result, expected, atol=1e-4)


@pytest.mark.parametrize("batch_norm", [False, True])
def test_gates_of_a_zero_state_are_what_the_batch_makes_of_zeros(batch_norm):
    gates = make(batch_norm=batch_norm)
    zeros = harness.to_numpy(gates(np.zeros_like(X), training=True))
    expected = np.broadcast_to(
        harness.to_numpy(gates.gates_of_zero_state()), zeros.shape
    )
    np.testing.assert_allclose(zeros, expected, atol=1e-4)
    assert np.ptp(expected[0, 0, 0]) > 0.01


def test_only_the_slot_of_the_step_moves():
    for timestep, is_last, slots in (
        (0, False, [0]),
        (1, False, [1]),
        (2, False, [2]),
        (5, False, [2]),
        (0, True, [0, 1, 2]),
        (1, True, [1, 2]),
        (5, True, [2]),
    ):
        gates = make(batch_norm=True, timesteps=3)
        before = arrays(gates)
        gates(X, timestep=timestep, is_last=is_last, training=True)
        after = arrays(gates)
        assert moved(before, after) == slots
        x = operations.conv2d(
            X, before["gates/kernel"], before["gates/bias"], padding="same"
        )
        for part, now in (("mean", x.mean((0, 1, 2))), ("variance", x.var((0, 1, 2)))):
            path = f"gates/moving_{part}"
            expected = 0.9 * before[path] + 0.1 * now
            np.testing.assert_allclose(after[path][slots], expected[slots], atol=1e-5)


@pytest.mark.parametrize("frozen, training", [(False, False), (True, True)])
def test_statistics_rest_in_inference_and_when_frozen(frozen, training):
    gates = make(batch_norm=True, timesteps=2)
    expected = harness.to_numpy(gates(X, timestep=1))
    gates.trainable = not frozen
    before = arrays(gates)
    result = gates(X, timestep=1, is_last=True, training=training)
    harness.assert_bit_equal(harness.to_numpy(result), expected, "moving statistics")
    assert moved(before, arrays(gates)) == []


def test_moving_statistics_come_to_those_of_the_batch():
    """Then inference is what training was, with a bias that is not zero."""
    gates = make(batch_norm=True, momentum=0.5)
    for _ in range(30):
        expected = gates(X, training=True)
    result = harness.to_numpy(gates(X, training=False))
    np.testing.assert_allclose(result, harness.to_numpy(expected), atol=1e-4)


def test_the_batch_takes_the_bias_away():
    gates = make(batch_norm=True)
    weights = RANDOM.normal(size=(8, 6, 12, 16)).astype("float32")

    def objective(outputs):
        return ops.sum(outputs * weights)

    by_path, _ = harness.gradients(gates, [X], objective, training=True)
    assert not np.any(by_path.pop("gates/bias"))
    harness.assert_all_flow(by_path, "by batch")
    expected = harness.to_numpy(gates(X, training=True))
    gates.bias.assign(gates.bias + 1)
    result = harness.to_numpy(gates(X, training=True))
    np.testing.assert_allclose(result, expected, atol=1e-4)


def test_how_weights_start():
    gates = ConvLSTMGates(16, forget_bias=1.0, batch_norm=True, timesteps=2)
    gates.build((None, 6, 6, 32))
    kernel, bias = (harness.to_numpy(w) for w in (gates.kernel, gates.bias))
    np.testing.assert_array_equal(bias.reshape(4, 16).T, [[0, 1, 0, 0]] * 16)
    draws = np.split(kernel, 4, axis=-1)
    for number, draw in enumerate(draws):
        # Glorot's of one gate, not of all four together.
        np.testing.assert_allclose(draw.var(), 2 / (9 * (32 + 16)), rtol=0.05)
        assert all(np.abs(draw - other).max() > 0.05 for other in draws[:number])
    assert [tuple(w.shape) for w in gates.weights[2:]] == [(64,), (64,)] + [(2, 64)] * 2


def test_a_seed_gives_every_gate_values_of_its_own():
    def draw():
        seeded = keras.initializers.HeNormal(seed=3)
        gates = ConvLSTMGates(8, kernel_initializer=seeded)
        gates.build((None, 6, 6, 4))
        return harness.to_numpy(gates.kernel)

    first = draw()
    harness.assert_bit_equal(draw(), first, "a second layer of one seed")
    assert np.abs(np.diff(np.split(first, 4, axis=-1), axis=0)).max((1, 2, 3, 4)).all()


def test_regularizes_the_kernel():
    gates = make(kernel_regularizer="l2")
    gates(X)
    expected = 0.01 * (arrays(gates)["gates/kernel"] ** 2).sum()
    np.testing.assert_allclose(float(sum(gates.losses)), expected, rtol=1e-5)


@pytest.mark.parametrize(
    "argument, value",
    [
        ("filters", 0),
        ("filters", 2.0),
        ("kernel_size", 2),
        ("kernel_size", (3, 3)),
        ("strides", 0),
        ("strides", (2, 2)),
        ("timesteps", 0),
        ("forget_bias", -1),
        ("forget_bias", "one"),
        ("momentum", 1),
        ("momentum", -0.1),
        ("epsilon", 0),
    ],
)
def test_refuses(argument, value):
    with pytest.raises(ValueError) as caught:
        ConvLSTMGates(**{"filters": 4, argument: value})
    harness.assert_one_sentence(caught.value, argument)


def test_refuses_a_batch_norm_that_is_no_bool():
    with pytest.raises(TypeError, match="batch_norm must be True or False"):
        ConvLSTMGates(4, batch_norm=1)


@pytest.mark.parametrize("shape", [(8, 6, 9, 3), (8, 9, 6, 3), (None, None, 9, 3)])
def test_refuses_strides_that_do_not_divide(shape):
    with pytest.raises(ValueError) as caught:
        ConvLSTMGates(4, strides=2).build(shape)
    harness.assert_one_sentence(caught.value, "strides")


@pytest.mark.parametrize("timestep", [-1, 0.5, True])
def test_refuses_a_step(timestep):
    with pytest.raises(ValueError) as caught:
        make(batch_norm=True)(X, timestep=timestep)
    assert "timestep must be an integer ≥ 0, got" in str(caught.value)
