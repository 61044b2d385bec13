import keras
import numpy as np
import pytest

import kfeedback
from applications.common.multiply_adds import count_multiply_adds
from kfeedback import CliqueNet, weights
from kfeedback.layers import CliqueBlock
from tests import harness
from tests.harness import tensorflow_only
from tests.model_checks import FEEDFORWARD_CHECKS, check_model
from tests.reference import cliquenet as reference

TINY = {"filters": 4, "layers": 6, "classes": 4, "input_shape": (12, 12, 2)}
OPTIONS = {
    "II+II": {},
    "I+I": {"block_feature": "I", "transition_feature": "I"},
    "I+II": {"block_feature": "I"},
    "II+I": {"transition_feature": "I"},
    "attention": {"attentional_transition": True},
    "bottleneck": {"bottleneck": True, "layers": 12},
    "compression": {"compression": True},
    "all": {
        "attentional_transition": True,
        "bottleneck": True,
        "compression": True,
        "layers": 12,
    },
    "three stages": {"stages": 3},
    "partial": {"updates": 1},
    "lists": {"filters": [4, 6], "layers": [2, 3]},
    "logits": {"classifier_activation": None},
}
IMAGES = harness.random_images((12, 12, 2))


def tiny(option="II+II", **kwargs):
    arguments = {**TINY, **OPTIONS[option], **kwargs}
    return CliqueNet(**arguments)


def parameters(model):
    return sum(np.prod(w.shape) for w in model.trainable_weights)


# --- The harness ---------------------------------------------------------------------


# Two options go through all checks, the others through what differs most; the rest is
# slow: `pytest -m slow tests/models/test_cliquenet.py`, also with KERAS_BACKEND=jax.
def marks(option, check):
    quick = option in ("II+II", "all") or (
        keras.backend.backend() == "tensorflow"
        and check in ("forward", "gradients of all timesteps")
    )
    return () if quick else pytest.mark.slow


@pytest.mark.parametrize(
    "option, check",
    [
        pytest.param(option, check, marks=marks(option, check))
        for option in OPTIONS
        for check in FEEDFORWARD_CHECKS
    ],
)
def test_harness(option, check):
    loss = "sparse_categorical_crossentropy"
    if option == "logits":
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    check_model(
        lambda **kwargs: tiny(option, **kwargs),
        IMAGES,
        loss=loss,
        timesteps=False,
        checks=[check],
    )


# --- The reference -------------------------------------------------------------------


@pytest.mark.parametrize("option", ["II+II", "attention", "compression", "all"])
def test_equals_the_reference(option):
    """At odd sizes, where attention before and after the pooling differ."""
    images = harness.random_images((13, 15, 2), count=3)
    model = harness.randomize(tiny(option, input_shape=(13, 15, 2)))
    weights = {w.path: np.asarray(w.numpy(), "float64") for w in model.weights}
    expected = reference.cliquenet(
        images,
        weights,
        blocks=3,
        layers=2,
        attention=option in ("attention", "all"),
        bottleneck=option == "all",
    )
    result = harness.to_numpy(model(images, training=False))
    np.testing.assert_allclose(result, expected, atol=1e-5)
    assert np.ptp(result, axis=0).max() > 1e-3


def test_dropout_lies_behind_every_convolution_but_the_stem():
    model = tiny("all", dropout=0.3)
    for name in ("transition1", "transition2", "compression1", "compression3"):
        dropout = model.get_layer(f"{name}_dropout")
        assert dropout.rate == 0.3
        source = dropout.input._keras_history.operation
        assert source is model.get_layer(f"{name}_conv")
    assert [model.get_layer(f"block{b}").dropout for b in (1, 2, 3)] == [0.3] * 3


@tensorflow_only
def test_exports_and_prints(tmp_path, capsys):
    import tensorflow as tf

    model = harness.randomize(tiny("all"))
    model.export(tmp_path / "saved", verbose=False)
    saved = tf.saved_model.load(tmp_path / "saved")
    expected = harness.to_numpy(model(IMAGES))
    np.testing.assert_allclose(saved.serve(IMAGES).numpy(), expected, atol=1e-6)
    model.summary(expand_nested=True)
    assert "block3_stage2" in capsys.readouterr().out


@pytest.mark.parametrize("argument", ["block_feature", "transition_feature"])
def test_with_one_stage_both_are_the_first(argument):
    one = tiny("I+I")
    other = tiny(stages=1, **{argument: "I"})
    assert [w.path for w in other.weights] == [w.path for w in one.weights]


