"""Networks as people write them: ReLUs, poolings, ends and names of all kinds."""

import warnings

import keras
import numpy as np
import pytest
from keras import ops

import kfeedback
from kfeedback import explain
from kfeedback.explain.network import Network
from tests.explain import common

layers = keras.layers


class OwnReLU(layers.Layer):
    def call(self, x):
        return ops.where(x > 0, x, ops.zeros_like(x))


class OwnSoftmax(layers.Layer):
    def call(self, x):
        e = ops.exp(x - ops.max(x, axis=-1, keepdims=True))
        return e / ops.sum(e, axis=-1, keepdims=True)


def softmax(x):
    e = ops.exp(x - ops.max(x, axis=-1, keepdims=True))
    return e / ops.sum(e, axis=-1, keepdims=True)


def network(activate=None, end=None, pool=None, classes=3, shape=(8, 8, 2), prefix=""):
    """A convolution, an activation, a pooling and an end; the same weights always."""
    x = inputs = keras.Input(shape, name="image")
    x = layers.Conv2D(4, 3, padding="same", name=f"{prefix}conv1")(x)
    x = (activate or layers.ReLU(name="relu1"))(x)
    x = layers.Conv2D(5, 3, padding="same", activation="relu", name="conv2")(x)
    x = (pool or layers.GlobalAveragePooling2D())(x)
    if len(x.shape) == 4:
        x = layers.Flatten()(x)
    x = layers.Dense(classes, name="scores")(x) if end is None else end(x)
    model = keras.Model(inputs, x, name=f"{prefix}net")
    rng = np.random.default_rng(5)
    model.set_weights([rng.normal(0, 0.4, w.shape) for w in model.get_weights()])
    return model


def maps_of(model, method, targets=(0, 1, 2), images=None):
    images = common.images(3, (8, 8, 2)) if images is None else images
    explainer = explain.Explainer(model, method, preprocess="scale")
    return explainer.saliency(images, np.array(targets))


RELUS = {
    "ops": ops.relu,
    "maximum": lambda x: ops.maximum(x, 0.0),
    "maximum, number first": lambda x: ops.maximum(0.0, x),
    "clip": lambda x: ops.clip(x, 0.0, 1e9),
    "threshold": lambda x: ops.threshold(x, 0.0, 0.0),
    "Lambda": lambda x: layers.Lambda(lambda x: ops.maximum(x, 0), name="act")(x),
    "Lambda of relu": lambda x: layers.Lambda(ops.relu, name="act")(x),
    "own layer": lambda x: OwnReLU(name="act")(x),
    "own function": lambda x: layers.Activation(lambda x: ops.maximum(x, 0))(x),
}


@pytest.mark.parametrize("method", ["deconvnet", "guided_backpropagation", "feedback"])
@pytest.mark.parametrize("written", RELUS)
def test_a_relu_is_one_however_it_is_written(written, method):
    plain = maps_of(network(), method)
    largest = plain.max()
    assert largest > 0
    np.testing.assert_allclose(
        maps_of(network(RELUS[written]), method), plain, atol=1e-4 * largest
    )
    gradient = maps_of(network(), "gradient")
    assert abs(plain / largest - gradient / gradient.max()).max() > 0.1


@pytest.mark.parametrize(
    ("function", "is_one"),
    [
        (lambda x: ops.minimum(ops.relu(x), 6.0), True),
        (lambda x: ops.maximum(x, 0.2 * x), True),
        (lambda x: ops.relu(x - 0.5), False),
        (lambda x: x, False),
        (ops.abs, False),
        (lambda x: ops.maximum(x, -0.5), False),
    ],
)
def test_only_relus_are_measured_as_relus(function, is_one):
    model = network(lambda x: layers.Lambda(function, name="act")(x))
    names = [site.operation.name for site in Network(model, gated=False).relus]
    assert names == ["act"] * is_one + ["conv2"]


class TwoInputs(layers.Layer):
    def call(self, x, y):
        return ops.maximum(x, y)


SEVERAL = {
    "where": (lambda x: ops.where(x > 0, x, 0.0), "where"),
    "mask": (lambda x: x * ops.cast(x > 0, "float32"), "multiply"),
    "mean": (lambda x: (x + ops.abs(x)) / 2, "true_divide"),
    "minimum": (lambda x: -ops.minimum(-x, 0.0), "negative"),
    "layers": (
        lambda x: layers.Maximum(name="most")([x, layers.Rescaling(0.0)(x)]),
        "most",
    ),
    "own layer": (lambda x: TwoInputs(name="two")(x, ops.zeros_like(x)), "two"),
}


