"""Requests that are wrong: each gets an error that says so, none ends the process."""

import keras
import numpy as np
import pytest

import kfeedback
from applications.common.bare_process import ask
from kfeedback.models.backbones import LeNet
from tests import harness
from tests.serving import session
from tests.serving.common import tiny
from tests.serving.images import black_png, chunk, encode

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="TensorFlow's affair"
)
PIL = pytest.importorskip("PIL")


def spoilt(value):
    images = np.zeros((2, 16, 16, 1), "float32")
    images[1, 3, 5, 0] = value
    return images


def objects(*values):
    return np.array(values, dtype=object)


NOISE = np.random.default_rng(0).integers(0, 256, (40, 50), dtype=np.uint8)
JPEG, PNG = encode(NOISE, "JPEG"), encode(NOISE, "PNG")
IMAGES = {
    "rank 3": (np.zeros((16, 16, 1), "float32"), "not compatible with expected shape"),
    "rank 5": (np.zeros((1, 1, 16, 16, 1), "float32"), "[1,1,16,16,1]"),
    "a number": (np.float32(3), "not compatible with expected shape [?,16,16,1]"),
    "wrong size": (np.zeros((1, 16, 15, 1), "float32"), "[1,16,15,1]"),
    "channels": (np.zeros((1, 16, 16, 3), "float32"), "[1,16,16,3]"),
    "0×0": (np.zeros((1, 0, 0, 1), "float32"), "[1,0,0,1]"),
    "float64": (np.zeros((1, 16, 16, 1)), "double"),
    "uint8": (np.zeros((1, 16, 16, 1), "uint8"), "uint8"),
    "text": (objects(b"cat"), "string"),
    "NaN": (spoilt(np.nan), "images must be finite numbers"),
    "infinite": (spoilt(-np.inf), "images must be finite numbers"),
    "overflow": (spoilt(3e38), None),
    "empty batch": (np.zeros((0, 16, 16, 1), "float32"), None),
}
FILES = {
    "truncated JPEG": (objects(JPEG[: len(JPEG) // 2]), "Invalid JPEG"),
    "start of a JPEG": (objects(JPEG[:20]), "Invalid JPEG"),
    "truncated PNG": (objects(PNG[: len(PNG) // 2]), "PNG"),
    "start of a PNG": (objects(PNG[:12]), "image_bytes must be complete"),
    "mark of a PNG": (objects(PNG[:8]), "image_bytes must be complete"),
    "wide PNG": (objects(black_png(30_000, 8)), "[8 30000]"),
    "huge PNG": (objects(black_png(16_000, 16_000)), "[16000 16000]"),
    "text file": (objects(b"a cat on a mat"), "[a cat on a mat]"),
    "bytes": (objects(b"\xff\xfe\x00\xc3"), "must be JPEG or PNG"),
    "GIF": (objects(b"GIF89a" + bytes(30)), "must be JPEG or PNG"),
    "late size": (
        objects(PNG[:8] + chunk(b"abCd", bytes(8)) + black_png(30_000, 8)[8:]),
        "image_bytes must be complete",
    ),
    "nothing": (objects(b""), "must be JPEG or PNG"),
    "one of two": (objects(PNG, b"cat"), "must be JPEG or PNG"),
    "rank 2": (np.array([[PNG]], dtype=object), "not compatible"),
    "no batch": (np.array(PNG, dtype=object), "not compatible"),
    "floats": (np.zeros((1, 16, 16, 1), "float32"), "float"),
    "empty batch": (np.zeros([0], dtype=object), None),
}
REQUESTS = [
    *(("serving_default", "images", name, *case) for name, case in IMAGES.items()),
    *(("image_bytes", "image_bytes", name, *case) for name, case in FILES.items()),
]
IN_GRAPH = [x for x in REQUESTS if x[2] not in ("float64", "uint8", "text", "floats")]


def check(name, value, expected, error, outputs):
    if expected is not None:
        assert error is not None, f"{name} was answered: {outputs}"
        assert expected in error, f"{name}: {error}"
    elif name == "empty batch":
        assert error is None, error
        assert {len(x) for x in outputs.values()} == {0}
        assert outputs["probabilities"].shape == (0, 4)
    else:  # a finite answer or an error
        assert error or np.isfinite(outputs["probabilities"]).all()


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    harness.fresh_names()
    model = harness.randomize(LeNet(input_shape=(16, 16, 1), classes=4))
    return kfeedback.serving.export(
        model,
        tmp_path_factory.mktemp("served") / "lenet",
        preprocessing="none",
        warmup_batches=(),
    )


def test_errors_in_this_process(served):
    import tensorflow as tf

    signatures = tf.saved_model.load(str(served)).signatures
    for signature, key, name, value, expected in IN_GRAPH:
        outputs, error = None, None
        try:
            outputs = signatures[signature](**{key: tf.constant(value)})
            outputs = {key: tensor.numpy() for key, tensor in outputs.items()}
        except (tf.errors.InvalidArgumentError, ValueError) as caught:
            error = str(caught)
        check(name, value, expected, error, outputs)


@pytest.mark.slow
def test_each_request_in_a_process_of_its_own(served):
    """As a server's session sees them, with no check in Python before."""
    assert len(REQUESTS) >= 20
    answers = ask(
        [(served, signature, {key: x}) for signature, key, _, x, _ in REQUESTS],
        session.PROGRAM,
    )
    for request, answer in zip(REQUESTS, answers, strict=True):
        ended = session.ENDED in (answer.error or "")
        assert not ended, f"{request[2]} ended the process: {answer}"
        check(*request[2:], answer.error, answer.outputs)


@pytest.mark.slow
def test_an_export_without_checks_would_end_the_process(tmp_path):
    """What the checks are for; if it fails, TensorFlow has mended it."""
    from tests.models.common import conv_net

    path = tmp_path / "plain"
    conv_net().export(str(path), verbose=False)
    request = (path, "serving_default", {"image": np.zeros((8, 8, 2), "float32")})
    (answer,) = ask([request], session.PROGRAM)
    assert f"{session.ENDED} -" in answer.error, answer


def test_any_size(tmp_path):
    image = keras.Input((None, None, 1))
    x = keras.layers.Conv2D(3, 3, padding="same")(image)
    x = keras.layers.GlobalMaxPooling2D()(x)
    model = keras.Model(image, keras.layers.Dense(3, activation="softmax")(x))
    path = kfeedback.serving.export(model, tmp_path / "m", warmup_batches=())
    import tensorflow as tf

    serve = tf.saved_model.load(str(path)).signatures["serving_default"]
    for shape in ((2, 5, 9, 1), (1, 1, 1, 1)):
        images = harness.random_images(shape[1:], shape[0])
        found = serve(images=images)["probabilities"]
        wanted = model.predict(images, verbose=0)
        np.testing.assert_allclose(found, wanted, atol=1e-6)
    with pytest.raises(tf.errors.InvalidArgumentError, match="sides of 1 or more"):
        serve(images=np.zeros((1, 0, 4, 1), "float32"))


def test_own_output_is_checked(tmp_path):
    import tensorflow as tf

    model = tiny()
    kernel = model.weights[0]
    kernel.assign(np.full(kernel.shape, 1e30))
    path = kfeedback.serving.export(model, tmp_path / "m", warmup_batches=())
    serve = tf.saved_model.load(str(path)).signatures["serving_default"]
    with pytest.raises(tf.errors.InvalidArgumentError, match="model stays finite"):
        serve(images=np.full((1, 4, 4, 1), 1e20, "float32"))
