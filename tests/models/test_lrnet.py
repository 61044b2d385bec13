import collections

import keras
import numpy as np
import pytest

import kfeedback
from kfeedback import LRNet, graph
from kfeedback.classifier import posterior_kind
from kfeedback.layers import Feedback
from kfeedback.models.backbones import NIN, RCNN128, LeNet, VGGSmall
from tests import harness
from tests.harness import tensorflow_only
from tests.model_checks import MODEL_CHECKS, check_model
from tests.models import common
from tests.reference import lrnet as reference


def predict(model, images):
    return harness.to_numpy(model(images, training=False))


# --- The recurrence ------------------------------------------------------------------


@pytest.mark.parametrize("timesteps", [1, 2, 3])
@pytest.mark.parametrize("layers", [("conv1", "conv2"), ("conv2",), ("conv1",)])
def test_equals_the_reference(timesteps, layers):
    model = LRNet(
        "lenet",
        input_shape=(16, 16, 1),
        timesteps=timesteps,
        emphasis_layers=list(layers),
        return_sequences=True,
    )
    harness.randomize(model)
    images = harness.random_images((16, 16, 1))
    weights = {w.path: np.asarray(w.numpy()) for w in model.weights}
    expected = reference.lrnet_lenet(images, weights, timesteps, layers)
    np.testing.assert_allclose(predict(model, images), expected, atol=1e-5)


def test_the_reference_tells_orders_of_update_apart():
    """Else the test above could not see a wrong one."""
    model = LRNet("lenet", input_shape=(16, 16, 1))
    harness.randomize(model)
    images = harness.random_images((16, 16, 1))
    weights = {w.path: np.asarray(w.numpy()) for w in model.weights}
    right = reference.lrnet_lenet(images, weights, 3)

    def vectors(posterior):
        return {
            name: reference.feedback(
                posterior,
                weights[f"{name}_feedback/kernel"],
                weights[f"{name}_feedback/bias"],
            )
            for name in ("conv1", "conv2")
        }

    from_the_first = reference.lenet_pass(images, weights, vectors(right[:, 0]))
    assert np.abs(right[:, 1] - from_the_first).max() == 0
    assert np.abs(right[:, 2] - from_the_first).max() > 1e-3
    # Emphasis that piles up over the passes instead of being replaced.
    first, second = vectors(right[:, 0]), vectors(right[:, 1])
    piled = {name: first[name] * second[name] for name in first}
    piled_up = reference.lenet_pass(images, weights, piled)
    assert np.abs(right[:, 2] - piled_up).max() > 1e-3


@pytest.mark.parametrize("fused", [True, False])
def test_logits_feed_back_their_softmax(fused):
    """A softmax net and the same net that ends in logits look again alike."""
    images = harness.random_images((8, 8, 2))
    results = {}
    for activation in ("softmax", None):
        harness.fresh_names()
        net = common.conv_net(activation, fused=fused)
        model = LRNet(net, timesteps=3, return_sequences=True)
        results[activation] = harness.randomize(model)(images)
    np.testing.assert_allclose(
        harness.to_numpy(results["softmax"]),
        harness.to_numpy(keras.ops.softmax(results[None])),
        atol=1e-6,
    )


def test_a_sigmoid_head_feeds_back_as_it_is():
    net = common.conv_net("sigmoid", classes=1)
    model = harness.randomize(LRNet(net, timesteps=2, return_sequences=True))
    images = harness.random_images((8, 8, 2))
    result = predict(model, images)
    weights = {w.path: np.asarray(w.numpy()) for w in model.weights}
    vector = reference.feedback(
        result[:, 0], weights["conv1_feedback/kernel"], weights["conv1_feedback/bias"]
    )
    probe = keras.Model(
        model.input,
        [
            n.outputs[0]
            for n in graph.nodes(model.inputs, model.outputs)
            if n.operation.name == "conv1_feedback"
        ],
    )
    np.testing.assert_allclose(np.ravel(probe(images)), vector.ravel(), rtol=1e-4)


# --- Any topology --------------------------------------------------------------------


