import itertools

import keras
import numpy as np
import pytest
from keras import ops

from kfeedback.layers import CliqueBlock
from tests import harness
from tests.layer_checks import LAYER_CHECKS, check_layer
from tests.reference import cliquenet as reference
from tests.reference import operations

X = np.random.default_rng(7).normal(size=(8, 5, 6, 3)).astype("float32")
OPTIONS = {
    "stage I": {"stages": 1},
    "stage II": {},
    "three stages": {"stages": 3},
    "partial": {"updates": 1},
    "partial, three stages": {"stages": 3, "updates": 2},
    "bottleneck": {"bottleneck": True},
    "bottleneck, partial": {"bottleneck": True, "updates": 1},
    "1×1": {"kernel_size": 1},
}


def make(layers=3, filters=2, **kwargs):
    harness.fresh_names()
    block = CliqueBlock(filters, layers, name="block", **kwargs)
    block.build(X.shape)
    return harness.randomize(block)


def arrays(block):
    return {w.name: np.asarray(w.numpy(), "float64") for w in block.weights}


@keras.saving.register_keras_serializable(package="tests")
class LastStage(CliqueBlock):
    """The harness wants one output; the first stages take part in it."""

    def call(self, x, training=None):
        return super().call(x, training)[-1]

    def compute_output_shape(self, input_shape):
        return super().compute_output_shape(input_shape)[-1]


@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("check", LAYER_CHECKS)
def test_harness(check, option):
    check_layer(
        lambda **kwargs: LastStage(4, 2, name="block", **OPTIONS[option], **kwargs),
        [X],
        checks=[check],
    )


@pytest.mark.parametrize("batch", [False, True], ids=["moving", "batch"])
@pytest.mark.parametrize("layers", [2, 3, 4])
@pytest.mark.parametrize(
    "stages, updates",
    [(1, None), (2, None), (3, None), (2, 0), (2, 1), (2, 2), (3, 0), (3, 1)],
)
@pytest.mark.parametrize("bottleneck", [False, True], ids=["plain", "bottleneck"])
def test_equals_the_reference(layers, stages, updates, bottleneck, batch):
    options = {"stages": stages, "updates": updates, "bottleneck": bottleneck}
    block = make(layers, **options)
    expected = reference.clique_block(X, arrays(block), layers, batch=batch, **options)
    results = block(X, training=batch)
    assert len(results) == len(expected) == stages
    for result, wanted in zip(results, expected, strict=True):
        np.testing.assert_allclose(
            harness.to_numpy(result), wanted, rtol=1e-5, atol=1e-5
        )


def test_the_reference_tells_orders_of_update_apart():
    """Else the test above could not see a wrong one."""
    weights = arrays(make(3))
    right = reference.clique_block(X, weights, 3, 2)[-1]
    simultaneous = reference.clique_block(X, weights, 3, 2, updates=1)[-1]
    assert np.abs(right[..., :2] - simultaneous[..., :2]).max() == 0
    assert np.abs(right[..., 2:4] - simultaneous[..., 2:4]).max() > 1e-2
    swapped = {**weights, "kernel_1": weights["kernel_1"][:, :, ::-1]}
    wrong = reference.clique_block(X, swapped, 3, 2)[-1]
    assert np.abs(right - wrong).max() > 1e-2


@pytest.mark.parametrize("layers", [2, 3])
def test_no_update_is_stage_one_and_all_are_stage_two(layers):
    stage_one = make(layers, stages=1)
    whole = make(layers)
    none, every = make(layers, updates=0), make(layers, updates=layers)
    one = harness.to_numpy(stage_one(X)[-1])
    harness.assert_bit_equal(harness.to_numpy(none(X)[-1]), one, "X = 0")
    two = harness.to_numpy(whole(X)[-1])
    harness.assert_bit_equal(harness.to_numpy(every(X)[-1]), two, "X = n")
    assert np.abs(one - two).max() > 1e-2
    names = [w.name for w in none.weights]
    assert names == [w.name for w in stage_one.weights]


def test_kernels_are_addressed_by_source_and_target():
    block = make(3)
    for source, target in itertools.permutations(range(4), 2):
        if target == 0:
            continue
        found = ops.convert_to_numpy(block.kernel(source, target))
        rows = ops.convert_to_numpy(block.kernels[target - 1])
        others = [0, *(s for s in (1, 2, 3) if s != target)]
        first = 0 if source == 0 else 3 + (others.index(source) - 1) * 2
        np.testing.assert_array_equal(found, rows[:, :, first : first + found.shape[2]])
        assert found.shape == (3, 3, 2 if source else 3, 2)


@pytest.mark.parametrize(
    "source, target", [(1, 1), (1, 0), (4, 1), (1, 4), (-1, 2), (2, 1)]
)
def test_refuses_kernels_that_it_has_not(source, target):
    with pytest.raises(ValueError) as caught:
        make(3, stages=1).kernel(source, target)
    harness.assert_one_sentence(caught.value, "source")


