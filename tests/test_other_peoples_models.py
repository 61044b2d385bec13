"""Models as people build them, through everything but explanations."""

import json
import pathlib
import subprocess
import sys

import h5py
import keras
import numpy as np
import pytest
from keras import ops

import kfeedback
from kfeedback import weights
from kfeedback.classifier import posterior_kind
from kfeedback.metrics import TimestepMetric
from kfeedback.models import backbones
from tests import harness

layers = keras.layers
IMAGES = np.random.default_rng(0).uniform(0, 1, (5, 28, 28, 1)).astype("float32")


def softmax(x):
    e = ops.exp(x - ops.max(x, axis=-1, keepdims=True))
    return e / ops.sum(e, axis=-1, keepdims=True)


def small(classes=3, activation="softmax", end=None, name="small"):
    x = inputs = keras.Input((28, 28, 1))
    x = layers.Conv2D(4, 5, 2, activation="relu", name="conv")(x)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    x = layers.Dense(classes, activation=activation, name="scores")(x)
    return keras.Model(inputs, x if end is None else end(x), name=name)


def one_sentence(error):
    text = str(error.value)
    assert text.endswith(".") and "\n" not in text, text
    return text


# --- What an output is ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (lambda: small(activation=softmax), "softmax"),
        (lambda: small(activation=None, end=ops.softmax), "softmax"),
        (lambda: small(activation=None, end=layers.Lambda(softmax)), "softmax"),
        (lambda: small(activation=None, end=layers.Lambda(ops.sigmoid)), "sigmoid"),
        (lambda: small(1, "sigmoid"), "sigmoid"),
        (lambda: small(activation="hard_sigmoid"), "sigmoid"),
        (lambda: small(activation=None), None),
        (lambda: small(1, None), None),
        (lambda: small(activation="relu"), None),
        (lambda: small(activation="tanh"), None),
        (lambda: small(activation=lambda x: softmax(x) * 2), None),
    ],
)
@pytest.mark.parametrize("kernel", ["as it is", "zeros"])
def test_outputs_are_measured(make, kind, kernel):
    model = make()
    if kernel == "zeros":  # two sigmoids of 0 add up to 1
        model.set_weights([np.zeros_like(w) for w in model.get_weights()])
    assert posterior_kind(model) == kind


def test_a_softmax_of_ones_own_is_fed_back_as_it_is():
    """Not a softmax of the softmax."""
    plain, own = small(), small(activation=softmax)
    own.set_weights(plain.get_weights())
    results = []
    for model in (plain, own):
        net = kfeedback.LRNet(model, timesteps=3, return_sequences=True)
        harness.randomize(net)
        results.append(harness.to_numpy(net(IMAGES)))
    np.testing.assert_allclose(*results, atol=1e-6)


@harness.tensorflow_only
def test_functions_of_tensorflow_are_measured(tmp_path):
    import tensorflow as tf

    model = small(activation=tf.nn.softmax)
    assert posterior_kind(model) == "softmax"
    path = kfeedback.serving.export(model, tmp_path / "m", warmup_batches=())
    serve = tf.saved_model.load(str(path)).signatures["serving_default"]
    found = serve(images=tf.constant(IMAGES))["probabilities"]
    np.testing.assert_allclose(found, model(IMAGES), atol=1e-6)
    with pytest.raises(ValueError, match="from_logits must be False"):
        kfeedback.serving.export(model, tmp_path / "n", from_logits=True)


# --- One class -----------------------------------------------------------------------