@pytest.mark.parametrize(
    "make, sites",
    [
        (common.two_branches, "left right"),
        (common.residual_without_dense, "stem inner"),
    ],
)
def test_default_sites_lie_on_every_way_to_the_classifier(make, sites):
    net = harness.randomize(make())
    images = harness.random_images((8, 8, 2))
    expected = predict(net, images)
    model = LRNet(net, timesteps=3, return_sequences=True)
    found = {layer.name for layer in model.layers if isinstance(layer, Feedback)}
    assert found == {f"{site}_feedback" for site in sites.split()}
    for step in range(3):
        np.testing.assert_array_equal(predict(model, images)[:, step], expected)


def test_names_that_the_backbone_has_are_left_to_it():
    model = LRNet(common.two_branches(), return_sequences=True)
    names = [operation.name for operation in model.operations]
    assert len(names) == len({*names})
    assert {"posterior", "posterior_1", "timesteps", "timesteps_1"} <= {*names}


@pytest.mark.parametrize(
    "follow, kind",
    [
        (lambda x: x, "softmax"),
        (
            lambda x: keras.layers.Average()([x, keras.layers.Dropout(0.1)(x)]),
            "softmax",
        ),
        (lambda x: keras.layers.Activation("linear")(x), "softmax"),
        (lambda x: keras.ops.log(x), None),
        (lambda x: keras.layers.Rescaling(100.0)(x), None),
    ],
)
def test_a_posterior_is_what_ends_in_one(follow, kind):
    net = common.conv_net()
    net = keras.Model(net.input, follow(net.output))
    assert posterior_kind(net) == kind
    names = [layer.name for layer in LRNet(net).layers]
    assert ("posterior" in names) == (kind is None)


def test_names_before_the_image_are_left_to_it():
    image = keras.Input((8, 8, 3), name="timesteps")
    x = keras.layers.Conv2D(2, 1, name="conv1_feedback")(image)
    model = LRNet(common.conv_net(), input_tensor=x, return_sequences=True)
    names = {layer.name for layer in model.layers}
    assert {"conv1_feedback_1", "timesteps_1"} <= names
    clash = keras.layers.Conv2D(2, 1, name="conv1")(image)
    with pytest.raises(ValueError, match=r"^input_tensor must .* got conv1"):
        LRNet(common.conv_net(), input_tensor=clash)


def test_emphasis_needs_one_number_of_channels():
    image = keras.Input((8, 8, 2))
    relu = keras.layers.ReLU(name="relu")
    x = relu(keras.layers.Conv2D(3, 1)(relu(keras.layers.Conv2D(4, 1)(image))))
    x = keras.layers.Dense(4, activation="softmax")(keras.layers.Flatten()(x))
    with pytest.raises(ValueError, match=r"^emphasis_layers must .* got 'relu'"):
        LRNet(keras.Model(image, x), emphasis_layers=["relu"])


def test_two_feature_maps_are_not_one():
    with pytest.raises(ValueError, match="include_top must be True"):
        LRNet(common.two_branches(), include_top=False)


