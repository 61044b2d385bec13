"""What an exported model answers, and what the arguments take."""

import functools
import pathlib
import subprocess
import sys

import keras
import numpy as np
import pytest

import kfeedback
from applications.common.bare_process import ask
from kfeedback.models import backbones
from kfeedback.models.backbones import LeNet
from kfeedback.preprocessing import preprocess_input
from tests import harness
from tests.serving.common import (
    SMALL,
    feedback_cnn,
    feedback_convlstm,
    lrnet,
    make,
    tiny,
)

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="TensorFlow's affair"
)

# The networks of the papers in their own sizes.
LARGE = {
    "LeNet": backbones.LeNet,
    "NIN": lambda: backbones.NIN(input_shape=(32, 32, 3)),
    "LNIN": lambda: backbones.LNIN(input_shape=(32, 32, 3)),
    "RCNN128": backbones.RCNN128,
    "VGGSmall": backbones.VGGSmall,
    "VGGAttention": backbones.VGGAttention,
    "AlexNet": backbones.AlexNet,
    "GoogLeNet": backbones.GoogLeNet,
    "LRNet": lambda: kfeedback.LRNet("lnin", timesteps=2, return_sequences=True),
    "CRCN": lambda: kfeedback.CRCN("vgg_small", timesteps=2, return_sequences=True),
    "CliqueNet": lambda: kfeedback.CliqueNet(filters=12, layers=12),
    "CliqueNetS0": lambda: kfeedback.CliqueNetS0(input_shape=(64, 64, 3)),
    "FeedbackConvLSTMNet": lambda: kfeedback.FeedbackConvLSTMNet(return_sequences=True),
}


def export(model, base, **kwargs):
    kwargs = {"warmup_batches": (), **kwargs}
    return kfeedback.serving.export(model, base, **kwargs)


def last(predictions):
    return predictions[:, -1] if predictions.ndim == 3 else predictions


def expected_answers(model, images):
    """What a model must answer: `{signature: {output: array}}`."""
    outputs = model.predict_on_batch(images)
    if isinstance(outputs, dict):
        found = {"probabilities": outputs["probabilities"]}
        return {"serving_default": found, "saliency": outputs}
    found = {"serving_default": {"probabilities": last(outputs)}}
    return found | (
        {"timesteps": {"probabilities": outputs}} if outputs.ndim == 3 else {}
    )


def check_families(families, tmp_path, scan):
    """Exports each and compares it, in a bare process, with the model."""
    import tensorflow as tf

    requests, wanted = [], []
    for name, factory in families.items():
        model = make(factory)
        height, width, channels = model.input_shape[1:]
        # Blocks of one color, as noise looks the same to a deep network.
        images = np.random.default_rng(0).integers(0, 256, (17, 4, 4, channels))
        images = tf.image.resize(images, (height, width), "nearest").numpy()
        images = images.astype("float32")
        # A model that prepares images itself gets them as they are.
        mode = "none" if hasattr(model, "serving_endpoints") else "center"
        # A graph multiplies where NumPy divides. Of the one rounding that this is of an
        # image, VGGAttention makes 2.2e-6 of a probability.
        prepare = tf.function(functools.partial(preprocess_input, mode=mode))
        known = expected_answers(model, prepare(images).numpy())
        path = export(
            model, tmp_path / name, preprocessing=mode, signatures=list(known)
        )
        predictions = known["serving_default"]["probabilities"]
        assert np.ptp(predictions, axis=0).max() > 1e-4, f"{name} sees no difference"
        for batch in (1, 3, 17):
            # Of the same batch: sums of another one run in another order.
            prepared = prepare(images[:batch]).numpy()
            for signature, outputs in expected_answers(model, prepared).items():
                requests.append((path, signature, {"images": images[:batch]}))
                wanted.append((f"{signature} of {name}", outputs))
        if scan:
            check_scan(path)
    for answer, (name, expected) in zip(ask(requests), wanted, strict=True):
        assert answer.error is None, (name, answer.error)
        found = answer.outputs
        for key, value in expected.items():
            np.testing.assert_allclose(found[key], value, atol=1e-6, err_msg=name)
        classes = found["top_classes"]
        best = expected["probabilities"].argmax(-1)
        np.testing.assert_array_equal(classes[..., 0], best)
        scores = np.take_along_axis(found["probabilities"], classes, axis=-1)
        np.testing.assert_array_equal(found["top_scores"], scores)