@harness.tensorflow_only
@pytest.mark.parametrize("from_logits", [False, True])
def test_one_class_is_served_as_two(tmp_path, from_logits):
    import tensorflow as tf

    model = small(1, None if from_logits else "sigmoid")
    harness.randomize(model)
    path = kfeedback.serving.export(
        model,
        tmp_path / "m",
        from_logits=from_logits,
        class_names=["no", "yes"],
        warmup_batches=(),
    )
    answer = tf.saved_model.load(str(path)).signatures["serving_default"](
        images=tf.constant(IMAGES)
    )
    p = harness.to_numpy(model(IMAGES))[:, 0]
    p = 1 / (1 + np.exp(-p)) if from_logits else p
    np.testing.assert_allclose(
        answer["probabilities"], np.stack([1 - p, p], 1), atol=1e-6
    )
    assert 0 < p.min() and p.max() < 1
    np.testing.assert_array_equal(answer["top_classes"][:, 0], (p > 0.5).astype(int))
    named = [name.decode() for name in answer["top_labels"][:, 0].numpy()]
    assert named == ["yes" if one > 0.5 else "no" for one in p]
    with pytest.raises(ValueError, match="class_names must be 2 names"):
        kfeedback.serving.export(
            model, tmp_path / "n", from_logits=from_logits, class_names=["yes"]
        )


@pytest.mark.parametrize("from_logits", [False, True])
def test_one_class_leaves_early_when_it_is_sure_of_either(from_logits):
    activation = None if from_logits else "sigmoid"
    model = kfeedback.FeedbackConvLSTMNet(
        input_shape=(16, 16, 3),
        cells=(((4, 1),), ((6, 2),)),
        timesteps=3,
        classes=1,
        classifier_activation=activation,
        return_sequences=True,
        head_units=8,
    )
    harness.randomize(model)
    images = harness.random_images((16, 16, 3), 40) * 3
    every = harness.to_numpy(model(images))[..., 0]
    p = 1 / (1 + np.exp(-every)) if from_logits else every
    sure = np.maximum(p, 1 - p)
    threshold = float(np.median(sure[:, 0]))
    expected = np.where(sure[:, 0] >= threshold, 1, 0)
    expected = np.where(expected, 1, np.where(sure[:, 1] >= threshold, 2, 3))
    predictor = kfeedback.early_exit(model, threshold, from_logits=from_logits)
    predictions, timesteps = predictor.predict(images)
    clear = (abs(sure - threshold) > 1e-5).all(axis=1)
    np.testing.assert_array_equal(timesteps[clear], expected[clear])
    rows = np.arange(len(images))
    np.testing.assert_allclose(predictions[:, 0], every[rows, timesteps - 1], atol=1e-5)


@pytest.mark.parametrize(
    "make",
    [
        lambda: backbones.LeNet(classes=1),
        lambda: backbones.NIN(classes=1, classifier_activation="softmax"),
        lambda: kfeedback.LRNet("lenet", classes=1),
        lambda: kfeedback.LRNet(small(1)),
        lambda: kfeedback.LRNet(small(1, None)),
        lambda: kfeedback.CliqueNet(classes=1, filters=2, layers=6),
        lambda: kfeedback.attacks.Attack(small(1)),
        lambda: kfeedback.attacks.Attack(small(1, None), from_logits=True),
    ],
)
def test_a_softmax_of_one_class_is_refused(make):
    with pytest.raises(ValueError, match=r"classes|two") as error:
        make()
    one_sentence(error)


def test_one_class_is_built_with_a_sigmoid():
    assert backbones.LeNet(classes=1, classifier_activation="sigmoid").count_params()
    assert backbones.LeNet(classes=1, include_top=False).output_shape[-1] == 50


# --- Nesting -------------------------------------------------------------------------


def nested():
    inner = backbones.NIN(input_shape=(28, 28, 1), name="inner")
    inputs = keras.Input((28, 28, 1))
    return keras.Model(inputs, inner(layers.Rescaling(2.0)(inputs)), name="outer")


