"""The endpoint `image_bytes` against loading, resizing and preprocessing in Python."""

import importlib

import keras
import numpy as np
import pytest

import kfeedback
from kfeedback.preprocessing import preprocess_input
from tests import harness
from tests.serving.images import decode, encode, photographs

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="TensorFlow's affair"
)
SIZE = (20, 28)


def network(channels, scale=1.0):
    """One whose probabilities depend on every pixel, for inputs of that scale."""
    harness.fresh_names()
    image = keras.Input((*SIZE, channels))
    x = keras.layers.Conv2D(6, 3, activation="relu", name="conv")(image)
    x = keras.layers.Flatten()(x)
    x = keras.layers.Dense(5, activation="softmax", name="predictions")(x)
    model = harness.randomize(keras.Model(image, x, name="net"))
    kernel = model.get_layer("conv").kernel
    kernel.assign(kernel / scale)
    return model


def resize(image, crop_fraction):
    """As `kfeedback.datasets.load` does it, here after a crop."""
    import tensorflow as tf

    if crop_fraction is not None:
        height, width = image.shape[:2]
        scale = min(height / SIZE[0], width / SIZE[1]) * crop_fraction
        box = [max(1, round(side * scale)) for side in SIZE]
        top, left = (height - box[0]) // 2, (width - box[1]) // 2
        image = image[top : top + box[0], left : left + box[1]]
    image = tf.image.resize(image, SIZE, antialias=True)
    return tf.saturate_cast(tf.round(image), tf.uint8).numpy()


@pytest.mark.parametrize(
    "channels, mode, crop_fraction",
    [(3, "torch", None), (1, "center", None), (3, "caffe", 0.8)],
    ids=["color", "gray", "cropped"],
)
def test_equals_loading_resizing_and_preprocessing(
    tmp_path, channels, mode, crop_fraction
):
    pytest.importorskip("PIL")
    pytest.importorskip("skimage")
    import tensorflow as tf

    model = network(channels, scale=64 if mode == "caffe" else 1)
    path = kfeedback.serving.export(
        model,
        tmp_path / "m",
        preprocessing=mode,
        crop_fraction=crop_fraction,
        warmup_batches=(),
    )
    files = [
        encode(image, ("JPEG", "PNG")[n // 6 % 2])
        for n, image in enumerate(photographs(50))
    ]
    images = [resize(decode(file, channels), crop_fraction) for file in files]
    wanted = model.predict(preprocess_input(np.stack(images), mode), verbose=0)
    assert np.ptp(wanted, axis=0).min() > 0.1, "the network sees little"
    serve = tf.saved_model.load(str(path)).signatures["image_bytes"]
    found = serve(image_bytes=tf.constant(files))["probabilities"]
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-4)
    # The other endpoint takes what the files hold once they have been resized.
    serve = tf.saved_model.load(str(path)).signatures["serving_default"]
    pixels = serve(images=np.stack(images).astype("float32"))["probabilities"]
    np.testing.assert_allclose(found, pixels, rtol=0, atol=1e-6)


def test_takes_a_function_for_preprocessing(tmp_path):
    import tensorflow as tf

    images = np.random.default_rng(0).integers(0, 256, (30, *SIZE, 1)).astype("float32")
    zca = kfeedback.preprocessing.ZCAWhitening().fit(images)
    model = network(1)
    path = kfeedback.serving.export(
        model, tmp_path / "m", preprocessing=zca, warmup_batches=()
    )
    files = tf.constant(
        [tf.io.encode_png(tf.cast(x, tf.uint8)).numpy() for x in images[:4]]
    )
    serve = tf.saved_model.load(str(path)).signatures["image_bytes"]
    wanted = model.predict(zca(images[:4]), verbose=0)
    found = serve(image_bytes=files)["probabilities"]
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5)


def test_a_crop_has_the_pixels_of_a_crop_of_the_data():
    """0.7 · 345 is 241.49…, which float32 rounds to 241.5."""
    import tensorflow as tf

    module = importlib.import_module("kfeedback.serving._image_bytes")
    image = np.arange(345 * 345, dtype="int32").reshape(345, 345, 1)
    found = module._crop(tf.constant(image), tf.constant([345, 345]), 1.0, 0.7)
    np.testing.assert_array_equal(found, image[52:293, 52:293])


@pytest.mark.parametrize(
    "more", [{}, {"preprocessing": "scale", "signatures": ["serving_default"]}]
)
def test_a_crop_that_nothing_would_do_is_refused(tmp_path, more):
    with pytest.raises(ValueError) as error:
        kfeedback.serving.export(
            network(1), tmp_path / "m", crop_fraction=0.875, warmup_batches=(), **more
        )
    harness.assert_one_sentence(error.value, "crop_fraction must be None where no")
    assert str(error.value).endswith("got 0.875.")
    assert not list(tmp_path.iterdir())