def test_an_input_of_integers_stays_one():
    image = keras.Input((None, None, 2), dtype="uint8")
    x = keras.layers.Rescaling(1 / 255)(image)
    x = keras.layers.Conv2D(3, 3, name="conv")(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    net = keras.Model(image, keras.layers.Dense(4, activation="softmax")(x))
    model = LRNet(net, input_shape=(8, 8, 2))
    assert model.inputs[0].dtype == "uint8"
    pixels = np.arange(2 * 8 * 8 * 2, dtype="uint8").reshape(2, 8, 8, 2)
    np.testing.assert_array_equal(predict(model, pixels), predict(net, pixels))


# --- Identity ------------------------------------------------------------------------


def mixed_net():
    harness.fresh_names("mixed_bfloat16")
    net = common.conv_net()
    keras.config.set_dtype_policy("float32")
    return net


def nested_mixed():
    harness.fresh_names("mixed_float16")
    return common.nested()


def small(name, **kwargs):
    application = getattr(keras.applications, name)
    return application(weights=None, input_shape=(32, 32, 3), classes=5, **kwargs)


NETWORKS = {
    "lenet": LeNet,
    "nin": lambda: NIN(input_shape=(12, 12, 3)),
    "lnin": lambda: NIN(input_shape=(12, 12, 3), negative_slope=0.1),
    "rcnn128": lambda: RCNN128(filters=16, input_shape=(16, 16, 3)),
    "vgg_small": lambda: VGGSmall(width=1 / 8),
    "fused softmax": common.conv_net,
    "softmax layer": lambda: common.conv_net(fused=False),
    "logits": lambda: common.conv_net(None),
    "sigmoid": lambda: common.conv_net("sigmoid", classes=1),
    "Sequential": common.sequential,
    "nested": common.nested,
    "residual": common.residual,
    "mixed_bfloat16": mixed_net,
    "nested, mixed_float16": nested_mixed,
}
APPLICATIONS = {
    "MobileNetV2": lambda: small("MobileNetV2"),
    "ResNet50": lambda: small("ResNet50"),
    "ResNet50, logits": lambda: small("ResNet50", classifier_activation=None),
}


def check_identity(make):
    net = harness.randomize(make())
    images = harness.random_images(net.inputs[0].shape[1:], 3)
    harness.settle(net, images)
    before = net.get_weights()
    expected = predict(net, images)
    assert np.ptp(expected, axis=0).max() > 1e-5, "all images give one prediction"
    model = LRNet(net, timesteps=3, return_sequences=True)
    result = predict(model, images)
    assert result.shape == (3, 3, net.outputs[0].shape[-1])
    for step in range(3):
        harness.assert_bit_equal(result[:, step], expected, f"timestep {step + 1}")
    # What was given is as it was.
    harness.assert_bit_equal(predict(net, images), expected, "the network afterwards")
    for old, new in zip(before, net.get_weights(), strict=True):
        harness.assert_bit_equal(new, old, "a weight afterwards")
    # And the layers are shared: they have one set of weights.
    own = {id(w) for w in model.weights}
    assert {id(w) for w in net.weights} <= own


LARGE = ("nin", "lnin", "rcnn128", "vgg_small", "residual")


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=tensorflow_only if name in LARGE else ())
        for name in NETWORKS
    ],
)
def test_identity(name):
    check_identity(NETWORKS[name])


@tensorflow_only
@pytest.mark.parametrize("name", APPLICATIONS)
def test_identity_of_applications(name):
    check_identity(APPLICATIONS[name])


@tensorflow_only
@pytest.mark.parametrize("name", ["lenet", "nin", "lnin", "rcnn128", "vgg_small"])
def test_identity_by_name(name):
    model = LRNet(name, timesteps=2, return_sequences=True)
    result = predict(model, harness.random_images(model.input.shape[1:], 2))
    harness.assert_bit_equal(result[:, 1], result[:, 0], name)


def test_one_timestep_is_the_network():
    net = common.conv_net()
    model = LRNet(net, timesteps=1)
    assert [w.path for w in model.weights] == [w.path for w in net.weights]
    assert model.output.shape == net.output.shape


# --- The table of the paper ----------------------------------------------------------


@tensorflow_only
@pytest.mark.parametrize(
    "name, classes, backbone, extra",
    [
        ("lenet", 10, 431_080, 770),
        ("nin", 10, 966_986, 6_336),
        ("nin", 100, 984_356, 58_176),
        ("lnin", 10, 966_986, 6_336),
        ("lnin", 100, 984_356, 58_176),
        ("rcnn128", 10, 1_191_178, 5_632),
        ("rcnn128", 100, 1_202_788, 51_712),
    ],
)
def test_parameters(name, classes, backbone, extra):
    counts = [
        LRNet(name, classes=classes, timesteps=steps).count_params()
        for steps in (1, 2, 4)
    ]
    assert counts == [backbone, backbone + extra, backbone + extra]


@tensorflow_only
def test_vgg16():
    net = keras.applications.VGG16(weights=None)
    model = LRNet(net)
    assert model.count_params() - net.count_params() == 4_228_224
    assert feedback_sites(model) == [
        f"block{block}_conv{number}"
        for block, depth in enumerate((2, 2, 3, 3, 3), start=1)
        for number in range(1, depth + 1)
    ]


def feedback_sites(model):
    return [
        layer.name.removesuffix("_feedback")
        for layer in model.layers
        if isinstance(layer, Feedback)
    ]