@pytest.mark.parametrize("method", ["deconvnet", "guided_backpropagation", "feedback"])
@pytest.mark.parametrize("written", SEVERAL)
def test_a_relu_of_several_calls_is_refused(written, method):
    write, name = SEVERAL[written]
    with pytest.raises(ValueError, match=rf"one call.*'{name}(_\d+)?' is the last\.$"):
        explain.Explainer(network(write), method)
    gradient = maps_of(network(), "gradient")
    np.testing.assert_allclose(maps_of(network(write), "gradient"), gradient, atol=1e-6)


@pytest.mark.parametrize(
    "write",
    [
        lambda x: x * ops.sigmoid(x),
        lambda x: layers.Dropout(0.5)(layers.ReLU()(x)),
        lambda x: ops.minimum(ops.relu(x), 6.0),
        lambda x: layers.Add()([x, ops.tanh(x)]),
        lambda x: ops.where(x > 0, x, x - 1.0),
    ],
)
def test_other_operations_are_no_relu_of_several_calls(write):
    assert explain.Explainer(network(write), "guided_backpropagation")


class Block(layers.Layer):
    """Weights and a ReLU, which a graph does not show."""

    def build(self, shape):
        self.scale = self.add_weight(shape=(shape[-1],), name="scale")

    def call(self, x):
        return ops.relu(x * self.scale)


@pytest.mark.parametrize("method", ["deconvnet", "guided_backpropagation", "feedback"])
def test_relus_inside_of_layers_are_not_left_out_without_a_word(method):
    model = network(lambda x: Block(name="block")(x))
    with pytest.warns(UserWarning, match="count as none: in 'net' block may have"):
        explain.Explainer(model, method)
    clique = kfeedback.CliqueNet(
        input_shape=(16, 16, 3), classes=3, filters=2, layers=6, dropout=0
    )
    with pytest.warns(UserWarning, match="count as none: in 'cliquenet'"):
        explain.Explainer(clique, method)
    recurrent = network(
        lambda x: kfeedback.layers.RecurrentConv2D(4, iterations=2, name="again")(x)
    )
    with pytest.warns(UserWarning, match="count as none: in 'net' again may have"):
        explainer = explain.Explainer(recurrent, method)
    assert explainer.saliency(common.images(3, (8, 8, 2))).max() > 0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        explain.Explainer(network(), method)
        explain.Explainer(model, "gradient")
        explain.Explainer(kfeedback.LRNet(network(), timesteps=2), method)


@pytest.mark.parametrize("method", ["deconvnet", "guided_backpropagation"])
def test_edits_of_gradients_change_no_score(method, monkeypatch):
    """Also where a layer repeats its ReLU inside."""
    model = network(
        lambda x: kfeedback.layers.RecurrentConv2D(4, iterations=2, size=1)(x)
    )
    images = common.images(3, (8, 8, 2)) / 255
    found = Network(model, gated=False)
    monkeypatch.setattr(
        found,
        "input_map",
        lambda x, _, *args, **kwargs: found.scores(x, *args, **kwargs),
    )
    scores = explain.get_method(method).maps(found, images, np.zeros(3), [])
    np.testing.assert_allclose(scores, model(images), atol=1e-5)


@pytest.mark.parametrize("method", ["deconvnet", "guided_backpropagation", "feedback"])
@pytest.mark.parametrize("activation", ["silu", "gelu", "elu", "tanh", ops.softplus])
def test_methods_that_need_relus_say_so(activation, method):
    x = inputs = keras.Input((8, 8, 2))
    x = layers.Conv2D(4, 3, activation=activation, name="conv1")(x)
    x = layers.GlobalAveragePooling2D()(x)
    # One behind the first dense layer is none on a feature map.
    x = layers.Dense(4, activation="relu")(layers.Dense(4)(x))
    model = keras.Model(inputs, layers.Dense(3)(x))
    with pytest.raises(ValueError, match=r"model must have a ReLU .* conv1"):
        maps_of(model, method)
    maps_of(model, "gradient")