@pytest.mark.parametrize(
    "initializer",
    ["he_normal", "glorot_uniform", keras.initializers.HeNormal(seed=3)],
)
def test_kernels_start_as_kernels_of_their_own(initializer):
    """The variance of each `W_ij` is its own, however many are summed up."""
    block = CliqueBlock(40, 3, name="block", kernel_initializer=initializer)
    block.build((None, 8, 8, 64))
    drawn = [ops.convert_to_numpy(block.kernel(s, 2)) for s in (0, 1, 3)]
    for kernel in drawn:
        fan_in, fan_out = np.prod(kernel.shape[:3]), 9 * 40
        wanted = 2 / fan_in
        if initializer == "glorot_uniform":
            wanted = 2 / (fan_in + fan_out)
        np.testing.assert_allclose(kernel.var(), wanted, rtol=0.05)
    drawn = [*drawn[1:], *(ops.convert_to_numpy(block.kernel(s, 3)) for s in (1, 2))]
    for one, other in itertools.combinations(drawn, 2):
        assert np.abs(one - other).max() > 0.05


def test_training_moves_the_statistics_as_batch_norms_do():
    block = make(2, stages=2)
    before = arrays(block)
    stages = [harness.to_numpy(s) for s in block(X, training=True)]
    after = arrays(block)
    for name, values in (
        ("input", X),
        ("stage1_layer1", stages[0][..., :2]),
        ("stage1_layer2", stages[0][..., 2:]),
        ("stage2_layer1", stages[1][..., :2]),
    ):
        for part, now in (("mean", np.mean), ("variance", np.var)):
            name_of_part = f"{name}_moving_{part}"
            expected = 0.99 * before[name_of_part] + 0.01 * now(values, axis=(0, 1, 2))
            np.testing.assert_allclose(
                after[name_of_part], expected, rtol=1e-4, atol=1e-5
            )
    assert "stage2_layer2_moving_mean" not in after  # read by nobody in the block


def test_training_moves_the_statistics_inside_a_bottleneck():
    block = make(2, bottleneck=True)
    before = arrays(block)
    block(X, training=True)
    after = arrays(block)
    moved = [n for n in after if "moving" in n and np.any(after[n] != before[n])]
    assert sorted(moved) == sorted(n for n in after if "moving" in n)
    assert sum("second_moving_mean" in n for n in moved) == 4
    # The map inside is the convolution of what the first batch norm lets through.
    active = operations.relu(
        (X - X.mean((0, 1, 2)))
        / np.sqrt(X.var((0, 1, 2)) + 1e-3)
        * before["stage1_layer1_gamma"]
        + before["stage1_layer1_beta"]
    )
    inner = operations.conv2d(active, before["kernel_1"][:, :, :3])
    expected = 0.99 * before["stage1_layer1_second_moving_mean"] + 0.01 * inner.mean(
        (0, 1, 2)
    )
    np.testing.assert_allclose(
        after["stage1_layer1_second_moving_mean"], expected, rtol=1e-4, atol=1e-5
    )


def test_equals_keras_batch_norm_after_many_batches():
    """The statistics converge to what inference needs."""
    block = make(2, momentum=0.5)
    for _ in range(30):
        expected = block(X, training=True)
    for one, two in zip(block(X, training=False), expected, strict=True):
        np.testing.assert_allclose(
            harness.to_numpy(one), harness.to_numpy(two), rtol=1e-3, atol=1e-3
        )


def test_frozen_keeps_its_statistics():
    block = make(2)
    expected = harness.to_numpy(block(X)[-1])
    block.trainable = False
    before = arrays(block)
    frozen = harness.to_numpy(block(X, training=True)[-1])
    harness.assert_bit_equal(frozen, expected, "a frozen block")
    assert all(np.array_equal(before[n], a) for n, a in arrays(block).items())


@pytest.mark.parametrize("bottleneck", [False, True])
def test_dropout_drops_in_training_only(bottleneck):
    block = make(2, dropout=0.5, bottleneck=bottleneck)
    expected = harness.to_numpy(make(2, bottleneck=bottleneck)(X)[-1])
    harness.assert_bit_equal(harness.to_numpy(block(X)[-1]), expected, "inference")
    one, two = (harness.to_numpy(block(X, training=True)[0]) for _ in range(2))
    assert 0.3 < np.mean(one == 0) < 0.7
    assert not np.array_equal(one, two)


@pytest.mark.parametrize(
    "arguments, argument",
    [
        ({"filters": 0}, "filters"),
        ({"layers": 1}, "layers"),
        ({"layers": 2.0}, "layers"),
        ({"stages": 0}, "stages"),
        ({"updates": 4}, "updates"),
        ({"updates": -1}, "updates"),
        ({"kernel_size": 2}, "kernel_size"),
        ({"dropout": 1}, "dropout"),
        ({"epsilon": 0}, "epsilon"),
        ({"momentum": "high"}, "momentum"),
    ],
)
def test_refuses(arguments, argument):
    with pytest.raises(ValueError) as caught:
        CliqueBlock(**{"filters": 2, "layers": 3, **arguments})
    harness.assert_one_sentence(caught.value, argument)


def test_refuses_a_bottleneck_that_is_no_bool():
    with pytest.raises(TypeError, match="bottleneck must be True or False"):
        CliqueBlock(2, 3, bottleneck=1)


def test_one_layer_of_one_stage():
    block = CliqueBlock(2, 1, stages=1)
    assert block(X)[0].shape == (8, 5, 6, 2)
    assert keras.saving.serialize_keras_object(block)["config"]["layers"] == 1
    assert block.num_layers == 1


def test_a_config_of_an_earlier_version_counts_loops():
    config = CliqueBlock(2, 3, stages=3).get_config()
    config["loops"] = config.pop("stages") - 1
    assert CliqueBlock.from_config(config).stages == 3