@pytest.mark.parametrize("direction", ["nested to flat", "flat to nested", "both"])
def test_keys_see_through_nesting(tmp_path, direction):
    first, second = nested(), nested()
    if direction == "nested to flat":
        second = kfeedback.graph.flatten(second)
    if direction == "flat to nested":
        first = kfeedback.graph.flatten(first)
    harness.randomize(first)
    weights.save(first, tmp_path / "w.h5")
    weights.load(second, tmp_path / "w.h5")
    for a, b in zip(first.get_weights(), second.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    names = weights.describe(tmp_path / "w.h5")["tensors"]
    assert "conv1/kernel" in names and not any("inner" in name for name in names)


def test_feedback_cnn_takes_the_weights_of_a_nested_network(tmp_path):
    net = nested()
    harness.randomize(net)
    weights.save(net, tmp_path / "w.h5")
    found = kfeedback.FeedbackCNN(nested(), weights=tmp_path / "w.h5", iterations=1)
    expected = harness.to_numpy(net(IMAGES))
    np.testing.assert_allclose(found.explainer.predict(IMAGES), expected, atol=1e-6)


def test_a_head_in_a_nested_network_is_replaced(tmp_path):
    def build(classes):
        inputs = keras.Input((28, 28, 1))
        inner = small(classes, name="inner")
        return keras.Model(inputs, inner(layers.Rescaling(2.0)(inputs)))

    first, second = build(3), build(4)
    weights.save(first, tmp_path / "w.h5")
    weights.load(second, tmp_path / "w.h5", replace_head=True)
    np.testing.assert_array_equal(first.get_weights()[0], second.get_weights()[0])


def test_two_layers_of_one_name_keep_the_names_of_their_networks(tmp_path):
    def build():
        inputs = keras.Input((28, 28, 1))
        both = [small(name=name)(inputs) for name in ("left", "right")]
        return keras.Model(inputs, layers.Average()(both))

    first, second = build(), build()
    harness.randomize(first)
    weights.save(first, tmp_path / "w.h5")
    weights.load(second, tmp_path / "w.h5")
    for a, b in zip(first.get_weights(), second.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert "left/conv/kernel" in weights.describe(tmp_path / "w.h5")["tensors"]


def in_a_sequential():
    net = kfeedback.LRNet(small(), timesteps=3, return_sequences=True)
    harness.randomize(net)
    parts = [keras.Input((28, 28, 1)), layers.Rescaling(2.0), net]
    return keras.Sequential(parts), net


def test_early_exit_sees_through_nesting():
    outer, net = in_a_sequential()
    for threshold in (0.3, 0.5, 0.9):
        found = kfeedback.early_exit(outer, threshold).predict(IMAGES)
        expected = kfeedback.early_exit(net, threshold).predict(IMAGES * 2)
        np.testing.assert_allclose(found[0], expected[0], atol=1e-6)
        np.testing.assert_array_equal(found[1], expected[1])


def test_cut_sees_through_nesting():
    model = nested()
    stem, tail = kfeedback.graph.cut(model, "conv3")
    found = harness.to_numpy(tail(stem(IMAGES)))
    np.testing.assert_allclose(found, harness.to_numpy(model(IMAGES)), atol=1e-6)


@harness.tensorflow_only
def test_export_sees_through_nesting(tmp_path):
    import tensorflow as tf

    outer, _ = in_a_sequential()
    path = kfeedback.serving.export(outer, tmp_path / "m", warmup_batches=())
    served = tf.saved_model.load(str(path)).signatures
    assert set(served) >= {"serving_default", "timesteps", "early_exit"}
    found = served["early_exit"](images=tf.constant(IMAGES))
    expected = kfeedback.early_exit(outer, 0.9).predict(IMAGES)
    np.testing.assert_array_equal(found["timesteps"], expected[1])


@harness.tensorflow_only
def test_names_that_begin_with_an_underscore_are_exported(tmp_path):
    """Keras itself cannot: TensorFlow writes no variable of such a name."""
    import tensorflow as tf

    x = inputs = keras.Input((28, 28, 1), name="_image")
    x = layers.Conv2D(4, 5, 2, activation="relu", name="_conv_stem")(x)
    x = layers.BatchNormalization(name="-norm")(x)
    x = layers.GlobalAveragePooling2D(name="_pool")(x)
    outputs = layers.Dense(3, activation="softmax", name="_scores")(x)
    net = kfeedback.LRNet(keras.Model(inputs, outputs), return_sequences=True)
    harness.randomize(net)
    names = [v.value.name for v in net.variables]
    assert any(name.startswith("_conv_stem") for name in names)
    path = kfeedback.serving.export(net, tmp_path / "m", warmup_batches=())
    served = tf.saved_model.load(str(path)).signatures["timesteps"]
    found = served(images=tf.constant(IMAGES))["probabilities"]
    np.testing.assert_allclose(found, net(IMAGES), atol=1e-5)
    assert [v.value.name for v in net.variables] == names


def test_early_exit_of_a_fixed_batch_size():
    image = keras.Input(batch_shape=(4, 28, 28, 1))
    backbone = backbones.LeNet(input_tensor=image)
    net = kfeedback.LRNet(backbone, timesteps=3, return_sequences=True)
    free = kfeedback.LRNet("lenet", timesteps=3, return_sequences=True)
    harness.randomize(net)
    free.set_weights(net.get_weights())
    images = np.random.default_rng(3).uniform(0, 1, (7, 28, 28, 1)).astype("float32")
    threshold = float(np.median(harness.to_numpy(free(images))[:, 0].max(axis=-1)))
    found = kfeedback.early_exit(net, threshold).predict(images)
    expected = kfeedback.early_exit(free, threshold).predict(images)
    np.testing.assert_allclose(found[0], expected[0], atol=1e-6)
    np.testing.assert_array_equal(found[1], expected[1])
    assert len(set(found[1])) > 1


# --- Names of variables --------------------------------------------------------------


class Unnamed(layers.Layer):
    """Two branches and a weight without names, built in one or the other order."""

    def __init__(self, left_first=True, **kwargs):
        super().__init__(**kwargs)
        self.left_first = left_first
        makers = {"left": lambda: layers.Dense(3), "right": lambda: layers.Dense(3)}
        for name in makers if left_first else reversed(makers):
            setattr(self, name, makers[name]())
        self.more = [layers.Dense(3), layers.Dense(3)]

    def build(self, shape):
        order = (self.left, self.right) if self.left_first else (self.right, self.left)
        for layer in (*order, *self.more):
            layer.build(shape)
        self.scale = self.add_weight(shape=(3,), initializer="ones")

    def call(self, x):
        x = self.left(x) - 2 * self.right(x)
        return self.scale * self.more[1](self.more[0](x))


def unnamed(**kwargs):
    x = inputs = keras.Input((3,))
    return keras.Model(inputs, Unnamed(name="own", **kwargs)(x))


@pytest.mark.parametrize("left_first", [True, False])
def test_keys_of_unnamed_parts_come_back(tmp_path, left_first):
    first = unnamed()
    harness.randomize(first)
    weights.save(first, tmp_path / "w.h5")
    for _ in range(3):
        layers.Dense(2).build((None, 2))  # the process has counted on
    second = unnamed(left_first=left_first)
    weights.load(second, tmp_path / "w.h5")
    x = np.random.default_rng(0).normal(size=(4, 3)).astype("float32")
    np.testing.assert_allclose(
        harness.to_numpy(first(x)), harness.to_numpy(second(x)), atol=1e-6
    )
    names = set(weights.describe(tmp_path / "w.h5")["tensors"])
    assert {"own/scale", "own/left/kernel", "own/more_1/bias"} < names


class OwnModel(keras.Model):
    def __init__(self):
        super().__init__()
        self.second, self.first = layers.Dense(3), layers.Dense(3)
        self.scale = self.add_weight(shape=(), initializer="ones")

    def call(self, x):
        return self.scale * self.second(self.first(x))


def test_keys_of_a_model_with_a_call_of_its_own_come_back(tmp_path):
    x = np.random.default_rng(0).normal(size=(4, 3)).astype("float32")
    first, second = OwnModel(), OwnModel()
    first(x), second(x)
    harness.randomize(first)
    weights.save(first, tmp_path / "w.h5")
    weights.load(second, tmp_path / "w.h5")
    np.testing.assert_allclose(
        harness.to_numpy(first(x)), harness.to_numpy(second(x)), atol=1e-6
    )


def test_a_variable_that_nothing_names_is_refused_at_save(tmp_path):
    class Hidden(layers.Layer):
        def build(self, shape):
            weight = self.add_weight(shape=(shape[-1],))
            self.get = lambda: weight

        def call(self, x):
            return x * self.get()

    x = inputs = keras.Input((3,))
    model = keras.Model(inputs, Hidden(name="hidden")(x))
    with pytest.raises(ValueError, match="hidden/variable") as error:
        weights.save(model, tmp_path / "w.h5")
    one_sentence(error)
    assert not list(tmp_path.iterdir())


def test_layers_without_names_get_a_hint(tmp_path):
    def build():
        x = inputs = keras.Input((3,))
        return keras.Model(inputs, layers.Dense(2)(layers.Dense(3)(x)))

    weights.save(build(), tmp_path / "w.h5")
    with pytest.raises(ValueError, match="name the layers"):
        weights.load(build(), tmp_path / "w.h5")


# --- Files of Keras ------------------------------------------------------------------


def old_keras_file(path, tensors):
    """A `.h5` as Keras 1 and 2 wrote it: a group a layer, in it its weights."""
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [name.encode() for name in tensors]
        for layer, own in tensors.items():
            group = file.create_group(layer)
            group.attrs["weight_names"] = [name.encode() for name in own]
            for name, value in own.items():
                group.create_dataset(name, data=value)


def mobile():
    x = inputs = keras.Input((8, 8, 3))
    x = layers.DepthwiseConv2D(3, name="dw")(x)
    x = layers.SeparableConv2D(4, 3, name="sep")(x)
    x = layers.PReLU(shared_axes=(1, 2), name="prelu")(x)
    x = layers.BatchNormalization(name="bn")(x)
    x = layers.Dense(2, name="fc")(layers.GlobalAveragePooling2D()(x))
    return keras.Model(inputs, x)


KERAS_2 = "{layer}/{name}:0"
KERAS_1 = "{layer}_{name}:0"
OLD = {
    "kernel": "W",
    "bias": "b",
    "alpha": "alphas",
    "moving_mean": "running_mean",
    "moving_variance": "running_std",
}


@pytest.mark.parametrize("version", [1, 2])
def test_files_of_older_keras_load(tmp_path, version):
    first, second = mobile(), mobile()
    harness.randomize(first)
    tensors = {}
    for layer in first.layers:
        for variable in layer.weights:
            name = variable.name
            if layer.name == "dw" and name == "kernel":
                name = "depthwise_kernel"
            elif version == 1 and layer.name != "sep":
                name = OLD.get(name, name)
            if version == 1 and layer.name in ("dw", "sep"):
                name = f"{layer.name}/{name}:0"  # there was none of Keras 1's own
            else:
                template = KERAS_1 if version == 1 else KERAS_2
                name = template.format(layer=layer.name, name=name)
            own = tensors.setdefault(layer.name, {})
            own[name] = ops.convert_to_numpy(variable)
    old_keras_file(tmp_path / "old.h5", tensors)
    weights.load(second, tmp_path / "old.h5")
    for a, b in zip(first.get_weights(), second.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


# --- Metrics, formats, shapes, paths -------------------------------------------------


@pytest.mark.parametrize(
    ("metric", "direction"),
    [
        ("accuracy", "up"),
        ("sparse_categorical_accuracy", "up"),
        (keras.metrics.SparseTopKCategoricalAccuracy(2), "up"),
        ("sparse_categorical_crossentropy", "down"),
    ],
)
def test_callbacks_know_which_way_is_better(metric, direction):
    net = kfeedback.LRNet(small(), timesteps=2, return_sequences=True)
    metric = TimestepMetric(metric, name="watched")
    net.compile("sgd", kfeedback.losses.TimestepLoss("sparse_categorical_crossentropy"))
    net.compile(net.optimizer, net.loss, metrics=[metric])
    stop = keras.callbacks.EarlyStopping("val_watched", patience=5)
    labels = np.arange(5) % 3
    net.fit(
        IMAGES, labels, validation_data=(IMAGES, labels), callbacks=[stop], verbose=0
    )
    assert (stop.monitor_op(1.0, 0.0)) == (direction == "up")


FACTORIES = {
    "lenet": lambda: backbones.LeNet(),
    "vgg16": lambda: backbones.VGG16(),
    "lrnet": lambda: kfeedback.LRNet("nin"),
    "crcn": lambda: kfeedback.CRCN("vgg_small"),
    "clique": lambda: kfeedback.CliqueNet(),
    "s0": lambda: kfeedback.CliqueNetS0(),
    "convlstm": lambda: kfeedback.FeedbackConvLSTMNet(),
    "feedback": lambda: kfeedback.FeedbackCNN("vgg_small"),
}


@pytest.mark.parametrize("name", FACTORIES)
def test_channels_first_is_one_sentence(name):
    keras.config.set_image_data_format("channels_first")
    try:
        with pytest.raises(ValueError, match="must be 'channels_last'") as error:
            FACTORIES[name]()
    finally:
        keras.config.set_image_data_format("channels_last")
    one_sentence(error)


@pytest.mark.parametrize("name", ["lenet", "vgg_small", "vgg_attention", "vgg16"])
def test_a_dense_head_needs_known_sides(name):
    with pytest.raises(ValueError, match="input_shape must have a known") as error:
        kfeedback.LRNet(name, input_shape=(None, None, 3))
    one_sentence(error)


@pytest.mark.parametrize("kind", [np.int64, np.int32, np.uint8])
def test_integers_of_numpy_are_sides(kind):
    shape = tuple(kind(n) for n in (32, 32, 3))
    model = kfeedback.LRNet("vgg_small", input_shape=shape)
    assert model.input_shape == (None, 32, 32, 3)
    assert all(type(n) is int for n in model.input_shape[1:])
    assert backbones.VGG16(input_shape=shape, classes=2).input_shape[1:] == (32, 32, 3)
    for bad in (np.float32(32), True, "32"):
        with pytest.raises(ValueError, match="input_shape must be"):
            backbones.LeNet(input_shape=(bad, 32, 3))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"layers": 6, "bottleneck": True}, "at least 12, .*got 6"),
        ({"layers": 3}, "at least 6, .*got 3"),
    ],
)
def test_errors_speak_of_numbers_that_were_given(arguments, says):
    with pytest.raises(ValueError, match=says) as error:
        kfeedback.CliqueNet(**arguments)
    one_sentence(error)
    assert kfeedback.CliqueNet(**arguments, stages=1, filters=2)