def check_scan(path):
    command = [str(pathlib.Path(sys.executable).with_name("saved_model_cli")), "scan"]
    done = subprocess.run(
        [*command, "--dir", str(path)], capture_output=True, text=True, check=True
    )
    assert "does not contain the default denylisted ops" in done.stdout


@pytest.mark.slow
def test_small_networks_where_keras_and_kfeedback_are_blocked(tmp_path):
    # All that an export does differently: timesteps, nothing, endpoints of its own.
    # No scan: `export` itself refuses what it looks for.
    kinds = {"lrnet": lrnet, "lenet": SMALL["lenet"], "feedback_cnn": feedback_cnn}
    check_families(kinds, tmp_path, scan=False)


@pytest.mark.slow
def test_all_networks_where_keras_and_kfeedback_are_blocked(tmp_path):
    where = functools.partial(kfeedback.FeedbackCNN, "vgg_small", preprocess="center")
    check_families({**SMALL, **LARGE, "FeedbackCNN": where}, tmp_path, scan=True)


def signatures(path):
    import tensorflow as tf

    return tf.saved_model.load(str(path)).signatures


@pytest.mark.parametrize(
    "factory", [lrnet, pytest.param(feedback_convlstm, marks=pytest.mark.slow)]
)
def test_early_exit_is_that_of_the_library(tmp_path, factory):
    model = make(factory)
    for layer in model.layers:  # so that the confidences differ
        if isinstance(layer, keras.layers.Dense):
            layer.kernel.assign(layer.kernel * 8)
    images = harness.random_images(model.input_shape[1:], 40)
    confidences = model.predict(images, verbose=0).max(axis=-1)
    # Between two of them, so that no rounding decides; so that all timesteps are used.
    ordered = np.sort(confidences, axis=None)
    thresholds = (ordered[1:] + ordered[:-1]) / 2
    used = [
        len({*np.argmax(np.c_[confidences[:, :-1] >= t, np.ones(40)], axis=1)})
        for t in thresholds
    ]
    threshold = float(thresholds[np.argmax(used)])
    path = export(
        model, tmp_path / "m", exit_threshold=threshold, signatures=["early_exit"]
    )
    found = signatures(path)["early_exit"](images=images)
    wanted, steps = kfeedback.early_exit(model, threshold).predict(images)
    assert set(steps.tolist()) == {1, 2, 3}
    np.testing.assert_array_equal(found["timesteps"], steps)
    np.testing.assert_allclose(found["probabilities"], wanted, atol=1e-6)


def test_labels_logits_and_names(tmp_path):
    model = logits()
    names = ["Katze", "Hund", "Maus", "Bär"]
    path = export(
        model, tmp_path / "m", class_names=names, from_logits=True, top=2, version=7
    )
    assert path == tmp_path / "m" / "7"
    images = harness.random_images((8, 8, 2), 5)
    found = signatures(path)["serving_default"](images=images)
    values = model.predict(images, verbose=0)
    wanted = np.exp(values) / np.exp(values).sum(axis=-1, keepdims=True)
    np.testing.assert_allclose(found["probabilities"], wanted, atol=1e-6)
    best = np.argsort(-wanted, axis=-1)[:, :2]
    labels = [[label.decode() for label in row] for row in found["top_labels"].numpy()]
    assert labels == [[names[n] for n in row] for row in best]
    card = (path / "assets.extra" / "README.md").read_text()
    assert "| `serving_default` | `images` float32 (B, 8, 8, 2) |" in card
    assert 'base_path: "/models/m"' in (tmp_path / "m" / "model.config").read_text()