POOLINGS = {
    "keepdims": lambda x: ops.mean(x, axis=(1, 2), keepdims=True),
    "Lambda": lambda x: layers.Lambda(lambda x: ops.mean(x, (1, 2), keepdims=True))(x),
    "ops": lambda x: ops.average_pool(x, 8, padding="valid"),
    "layer": lambda x: layers.AveragePooling2D(8)(x),
    "global": lambda x: layers.GlobalAveragePooling2D(keepdims=True)(x),
    "in two steps": lambda x: ops.mean(ops.mean(x, 1, keepdims=True), 2, keepdims=True),
    "1×1 convolution behind": lambda x: layers.Conv2D(5, 1, name="mixing")(
        layers.GlobalAveragePooling2D(keepdims=True)(x)
    ),
}


@pytest.mark.parametrize("written", POOLINGS)
def test_grad_cam_takes_the_last_map_of_several_pixels(written):
    model = network(pool=POOLINGS[written])
    found = Network(model, gated=False).features
    assert [tuple(x.shape) for x in found] == [(None, 8, 8, 5)]
    assert np.ptp(maps_of(model, "grad_cam")[0]) > 0
    if written != "1×1 convolution behind":  # which has weights of its own
        np.testing.assert_allclose(
            maps_of(model, "grad_cam"), maps_of(network(), "grad_cam"), atol=1e-6
        )


def test_grad_cam_of_mobilenet_is_no_single_value():
    keras.utils.set_random_seed(0)
    model = keras.applications.MobileNetV3Small((64, 64, 3), weights=None, classes=5)
    images = common.images(1, (64, 64, 3))
    explainer = explain.Explainer(model, "grad_cam")
    assert [tuple(x.shape[1:3]) for x in explainer.network.features] == [(2, 2)]
    assert any(np.ptp(explainer.saliency(images, [[k]])) > 0 for k in range(5))


@pytest.mark.parametrize("sides", [1, None])
def test_grad_cam_without_a_map_is_an_error(sides):
    x = inputs = keras.Input((sides, sides, 2))
    x = layers.Conv2D(3, 1, activation="relu")(x)
    model = keras.Model(inputs, layers.Dense(2)(layers.GlobalMaxPooling2D()(x)))
    with pytest.raises(ValueError, match="model must have a feature map of more than"):
        maps_of(model, "grad_cam", [0], np.ones((1, 1, 1, 2)))


ENDS = {
    "function": lambda x: layers.Dense(3, activation=softmax)(x),
    "Lambda": lambda x: layers.Lambda(softmax)(layers.Dense(3)(x)),
    "own layer": lambda x: OwnSoftmax()(layers.Dense(3)(x)),
    "operation": lambda x: ops.softmax(layers.Dense(3)(x)),
    "kept": lambda x: layers.Lambda(lambda x: x)(layers.Softmax()(layers.Dense(3)(x))),
}


@pytest.mark.parametrize("written", ENDS)
def test_what_an_output_is_is_measured(written):
    plain = network(end=lambda x: layers.Dense(3, activation="softmax")(x))
    model = network(end=ENDS[written])
    images = common.images(3, (8, 8, 2))
    for method in ("gradient", "feedback", "grad_cam"):
        np.testing.assert_allclose(
            maps_of(model, method), maps_of(plain, method), atol=1e-6
        )
    posterior = explain.Explainer(model, "gradient").predict(images / 255)
    expected = ops.convert_to_numpy(model(images / 255))
    np.testing.assert_allclose(posterior, expected, atol=1e-6)


def smoothed(share):
    return lambda x: (1 - share) * ops.softmax(x) + share / 3


def of_sigmoids(x):
    return ops.sigmoid(x) / ops.sum(ops.sigmoid(x), axis=-1, keepdims=True)


NO_SOFTMAX = {
    "halved, in one call": layers.Lambda(lambda x: softmax(x / 2)),
    "calibrated, in one call": layers.Lambda(lambda x: softmax(x / 1.05)),
    "smoothed, in one call": layers.Lambda(smoothed(0.1)),
    "smoothed": smoothed(0.1),
    "smoothed a little": smoothed(0.01),
    "of sigmoids, in one call": layers.Lambda(of_sigmoids),
    "of sigmoids": of_sigmoids,
}


@pytest.mark.parametrize("written", NO_SOFTMAX)
def test_a_softmax_that_is_none_of_scores_is_refused(written):
    model = network(end=lambda x: NO_SOFTMAX[written](layers.Dense(3)(x)))
    with pytest.raises(ValueError, match="model must have one posterior"):
        explain.Explainer(model, "gradient")