@pytest.mark.parametrize("suffix", [".h5", ".hdf5"])
def test_a_feedback_cnn_is_not_saved_as_h5(tmp_path, suffix):
    net = kfeedback.FeedbackCNN(small())
    for path in (tmp_path / f"a{suffix}", str(tmp_path / f"a{suffix}")):
        with pytest.raises(ValueError, match=r"must end in \.keras") as error:
            net.save(path)
        one_sentence(error)
    assert not list(tmp_path.iterdir())
    outer = keras.Sequential([keras.Input((28, 28, 1)), layers.Rescaling(2.0), net])
    for save in (
        lambda path: keras.saving.save_model(net, path),
        lambda path: outer.save(path),
    ):
        with pytest.raises(ValueError, match=r"must end in \.keras") as error:
            save(tmp_path / f"b{suffix}")
        one_sentence(error)
    net.save(tmp_path / "a.keras")


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
@pytest.mark.parametrize("name", ["nin", "lnin"])
def test_a_saved_model_remembers_its_factory(tmp_path, name, suffix):
    made = {"nin": backbones.NIN, "lnin": backbones.LNIN}
    made[name]().save(tmp_path / f"a{suffix}")
    again = keras.models.load_model(tmp_path / f"a{suffix}")
    assert weights.origin(again)["factory"] == name.upper()
    weights.save(again, tmp_path / "w.h5")
    other = made[{"nin": "lnin", "lnin": "nin"}[name]]()
    with pytest.raises(ValueError, match="they are of"):
        weights.load(other, tmp_path / "w.h5")
    weights.load(made[name](), tmp_path / "w.h5")
    net = kfeedback.LRNet(again)
    net.save(tmp_path / "net.keras")
    net = keras.models.load_model(tmp_path / "net.keras")
    inner = weights.origin(net)["arguments"]["backbone"]
    assert inner["factory"] == name.upper()