def logits():
    from tests.models.common import conv_net

    harness.fresh_names()
    return harness.randomize(conv_net(activation=None))


class SaliencyModel(keras.Model):
    """As small as a model that brings an endpoint of its own can be."""

    input_shape = (None, 4, 4, 1)

    def __init__(self):
        super().__init__(name="saliency_model")
        self.classifier = tiny()

    def call(self, images):
        probabilities = self.classifier(images)
        classes = keras.ops.argmax(probabilities, axis=-1, keepdims=True)
        return {
            "probabilities": probabilities,
            "top_classes": keras.ops.cast(classes, "int32"),
            "saliency": keras.ops.abs(images),
        }

    def serving_endpoints(self):
        return {"saliency": self.call}


def test_a_model_brings_endpoints_of_its_own(tmp_path):
    model = SaliencyModel()
    images = harness.random_images((4, 4, 1), 5)
    wanted = model(images)
    names = ["a", "b", "c"]
    path = export(model, tmp_path / "m", class_names=names)
    saliency, default = (
        {key: value.numpy() for key, value in serve(images=images).items()}
        for serve in map(signatures(path).get, ("saliency", "serving_default"))
    )
    assert set(saliency) == {"probabilities", "saliency", "top_classes", "top_labels"}
    np.testing.assert_allclose(saliency["saliency"], np.abs(images))
    classes = np.asarray(wanted["top_classes"])
    np.testing.assert_array_equal(saliency["top_classes"], classes)
    assert saliency["top_labels"][:, 0].tolist() == [
        names[n].encode() for n in classes[:, 0]
    ]
    np.testing.assert_allclose(
        default["probabilities"], wanted["probabilities"], atol=1e-6
    )
    assert set(default) == {
        *("probabilities", "top_classes", "top_labels", "top_scores"),
    }
    with pytest.raises(ValueError, match="graph of layers"):
        kfeedback.serving.export_file(model, tmp_path / "m.onnx")


@pytest.mark.parametrize("mode", ["scale", "center", lambda images: images / 255])
def test_images_are_not_prepared_twice(tmp_path, mode):
    with pytest.raises(ValueError) as error:
        export(feedback_cnn(), tmp_path / "m", preprocessing=mode)
    harness.assert_one_sentence(error.value, "preprocessing must be None or 'none' for")
    assert "'feedback_cnn' does" in str(error.value)
    assert not list(tmp_path.iterdir())


def test_chooses_signatures(tmp_path):
    model = kfeedback.LRNet(
        LeNet(input_shape=(16, 16, 1), classes=4), timesteps=2, return_sequences=True
    )
    path = export(model, tmp_path / "all", preprocessing="scale")
    everything = {"serving_default", "image_bytes", "timesteps", "early_exit"}
    assert set(signatures(path)) == everything
    path = export(model, tmp_path / "some", signatures=["timesteps"])
    assert set(signatures(path)) == {"serving_default", "timesteps"}
    path = export(tiny(), tmp_path / "tiny")
    assert set(signatures(path)) == {"serving_default"}


@pytest.mark.parametrize(
    "name, reason",
    [
        ("image_bytes", "preprocessing must be known for it"),
        ("timesteps", "return_sequences=True"),
        ("early_exit", "all its timesteps"),
        ("saliency", "signatures must be some of serving_default"),
    ],
)
def test_refuses_signatures_with_the_reason(tmp_path, name, reason):
    with pytest.raises(ValueError, match=reason) as error:
        export(tiny(), tmp_path / "m", signatures=[name])
    assert str(error.value).startswith("signatures must be")
    assert not (tmp_path / "m").exists()