# --- What the paper counts -----------------------------------------------------------

# k, T, options: parameters (exact where papers.md has it so), multiply-adds in 10^9.
CIFAR = [
    (36, 12, "", 935_994, 0.46),
    (64, 15, "", 4.486e6, 2.10),
    (80, 15, "", 6.938e6, 3.23),
    (80, 18, "", 10.136e6, 4.73),
    (36, 12, "A", 0.978e6, 0.46),
    (36, 12, "C", 1.037e6, 0.49),
    (36, 12, "AC", 1.079e6, 0.49),
    (80, 15, "AC", 7_998_138, 3.44),
    (150, 30, "ABC", 10_480_938, 5.28),
]
IMAGENET = [
    ("S0", False, 5_703_728, 2.23),
    ("S0", True, 6.25e6, 2.23),
    ("S1", False, 7.96e6, 2.91),
    pytest.param("S1", True, 8.74e6, 2.91, marks=pytest.mark.slow),
    pytest.param("S2", False, 10.00e6, 3.03, marks=pytest.mark.slow),
    pytest.param("S2", True, 11.01e6, 3.03, marks=pytest.mark.slow),
    pytest.param("S3", False, 13.17e6, 4.07, marks=pytest.mark.slow),
    ("S3", True, 14.38e6, 4.07),
]


def check_counts(model, count, multiply_adds):
    found = parameters(model)
    if isinstance(count, int):
        assert found == count
    else:
        digits = 3 if count < 1.2e7 and count % 1e4 else 2
        assert round(found / 1e6, digits) == round(count / 1e6, digits)
    # The table's figures have two decimals: half a unit of the last, or 1 %.
    tolerance = max(0.005, 0.01 * multiply_adds)
    assert abs(count_multiply_adds(model) / 1e9 - multiply_adds) <= tolerance


@tensorflow_only
@pytest.mark.parametrize("filters, layers, options, count, multiply_adds", CIFAR)
def test_cifar_counts(filters, layers, options, count, multiply_adds):
    model = CliqueNet(
        filters=filters,
        layers=layers,
        attentional_transition="A" in options,
        bottleneck="B" in options,
        compression="C" in options,
    )
    check_counts(model, count, multiply_adds)


@tensorflow_only
@pytest.mark.parametrize("variant, attention, count, multiply_adds", IMAGENET)
def test_imagenet_counts(variant, attention, count, multiply_adds):
    factory = getattr(kfeedback, f"CliqueNet{variant}")
    check_counts(factory(attentional_transition=attention), count, multiply_adds)


# --- The graph -----------------------------------------------------------------------


def test_stages_are_reached_by_name():
    model = harness.randomize(tiny())
    for block, (size, channels) in enumerate([(12, 8), (6, 8), (3, 8)], start=1):
        stage = model.get_layer(f"block{block}_stage2").output
        both = model.get_layer(f"block{block}").output
        probe = keras.Model(model.input, [stage, *both])
        two, first, second = (harness.to_numpy(x) for x in probe(IMAGES))
        assert two.shape == (8, size, size, channels)
        harness.assert_bit_equal(two, second, "stage 2")
        assert np.abs(first - second).max() > 1e-2
    vector = keras.Model(model.input, model.get_layer("features").output)(IMAGES)
    assert vector.shape == (8, 2 + 64 - 2 + 8 + 8 + 8 + 8 + 8)


@pytest.mark.parametrize(
    "option, feature, transition",
    [("II+II", 2, 2), ("I+II", 1, 2), ("II+I", 2, 1), ("I+I", 1, 1)],
)
def test_features_and_transitions_take_their_stage(option, feature, transition):
    model = harness.randomize(tiny(option))
    block = keras.tree.flatten(model.get_layer("block1").output)
    x = model.get_layer("block1").input
    outputs = [
        x,
        block[feature - 1],
        block[transition - 1],
        model.get_layer("block1_feature").output,
        model.get_layer("transition1_bn").input,
    ]
    x, wanted, passed_on, found, transited = (
        harness.to_numpy(y) for y in keras.Model(model.input, outputs)(IMAGES)
    )
    harness.assert_bit_equal(found, np.concatenate([x, wanted], -1), "block feature")
    harness.assert_bit_equal(transited, passed_on, "transition")