@pytest.mark.parametrize("as_path", [str, pathlib.Path])
def test_tilde_is_home_everywhere(tmp_path, monkeypatch, as_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    model = small()
    weights.save(model, as_path("~/w.h5"))
    weights.load(model, as_path("~/w.h5"))
    if keras.backend.backend() == "tensorflow":
        kfeedback.serving.export(model, as_path("~/served"), warmup_batches=())
        assert (tmp_path / "served" / "1").is_dir()
    assert (tmp_path / "w.h5").is_file() and not (tmp_path / "~").exists()


@pytest.mark.parametrize("path", [None, 3, b"a.h5", ["a.npz"]])
@pytest.mark.parametrize(
    ("argument", "call"),
    [
        ("path", lambda path: weights.save(small(), path)),
        ("path", lambda path: kfeedback.serving.export_file(small(), path)),
        ("base_dir", lambda path: kfeedback.serving.export(small(), path)),
        ("path", kfeedback.preprocessing.ZCAWhitening.load),
        (
            "data_dir",
            lambda path: kfeedback.datasets.load("mnist", "train", data_dir=path or 1),
        ),
        (
            "data_dir",
            lambda path: kfeedback.datasets.load("a.npz", "train", data_dir=path or 1),
        ),
        (
            "manual_dir",
            lambda path: kfeedback.datasets.load(
                "mnist", "train", manual_dir=path or 1
            ),
        ),
        (
            "data_dir",
            lambda path: kfeedback.datasets.load_arrays(
                "a.npz", "train", data_dir=path or 1
            ),
        ),
        (
            "data_dir",
            lambda path: kfeedback.datasets.stream_boxes(
                "coco", "train", data_dir=path or 1
            ),
        ),
    ],
)
@harness.tensorflow_only
def test_what_is_no_path_is_refused(argument, call, path):
    with pytest.raises(TypeError, match=f"^{argument} must be a path, got ") as error:
        call(path)
    one_sentence(error)


def test_tilde_is_home_in_flags(tmp_path, monkeypatch):
    from applications.common.command_line import parse
    from applications.train.settings import Settings

    monkeypatch.setenv("HOME", str(tmp_path))
    arguments = ["--model=lenet", "--dataset=synthetic", "--output_dir=~/run"]
    assert parse(Settings, arguments).output_dir == str(tmp_path / "run")


def test_submodules_are_there_after_import():
    code = "import kfeedback, json; print(json.dumps(dir(kfeedback.datasets)))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert {"boxes", "voc"} <= set(json.loads(found.stdout.splitlines()[-1]))


def test_a_split_of_a_file_with_other_arrays(tmp_path):
    np.savez(tmp_path / "a.npz", images=np.zeros((3, 4, 4), "uint8"))
    with pytest.raises(ValueError, match=r"x_<split> and y_<split>.*images") as error:
        kfeedback.datasets.load_arrays(tmp_path / "a.npz", "train")
    one_sentence(error)