@pytest.mark.parametrize(
    "argument, value",
    [
        ("version", 0),
        ("version", "1"),
        ("version", 2**63),
        ("preprocessing", "sacle"),
        ("class_names", ["a", "b"]),
        ("top", 0),
        ("crop_fraction", 1.5),
        ("exit_threshold", 0),
        ("keep", 0),
        ("warmup_batches", [0]),
        ("base_dir", "a\\b"),
        ("base_dir", "a[1]"),
        ("base_dir", 'a "b"'),
        ("base_dir", "/"),
    ],
)
def test_refuses_arguments(tmp_path, argument, value):
    arguments = {"base_dir": "m", argument: value}
    arguments["base_dir"] = tmp_path / arguments["base_dir"]
    with pytest.raises(ValueError) as error:
        kfeedback.serving.export(tiny(), **{"warmup_batches": (), **arguments})
    harness.assert_one_sentence(error.value, argument)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "argument, value",
    [
        ("class_names", "abc"),
        ("class_names", ["a", None, "c"]),
        ("class_names", {"a": 0, "b": 1, "c": 2}),
        ("signatures", "timesteps"),
        ("signatures", [1]),
        ("warmup_batches", 8),
    ],
)
def test_refuses_what_is_no_list(tmp_path, argument, value):
    with pytest.raises(TypeError) as error:
        export(tiny(), tmp_path / "m", **{argument: value})
    harness.assert_one_sentence(error.value, argument)
    assert not (tmp_path / "m").exists()


def test_refuses_logits_of_a_model_that_brings_endpoints(tmp_path):
    with pytest.raises(ValueError, match="from_logits must be False"):
        export(SaliencyModel(), tmp_path / "m", from_logits=True)


def test_refuses_preprocessing_to_another_shape(tmp_path):
    with pytest.raises(ValueError) as error:
        export(tiny(), tmp_path / "m", preprocessing=lambda images: images[:, :2])
    harness.assert_one_sentence(error.value, "preprocessing must give images (4, 4, 1)")


@pytest.mark.parametrize(
    "factory, kwargs, kind",
    [
        (lambda: "lenet", {}, TypeError),
        (logits, {}, ValueError),
        (tiny, {"from_logits": True}, ValueError),
        (lambda: lrnet(include_top=False), {}, ValueError),
        (lambda: keras.Sequential([keras.layers.Dense(3)]), {}, ValueError),
    ],
    ids=["name", "logits", "no logits", "features", "unbuilt"],
)
def test_refuses_models(tmp_path, factory, kwargs, kind):
    with pytest.raises(kind) as error:
        export(factory(), tmp_path / "m", **kwargs)
    assert str(error.value).startswith(f"{next(iter(kwargs), 'model')} must")
    assert not (tmp_path / "m").exists()


def test_python_in_the_graph_is_refused(tmp_path):
    import tensorflow as tf

    def preprocessing(images):
        return tf.numpy_function(lambda x: x / 255, [images], tf.float32)

    with pytest.raises(ValueError, match="neither read nor write, got PyFunc"):
        export(tiny(), tmp_path / "m", preprocessing=preprocessing)
    assert not list((tmp_path / "m").iterdir())


def test_what_answers_otherwise_is_refused(tmp_path, monkeypatch):
    import tensorflow as tf

    load = tf.saved_model.load

    def load_other_weights(path):
        loaded = load(path)
        loaded.variables[0].assign(tf.zeros_like(loaded.variables[0]))
        return loaded

    monkeypatch.setattr(tf.saved_model, "load", load_other_weights)
    with pytest.raises(ValueError, match="must give the same probabilities"):
        export(tiny(), tmp_path / "m")
    assert not list((tmp_path / "m").iterdir())


def test_xla(tmp_path):
    model = make(lrnet, timesteps=2)
    path = export(model, tmp_path / "m", jit_compile=True, signatures=["timesteps"])
    images = harness.random_images((8, 8, 2), 3)
    found = signatures(path)["timesteps"](images=images)["probabilities"]
    np.testing.assert_allclose(found, model.predict(images, verbose=0), atol=1e-6)
    graph = (path / "saved_model.pb").read_bytes()
    assert b"_XlaMustCompile" in graph


def test_another_backend_is_told_the_way(monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    with pytest.raises(ValueError, match="KERAS_BACKEND must be tensorflow"):
        kfeedback.serving.export  # noqa: B018
