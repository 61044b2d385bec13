"""Classifiers as their owners have them: which layers get gates, and where they act."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from kfeedback.backend import input_gradient
from kfeedback.explain import Explainer, Feedback, get_method
from kfeedback.explain.methods.feedback import gated_map, multiply
from kfeedback.explain.network import Network, target_scores
from tests.explain import common

SHAPE = (10, 10, 3)
CALLS = [
    "fused",
    "six",
    "relu",
    "shared",
    "shared",
    "leaky",
    "learned",
    "of_a_layer",
    "inner_relu",
    "behind_squeeze",
    "clipped",
]


def classifier(gate=lambda name, call, x: x, end="softmax"):
    """Every place where a ReLU may stand; `gate` is called on what gets a gate."""
    shared = layers.Activation("relu", name="shared")
    x = inputs = keras.Input(SHAPE)
    x = layers.Rescaling(1 / 127.5, offset=-1)(x)
    x = gate("fused", 0, layers.Conv2D(4, 3, activation="relu", name="fused")(x))
    x = layers.BatchNormalization()(layers.Conv2D(4, 1, use_bias=False)(x))
    x = gate("six", 0, layers.ReLU(6.0, name="six")(4.0 * x))
    y = layers.DepthwiseConv2D(3, padding="same")(x)
    x = gate("relu", 0, ops.relu(x + y))
    x = gate("shared", 0, shared(layers.Conv2D(4, 1)(x)))
    x = gate("shared", 1, shared(layers.Conv2D(4, 1)(x)))
    convolution = layers.SeparableConv2D(
        4, 3, padding="same", activation="leaky_relu", name="leaky"
    )
    x = gate("leaky", 0, convolution(x))
    x = gate("learned", 0, layers.PReLU("ones", shared_axes=[1, 2], name="learned")(-x))
    convolution = layers.Conv2D(4, 1, activation=layers.ReLU(), name="of_a_layer")
    x = gate("of_a_layer", 0, convolution(x))
    inner_inputs = keras.Input(x.shape[1:])
    y = layers.Conv2D(4, 1)(inner_inputs)
    y = gate("inner_relu", 0, layers.ReLU(name="inner_relu")(y))
    x = keras.Model(inner_inputs, y, name="inner")(x)
    y = layers.Dense(2, activation="relu", name="squeeze")(
        layers.GlobalAveragePooling2D()(x)
    )
    y = layers.Reshape((1, 1, 4))(layers.Dense(4, activation="sigmoid")(y))
    x = layers.Conv2D(4, 3)(layers.Multiply()([x, y]))
    x = gate("behind_squeeze", 0, layers.ReLU(name="behind_squeeze")(x))
    clipped = layers.ReLU(1.0, negative_slope=0.3, threshold=0.1, name="clipped")
    x = gate("clipped", 0, clipped(layers.Conv2D(4, 1)(x)))
    x = layers.Dense(5, activation="relu", name="hidden")(layers.Flatten()(x))
    return keras.Model(inputs, layers.Dense(3, activation=end)(layers.Dropout(0.5)(x)))


def of_random_weights(model, seed=0):
    """With statistics of batch norms and slopes of PReLUs that are random, too."""
    rng = np.random.default_rng(seed)
    model.set_weights(
        [w + 0.2 * rng.uniform(size=w.shape) for w in model.get_weights()]
    )
    return model


def test_gates_stand_where_they_would_be_written_into_the_model():
    """Posterior and map against the same network built with the gates inside."""
    model = of_random_weights(classifier())
    network = Network(model)
    calls = [(site.operation.name, site.call) for site in network.sites]
    assert sorted(name for name, _ in calls) == sorted(CALLS)
    rng = np.random.default_rng(1)
    shapes = [site.output.shape[1:] for site in network.sites]
    gates = {
        call: (rng.uniform(size=(1, *shape)) > 0.3).astype("float32")
        for call, shape in zip(calls, shapes, strict=True)
    }
    written = classifier(lambda name, call, x: x * gates[name, call], end=None)
    written.set_weights(model.get_weights())
    images, targets = common.images(2, SHAPE), np.array([0, 2], "int32")
    own = [np.repeat(gates[call], 2, axis=0) for call in calls]
    wanted, gradient = input_gradient(written, target_scores)(images, targets)
    scores = network.scores(images, lambda n, x: multiply(x, own[n]))
    _, features = network.first_pass(images)
    cut = network.gated_scores(own, images, features, multiply)
    found = gated_map(network, images, targets, own)
    for one in (scores, cut):
        np.testing.assert_allclose(
            ops.convert_to_numpy(target_scores(one, targets)),
            ops.convert_to_numpy(wanted),
            atol=1e-5,
        )
    gradient = abs(ops.convert_to_numpy(gradient)).max(axis=-1)
    assert gradient.max() > 1e-6
    np.testing.assert_allclose(ops.convert_to_numpy(found), gradient, 1e-4, 1e-8)


def augmenting():
    return keras.Sequential(
        [
            keras.Input(SHAPE),
            layers.RandomFlip("horizontal", seed=1),
            layers.RandomRotation(0.3, seed=1),
            layers.Rescaling(1 / 255),
            keras.Sequential(
                [
                    layers.Conv2D(4, 3, activation="relu", name="conv"),
                    layers.BatchNormalization(),
                    layers.Dropout(0.5, seed=1),
                ]
            ),
            layers.Flatten(),
            layers.Dense(3, activation="softmax"),
        ]
    )


def of_low_precision():
    keras.config.set_dtype_policy("mixed_bfloat16")
    x = inputs = keras.Input(SHAPE)
    x = layers.Conv2D(4, 3, activation="relu", name="conv")(layers.Rescaling(0.01)(x))
    x = layers.Dense(3)(layers.GlobalAveragePooling2D()(x))
    return keras.Model(inputs, layers.Activation("softmax", dtype="float32")(x))


def of_a_model_called_twice():
    convolution = layers.Conv2D(3, 3, padding="same", activation="relu", name="conv")
    inner = keras.Sequential([keras.Input(SHAPE), convolution])
    inputs = keras.Input(SHAPE, name="image")
    x = layers.GlobalAveragePooling2D()(inner(inner(inputs)))
    return keras.Model({"image": inputs}, ops.softmax(layers.Dense(3)(x)))


def gray():
    x = inputs = keras.Input((10, 10, 1))
    x = layers.Conv2D(3, 3, activation="relu", name="conv")(x)
    return keras.Model(inputs, layers.GlobalAveragePooling2D()(layers.Conv2D(3, 1)(x)))


@pytest.mark.parametrize("method", [Feedback(2), get_method("deconvnet")])
@pytest.mark.parametrize(
    "make", [augmenting, of_low_precision, of_a_model_called_twice, gray]
)
def test_it_runs_as_a_prediction_does(make, method):
    model = make()
    images = common.images(2, (10, 10, 1 if make is gray else 3))
    explainer = Explainer(model, method, batch_size=2)
    gated = [site.operation.name for site in Network(model).sites]
    assert gated == ["conv"] * (2 if make is of_a_model_called_twice else 1)
    maps = explainer.saliency(images, [0, 2])
    assert maps.shape == (2, 10, 10) and np.isfinite(maps).all() and maps.any()
    np.testing.assert_array_equal(maps, explainer.saliency(images, [0, 2]))
    expected = model.predict(images, verbose=0)
    if make is gray:
        expected = ops.convert_to_numpy(ops.softmax(expected))
    np.testing.assert_allclose(explainer.predict(images), expected, atol=1e-5)


def test_deconvnet_of_a_learned_slope():
    """What goes down a PReLU is what comes from above, where that is positive."""
    x = inputs = keras.Input((4, 4, 2))
    x = layers.PReLU(keras.initializers.Constant(0.5), name="learned")(x)
    model = keras.Model(inputs, layers.Dense(2)(layers.Flatten()(x)))
    kernel = model.get_weights()[1]
    found = Explainer(model, "deconvnet").saliency(common.images(1, (4, 4, 2)), [1])
    expected = np.maximum(kernel[:, 1], 0).reshape(4, 4, 2).max(axis=-1)
    np.testing.assert_allclose(found[0], expected, atol=1e-6)


def ends_in(x, classes=3):
    return layers.Dense(classes)(layers.GlobalAveragePooling2D()(x))


def with_activation(make):
    x = inputs = keras.Input(SHAPE)
    return keras.Model(inputs, ends_in(make(layers.Conv2D(4, 3)(x))))


def of_channels_first():
    x = inputs = keras.Input(SHAPE)
    x = layers.Permute((3, 1, 2))(x)
    x = layers.Conv2D(4, 3, data_format="channels_first", name="first")(x)
    return keras.Model(inputs, ends_in(layers.ReLU()(x)))


def of_rows():
    x = inputs = keras.Input((10, 10))
    x = layers.Conv2D(4, 3, activation="relu")(layers.Reshape((10, 10, 1))(x))
    return keras.Model(inputs, ends_in(x))


def of_several(inputs, outputs):
    images = [keras.Input(SHAPE) for _ in range(inputs)]
    x = layers.Conv2D(4, 3, activation="relu")(sum(images[1:], images[0]))
    return keras.Model(images, [ends_in(x) for _ in range(outputs)])


class Own(keras.Model):
    def call(self, x):
        return x


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: with_activation(layers.ELU(name="mine")), "activations in mine;"),
        (lambda: with_activation(ops.gelu), "activations in gelu;"),
        (lambda: with_activation(layers.Activation("swish", name="s")), "in s;"),
        (
            lambda: with_activation(layers.Lambda(lambda x: ops.gelu(x), name="my")),
            "activations in my;",
        ),
        (
            lambda: with_activation(
                layers.Conv2D(4, 1, activation=lambda x: ops.gelu(x), name="c")
            ),
            "activations in c;",
        ),
        (of_channels_first, "have its channels last, got .* whose 'first' has"),
        (of_rows, r"must take images \(B, H, W, C\), got .* \(None, 10, 10\)"),
        (lambda: of_several(1, 2), "model must have one output, got 2"),
        (lambda: of_several(2, 1), "model must have one input, got 2"),
        (Own, "without a graph of layers"),
    ],
)
def test_refusals_say_what_is_wrong(make, match):
    with pytest.raises(ValueError, match=match):
        Explainer(make())


def test_refused_activations_can_be_gated_by_name():
    model = with_activation(layers.ELU(name="mine"))
    explainer = Explainer(model, Feedback(2, gate_layers="mine"))
    assert explainer.saliency(common.images(1, SHAPE), [1]).any()


def test_a_model_of_any_size_is_told_one_for_a_second_look():
    x = inputs = keras.Input((None, None, 3))
    x = layers.Conv2D(4, 3, activation="relu")(x)
    explainer = Explainer(keras.Model(inputs, ends_in(x)), Feedback(2))
    assert explainer.saliency(common.images(1, (12, 9, 3))).shape == (1, 12, 9)
    images = common.images(1, (12, 9, 3))
    for bad in (None, (12,), (12, 0)):
        with pytest.raises(ValueError, match=r"size must be .* it, \(None, None\)"):
            explainer.look_twice(images, size=bad)
    found = explainer.look_twice(images, size=(12, 9), top=2)
    expected = explainer.predict(images)[0]
    assert found["first_classes"][0, 0] == expected.argmax()
    box = found["boxes"][0, 0]
    assert (box[2:] <= (12, 9)).all()
    with pytest.raises(ValueError, match=r"takes it, \(10, 10\), got \(12, 9\)"):
        Explainer(augmenting()).look_twice(images, size=(12, 9))