@tensorflow_only
@pytest.mark.parametrize(
    "make, sites",
    [
        (LeNet, ["conv1", "conv2"]),
        (NIN, ["conv1", "conv4", "conv7"]),
        (RCNN128, ["rcl1", "rcl2", "rcl3", "rcl4"]),
        # Behind the batch norm where one follows the convolution directly.
        (common.conv_net, ["conv1", "bn2"]),
        (common.residual, ["stem", "shared", "last"]),
        (common.nested, ["bn1", "conv2"]),
        (
            lambda: VGGSmall(batch_norm=False, width=1 / 16),
            [
                f"block{block}_conv{number}"
                for block, depth in enumerate((2, 2, 3, 3, 3), start=1)
                for number in range(1, depth + 1)
            ],
        ),
    ],
)
def test_default_emphasis_layers(make, sites):
    assert sorted(feedback_sites(LRNet(make()))) == sorted(sites)


def test_emphasis_layers_by_name_or_layer():
    for wanted in ("relu2", ["relu2"], ("relu2",)):
        assert feedback_sites(LRNet(common.conv_net(), emphasis_layers=wanted)) == [
            "relu2"
        ]
    net = common.conv_net()
    layers = [net.get_layer("mix"), "conv1"]
    assert sorted(feedback_sites(LRNet(net, emphasis_layers=layers))) == [
        "conv1",
        "mix",
    ]
    assert feedback_sites(LRNet(net, emphasis_layers=net.get_layer("mix"))) == ["mix"]


@pytest.mark.parametrize(
    "make, layers, once, each_time",
    [
        (LeNet, None, ["conv1"], ["pool1", "conv2", "pool2", "fc1", "predictions"]),
        (LeNet, ["conv2"], ["conv1", "pool1", "conv2"], ["pool2", "fc1"]),
        (common.residual, ["last"], ["stem", "add", "concatenate", "last"], ["pool"]),
    ],
)
def test_what_lies_below_the_first_emphasis_is_computed_once(
    make, layers, once, each_time
):
    model = LRNet(make(), timesteps=3, emphasis_layers=layers)
    names = [n.operation.name for n in graph.nodes(model.inputs, model.outputs)]
    for name in once:
        assert names.count(name) == 1, name
    for name in each_time:
        assert names.count(name) == 3, name


# --- The harness ---------------------------------------------------------------------


def lr(make, **fixed):
    """A factory for the harness, of an LRNet of a network that is made anew."""

    def factory(**kwargs):
        return LRNet(make(), **{**fixed, **kwargs})

    return factory


FAMILY = {
    "conv net": (lr(common.conv_net), (8, 8, 2)),
    "lenet": (lr(lambda: "lenet", input_shape=(16, 16, 1)), (16, 16, 1)),
    "rcnn": (
        lr(lambda: RCNN128(filters=8, input_shape=(8, 8, 3), iterations=2)),
        (8, 8, 3),
    ),
    "vgg_small": (lr(lambda: VGGSmall(width=1 / 16)), (32, 32, 3)),
}


@pytest.mark.parametrize(
    "name",
    [
        "conv net",
        pytest.param("lenet", marks=tensorflow_only),
        pytest.param("rcnn", marks=tensorflow_only),
        # Thirteen layers with batch norms, three times: seconds a check.
        pytest.param("vgg_small", marks=[tensorflow_only, pytest.mark.slow]),
    ],
)
@pytest.mark.parametrize("check", MODEL_CHECKS)
def test_harness(name, check):
    factory, shape = FAMILY[name]
    check_model(factory, harness.random_images(shape), checks=[check])


# --- Arguments -----------------------------------------------------------------------


def test_include_top_false():
    net = common.conv_net()
    model = LRNet(net, include_top=False)
    assert model.output.shape == (None, 4, 4, 4)
    images = harness.random_images((8, 8, 2))
    features = keras.Model(net.input, net.get_layer("relu2").output)
    harness.assert_bit_equal(predict(model, images), predict(features, images), "maps")
    assert LRNet(net, False, pooling="avg").output.shape == (None, 4)
    one = LRNet(net, False, timesteps=1, return_sequences=True, pooling="max")
    assert one.output.shape == (None, 1, 4)


def test_input_tensor_and_input_shape():
    tensor = keras.Input((16, 16, 1), name="mine")
    assert LRNet("lenet", input_tensor=tensor).input is tensor
    assert LRNet(common.conv_net(), input_shape=(8, 8, 2)).input.shape[1:] == (8, 8, 2)
    tensor = keras.Input((8, 8, 2))
    scaled = keras.layers.Rescaling(0.5)(tensor)
    model = LRNet(common.conv_net(), input_tensor=scaled)
    assert model.input is tensor
    fully_convolutional = NIN(input_shape=(None, None, 3))
    model = LRNet(fully_convolutional, input_shape=(12, 16, 3))
    assert model.input.shape == (None, 12, 16, 3)
    assert LRNet(fully_convolutional).input.shape == (None, None, None, 3)