def test_no_update_is_stage_one():
    """X = 0 predicts what (I+I) does, whose weights it has."""
    one, none = tiny("I+I"), tiny(updates=0)
    assert parameters(one) == parameters(none)
    harness.randomize(one)
    none.set_weights(one.get_weights())
    harness.assert_bit_equal(
        harness.to_numpy(none(IMAGES)), harness.to_numpy(one(IMAGES)), "X = 0"
    )


@pytest.mark.parametrize("side", [8, 9, 11, 13, 15])
def test_any_size(side):
    model = CliqueNet(filters=2, layers=6, input_shape=(side, side + 3, 1))
    images = harness.random_images((side, side + 3, 1), count=2)
    assert np.isfinite(harness.to_numpy(model(images))).all()
    last = model.get_layer("block3_stage2").output.shape
    assert last[1:3] == (side // 4, (side + 3) // 4)


@tensorflow_only
def test_an_unknown_size_and_imagenet_at_its_smallest():
    model = CliqueNet(filters=2, layers=6, input_shape=(None, None, 3))
    for side in (8, 13):
        assert model(harness.random_images((side, side, 3), count=1)).shape == (1, 10)
    small = kfeedback.CliqueNetS0(input_shape=(32, 32, 3), classes=5)
    assert small(harness.random_images((32, 32, 3), count=1)).shape == (1, 5)


def test_weights_by_path_survive_the_file(tmp_path):
    model = harness.randomize(tiny("all"))
    weights.save(model, tmp_path / "weights.h5")
    again = tiny("all", weights=tmp_path / "weights.h5")
    harness.assert_bit_equal(
        harness.to_numpy(again(IMAGES)), harness.to_numpy(model(IMAGES)), "loaded"
    )


def test_training_learns():
    keras.utils.set_random_seed(0)
    model = tiny(dropout=0.0)
    model.compile(keras.optimizers.SGD(0.1), "sparse_categorical_crossentropy")
    labels = np.arange(8) % 4
    losses = model.fit(IMAGES, labels, epochs=40, verbose=0).history["loss"]
    assert losses[-1] < 0.5 * losses[0]


# --- Bad input -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments, argument",
    [
        ({"layers": 13}, "layers"),
        ({"layers": 15, "bottleneck": True}, "layers"),
        ({"layers": 0}, "layers"),
        ({"layers": "12"}, "layers"),
        ({"layers": 3}, "layers"),
        ({"filters": 0}, "filters"),
        ({"filters": [4, 4], "layers": [2]}, "filters and layers"),
        ({"filters": [], "layers": []}, "filters and layers"),
        ({"filters": [4, 0], "layers": [2, 2]}, "filters"),
        ({"filters": [3], "layers": [3], "compression": True}, "compression"),
        (
            {"filters": 3, "layers": 9, "attentional_transition": True},
            "attentional_transition",
        ),
        ({"block_feature": "III"}, "block_feature"),
        ({"transition_feature": 2}, "transition_feature"),
        ({"updates": 5}, "updates"),
        ({"updates": -1}, "updates"),
        ({"stages": 0}, "stages"),
        ({"dropout": 1.0}, "dropout"),
        ({"input_shape": (7, 32, 3)}, "input_shape"),
        ({"filters": [2] * 5, "layers": [2] * 5, "input_shape": (8, 8, 3)}, "input"),
        ({"block_feature": ["I", "II"]}, "block_feature"),
        ({"classes": 0}, "classes"),
        ({"pooling": "avg"}, "pooling"),
    ],
)
def test_refuses(arguments, argument):
    with pytest.raises(ValueError) as caught:
        CliqueNet(**arguments)
    harness.assert_one_sentence(caught.value, argument)


@pytest.mark.parametrize(
    "name", ["attentional_transition", "bottleneck", "compression", "include_top"]
)
def test_refuses_what_is_no_bool(name):
    with pytest.raises(TypeError, match=f"{name} must be True or False"):
        CliqueNet(**{name: "no"})


def test_refuses_small_images_for_imagenet():
    with pytest.raises(ValueError, match="input_shape"):
        kfeedback.CliqueNetS1(input_shape=(31, 64, 3))


def test_is_listed():
    assert {"CliqueNet", "CliqueNetS3"} <= set(kfeedback.list_models())
    assert isinstance(tiny().get_layer("block1"), CliqueBlock)