@pytest.mark.parametrize("dtype", ["mixed_bfloat16", "mixed_float16"])
def test_a_softmax_of_half_precision_is_one(dtype):
    keras.config.set_dtype_policy(dtype)
    try:
        model = network(end=lambda x: layers.Dense(3, activation="softmax")(x))
    finally:
        keras.config.set_dtype_policy("float32")
    images = common.images(3, (8, 8, 2))
    found = explain.Explainer(model, "gradient").predict(images / 255)
    expected = ops.convert_to_numpy(ops.cast(model(images / 255), "float32"))
    np.testing.assert_allclose(found, expected, atol=1e-2)


def test_a_name_alone_makes_no_softmax():
    def softmax(x):
        return 2 * x

    model = network(end=lambda x: layers.Dense(3, activation=softmax)(x))
    with pytest.raises(ValueError, match="model must end in a softmax, a sigmoid or"):
        explain.Explainer(model, "gradient")


def test_one_sigmoid_has_two_classes():
    """The saliency of class 0 is that of 1 − p."""
    one = network(end=lambda x: layers.Dense(1, activation="sigmoid")(x))
    two = network(end=lambda x: layers.Dense(2, activation="softmax")(x))
    weights = one.get_weights()
    kernel, bias = weights[-2:]
    two.set_weights(
        [
            *weights[:-2],
            np.concatenate([-kernel, kernel], 1) / 2,
            np.concatenate([-bias, bias]) / 2,
        ]
    )
    images = common.images(3, (8, 8, 2))
    p = ops.convert_to_numpy(one(images / 255))[:, 0]
    explainer = explain.Explainer(one, "gradient", preprocess="scale")
    np.testing.assert_allclose(
        explainer.predict(images), np.stack([1 - p, p], 1), atol=1e-6
    )
    targets = np.array([[0, 1]] * 3)
    found = explainer.saliency(images, targets)
    # The scores are ∓s, those of the softmax ∓s/2.
    np.testing.assert_allclose(found, 2 * maps_of(two, "gradient", targets), atol=1e-6)
    np.testing.assert_allclose(found[:, 0], found[:, 1], atol=1e-6)
    for method in ("feedback", "grad_cam"):
        maps = maps_of(one, method, targets)
        scale = 2 if method == "grad_cam" else 1
        if scale == 2:
            np.testing.assert_allclose(maps, 2 * maps_of(two, method, targets), 1e-4)
        assert abs(maps[:, 0] - maps[:, 1]).max() > 1e-4
    net = kfeedback.FeedbackCNN(one, preprocess="scale", iterations=2)
    answer = net(images)
    assert answer["probabilities"].shape == (3, 2) and net.top == 2
    looks = net.look_twice(images)
    assert set(looks["classes"].ravel()) == {0, 1}


def test_a_softmax_of_one_class_is_refused():
    model = network(end=lambda x: layers.Dense(1, activation="softmax")(x))
    with pytest.raises(ValueError, match="classes ≥ 2"):
        explain.Explainer(model, "gradient")


@pytest.mark.parametrize("method", ["feedback", "gradient", "grad_cam"])
def test_a_name_that_begins_with_an_underscore(method):
    found = maps_of(network(prefix="_"), method)
    np.testing.assert_allclose(found, maps_of(network(), method), atol=1e-6)


def test_prepared_images_are_explained():
    model = network()
    images = common.images(2, (8, 8, 2))
    prepared = images / 255
    explainer = explain.Explainer(model, "gradient")
    np.testing.assert_allclose(
        explainer.saliency(prepared * 2 - 1, [0, 1]),
        explain.Explainer(
            model, "gradient", preprocess=lambda x: x / 127.5 - 1
        ).saliency(images, [0, 1]),
        atol=1e-6,
    )
    assert explainer.localize(prepared - 5).shape == (2, 4)
    assert explainer.predict(prepared - 5).shape == (2, 3)
    for bad in (np.nan, np.inf, -np.inf):
        with pytest.raises(ValueError, match="images must be finite"):
            explainer.saliency(np.full_like(prepared, bad))
    with pytest.raises(ValueError, match="from 0 to 255"):
        explain.Explainer(model, "gradient", preprocess="scale").saliency(-prepared)


@pytest.mark.parametrize("change", [lambda x: x / 255, lambda x: x / 127.5 - 1])
def test_a_second_look_needs_pixels(change):
    explainer = explain.Explainer(network(), "gradient")
    images = common.images(2, (8, 8, 2))
    assert explainer.look_twice(images)["classes"].shape == (2, 3)
    with pytest.raises(ValueError, match="images for a second look must"):
        explainer.look_twice(change(images))