def test_feedback_initializer():
    model = LRNet(common.conv_net(), feedback_initializer="ones")
    assert np.all(model.get_layer("conv1_feedback").kernel.numpy() == 1)


def test_name_classes_and_activation():
    model = LRNet("lenet", classes=7, classifier_activation=None, name="mine")
    assert model.name == "mine"
    assert model.output.shape == (None, 7)
    assert model.get_layer("predictions").activation is keras.activations.linear


def test_weights_of_a_file(tmp_path):
    path = tmp_path / "lr.h5"
    model = harness.randomize(LRNet("lenet", input_shape=(16, 16, 1)))
    kfeedback.weights.save(model, path)
    images = harness.random_images((16, 16, 1))
    again = LRNet("lenet", weights=path, input_shape=(16, 16, 1))
    harness.assert_bit_equal(predict(again, images), predict(model, images), "file")
    with pytest.raises(ValueError, match="without_feedback"):
        LeNet(weights=path, input_shape=(16, 16, 1))
    plain = LeNet(input_shape=(16, 16, 1))
    kfeedback.weights.load(plain, path, without_feedback=True)
    one = LRNet("lenet", weights=str(path), input_shape=(16, 16, 1), timesteps=1)
    harness.assert_bit_equal(predict(one, images), predict(plain, images), "T = 1")


def test_trains():
    model = LRNet(common.conv_net(), timesteps=2, return_sequences=True)
    model.compile(
        optimizer=keras.optimizers.SGD(0.05),
        loss=kfeedback.losses.TimestepLoss("sparse_categorical_crossentropy"),
        metrics=[kfeedback.metrics.TimestepMetric("accuracy")],
    )
    images = harness.random_images((8, 8, 2))
    labels = np.arange(8) % 4
    before = {w.path: w.numpy().copy() for w in model.trainable_weights}
    history = model.fit(images, labels, epochs=4, batch_size=4, verbose=0).history
    assert history["loss"][-1] < history["loss"][0]
    still = [
        w.path
        for w in model.trainable_weights
        if np.array_equal(w.numpy(), before[w.path])
    ]
    assert not still


@pytest.mark.parametrize("timesteps", [1, 2, 3, 4])
@pytest.mark.parametrize("sequences", [False, True])
@pytest.mark.parametrize("include_top", [False, True])
def test_every_layer_is_called_once_a_step(timesteps, sequences, include_top):
    net = LeNet(input_shape=(16, 16, 1))
    model = kfeedback.LRNet(
        net, include_top, timesteps=timesteps, return_sequences=sequences
    )
    calls = collections.Counter(
        node.operation.name for node in graph.nodes(model.inputs, model.outputs)
    )
    assert calls["conv1"] == 1
    assert calls["conv2"] == timesteps
    assert calls["conv1_emphasis"] == timesteps - 1
    assert calls["fc1"] == timesteps - (not include_top)


def test_a_named_backbone_sees_an_input_tensor_once():
    image = keras.Input((28, 28, 3))
    gray = keras.layers.Conv2D(1, 1, name="gray")(image)
    model = kfeedback.LRNet("lenet", input_tensor=gray)
    names = [node.operation.name for node in graph.nodes(model.inputs, model.outputs)]
    assert model.input_shape == (None, 28, 28, 3)
    assert names.count("gray") == 1


def test_channels_of_a_batch_norm_lie_on_its_axis():
    image = keras.Input((3, 8, 8))
    x = keras.layers.Conv2D(4, 3, data_format="channels_first", name="conv")(image)
    x = keras.layers.BatchNormalization(axis=1, name="bn")(x)
    x = keras.layers.GlobalAveragePooling2D(data_format="channels_first")(x)
    model = kfeedback.LRNet(keras.Model(image, keras.layers.Dense(5)(x)))
    assert model.get_layer("bn_feedback").channels == 4
    assert model.get_layer("bn_emphasis").data_format == "channels_first"
