import os
import subprocess
import sys

import keras
import numpy as np
import pytest

from kfeedback import preprocessing
from kfeedback.preprocessing import ZCAWhitening, global_contrast_normalization


def photos(count=6, shape=(5, 4, 3), seed=0):
    return np.random.default_rng(seed).uniform(0, 255, (count, *shape))


def correlated(count=4000, shape=(3, 4, 2), seed=0):
    """Images whose pixels depend on each other."""
    rng = np.random.default_rng(seed)
    size = int(np.prod(shape))
    mixing = rng.normal(size=(size, size)) + np.eye(size)
    rows = rng.normal(size=(count, size)) @ mixing + rng.normal(size=size)
    return rows.reshape(count, *shape).astype(np.float32)


def under_tf_data(function, images):
    tf = pytest.importorskip("tensorflow")
    if keras.backend.backend() != "tensorflow":
        pytest.skip("tf.data needs the TensorFlow backend")
    dataset = tf.data.Dataset.from_tensor_slices(images).batch(4).map(function)
    return np.concatenate(list(dataset.as_numpy_iterator()))


@pytest.mark.parametrize("scale", [55.0, 1])
def test_gcn_follows_its_equation(scale):
    images = photos()
    expected = []
    for image in images:
        centered = image - image.mean()
        expected.append(scale * centered / np.sqrt((centered**2).sum()))
    found = global_contrast_normalization(images, scale=scale)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_gcn_of_a_constant_image_is_zero():
    images = np.stack([np.full((4, 4, 3), 77.0), np.zeros((4, 4, 3))])
    np.testing.assert_array_equal(global_contrast_normalization(images), 0 * images)


def test_gcn_of_nearly_constant_images_divides_by_epsilon():
    images = np.zeros((1, 1, 2, 1), np.float32)
    images[0, 0, 0, 0] = 2e-3
    found = global_contrast_normalization(images, scale=1.0, epsilon=1.0)
    np.testing.assert_allclose(found.ravel(), [1e-3, -1e-3], rtol=1e-5)


def test_gcn_of_tensors_is_the_same():
    images = photos().astype(np.float32)
    expected = global_contrast_normalization(images)
    tensor = keras.ops.convert_to_tensor(images)
    found = global_contrast_normalization(tensor)
    assert not isinstance(found, np.ndarray)
    found = keras.ops.convert_to_numpy(found)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_both_inside_tf_data():
    images = correlated(10)
    zca = ZCAWhitening().fit(images)
    for function in (global_contrast_normalization, zca):
        np.testing.assert_allclose(
            under_tf_data(function, images), function(images), rtol=1e-4, atol=1e-4
        )


def test_gcn_takes_uint8_and_leaves_it_alone():
    images = photos().astype(np.uint8)
    before = images.copy()
    found = global_contrast_normalization(images)
    np.testing.assert_array_equal(images, before)
    np.testing.assert_array_equal(
        found, global_contrast_normalization(images.astype(np.float32))
    )


@pytest.mark.parametrize(
    ("images", "arguments", "match"),
    [
        (photos()[0], {}, r"\(B, H, W, C\)"),
        (photos(), {"scale": 0.0}, "scale must be a number > 0"),
        (photos(), {"scale": float("nan")}, "scale must be a number > 0"),
        (photos(), {"epsilon": -1e-8}, "epsilon must be a number > 0"),
    ],
)
def test_gcn_refuses(images, arguments, match):
    with pytest.raises(ValueError, match=match):
        global_contrast_normalization(images, **arguments)


@pytest.mark.parametrize("count", [4000, 5000])  # one block of rows, and two
def test_zca_whitens(count):
    images = correlated(count)
    before = images.copy()
    zca = ZCAWhitening().fit(images, epsilon=1e-6)
    white = zca(images)
    np.testing.assert_array_equal(images, before)
    assert white.shape == images.shape and white.dtype == np.float32
    rows = white.reshape(count, -1).astype(np.float64)
    np.testing.assert_allclose(rows.mean(axis=0), 0, atol=1e-3)
    np.testing.assert_allclose(rows.T @ rows / count, np.eye(24), atol=2e-3)


def test_zca_follows_its_equation():
    images = correlated(50)
    rows = images.reshape(50, -1).astype(np.float64)
    centered = rows - rows.mean(axis=0)
    # By the singular values of the images instead of the covariance's eigenvalues.
    _, values, vectors = np.linalg.svd(centered, full_matrices=False)
    matrix = vectors.T @ np.diag((values**2 / 50 + 0.1) ** -0.5) @ vectors
    zca = ZCAWhitening().fit(images)
    assert zca.epsilon == 0.1
    np.testing.assert_allclose(zca.matrix, matrix, atol=1e-4)
    np.testing.assert_allclose(
        zca(images[:7]).reshape(7, -1), (centered @ matrix)[:7], atol=1e-3
    )


def test_zca_of_one_image_equals_zca_of_the_batch():
    images = correlated(8)
    zca = ZCAWhitening().fit(images)
    singles = np.concatenate([zca(images[i : i + 1]) for i in range(8)])
    np.testing.assert_allclose(singles, zca(images), atol=1e-5)


def test_zca_of_tensors_is_the_same():
    images = correlated(8)
    zca = ZCAWhitening().fit(images)
    found = keras.ops.convert_to_numpy(zca(keras.ops.convert_to_tensor(images)))
    np.testing.assert_allclose(found, zca(images), atol=1e-4)


def test_zca_survives_a_file(tmp_path):
    images = correlated(30)
    zca = ZCAWhitening().fit(images, epsilon=0.2)
    zca.save(tmp_path / "zca.npz")
    loaded = ZCAWhitening.load(tmp_path / "zca.npz")
    assert loaded.epsilon == 0.2
    np.testing.assert_array_equal(loaded(images), zca(images))


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"extra": np.zeros(1)}, "must hold the arrays"),
        ({"mean": None}, "must hold the arrays"),
        ({"mean": np.zeros((3, 4, 1))}, "of the shapes"),
        ({"matrix": np.zeros((24, 24), int)}, "floating point"),
        ({"matrix": np.arange(576.0).reshape(24, 24)}, "symmetric"),
        ({"matrix": np.full((24, 24), np.nan)}, "finite"),
        ({"epsilon": np.float64(0)}, "positive"),
        ({"epsilon": np.ones(1)}, "of the shapes"),
        ({"mean": np.array([{}], object)}, "pickle"),
    ],
)
def test_zca_refuses_files(tmp_path, change, match):
    zca = ZCAWhitening().fit(correlated(30))
    arrays = {"mean": zca.mean, "matrix": zca.matrix, "epsilon": np.float64(0.1)}
    arrays = {k: v for k, v in {**arrays, **change}.items() if v is not None}
    np.savez(tmp_path / "zca.npz", **arrays)
    with pytest.raises(ValueError, match=match):
        ZCAWhitening.load(tmp_path / "zca.npz")


def test_zca_refuses_images():
    with pytest.raises(ValueError, match="two images or more"):
        ZCAWhitening().fit(correlated(1))
    with pytest.raises(ValueError, match="epsilon must be a number > 0"):
        ZCAWhitening().fit(correlated(5), epsilon=0)
    with pytest.raises(ValueError, match="finite"):
        ZCAWhitening().fit(correlated(5) * np.nan)
    with pytest.raises(ValueError, match="no statistics"):
        ZCAWhitening()(correlated(5))
    with pytest.raises(ValueError, match=r"shape \(3, 4, 2\), got \(5, 4, 3, 2\)"):
        ZCAWhitening().fit(correlated(5))(correlated(5, (4, 3, 2)))


@pytest.mark.parametrize(
    ("mode", "low", "high"),
    [("scale", 0, 1), ("center", -1, 1), ("none", 0, 255)],
)
def test_preprocess_input_maps_the_range_and_leaves_its_argument(mode, low, high):
    images = np.zeros((1, 2, 2, 3), np.float32)
    images[..., 1] = 255
    kept = images.copy()
    result = preprocessing.preprocess_input(images, mode)
    assert (result.min(), result.max()) == (low, high)
    assert result is not images
    np.testing.assert_array_equal(images, kept)


@pytest.mark.parametrize(
    ("mode", "application"), [("caffe", "vgg16"), ("torch", "densenet")]
)
def test_preprocess_input_equals_keras_applications(mode, application):
    images = np.random.default_rng(0).uniform(0, 255, (2, 4, 4, 3)).astype("float32")
    theirs = getattr(keras.applications, application).preprocess_input
    np.testing.assert_allclose(
        preprocessing.preprocess_input(images, mode), theirs(images.copy()), atol=1e-5
    )


def test_preprocess_input_refuses():
    with pytest.raises(ValueError, match=r"^mode must be one of .* got 'tensor'\.$"):
        preprocessing.preprocess_input(np.zeros((1, 2, 2, 3)), "tensor")
    for mode in ("caffe", "torch"):
        with pytest.raises(ValueError, match="3 channels"):
            preprocessing.preprocess_input(np.zeros((1, 2, 2, 1)), mode)


@pytest.mark.parametrize("contents", [b"", b"text", b"PK\3\4 cut", None])
def test_a_damaged_file_is_named(tmp_path, contents):
    path = tmp_path / "zca.npz"
    if contents is not None:
        path.write_bytes(contents)
    with pytest.raises(ValueError, match=r"path must be .*undamaged .*zca\.npz"):
        ZCAWhitening.load(path)


def test_decode_predictions_takes_the_last_timestep():
    sequence = np.array([[[0.7, 0.2, 0.1], [0.1, 0.3, 0.6]]])
    decoded = preprocessing.decode_predictions(sequence, 2, ["cat", "dog", "owl"])
    assert decoded == [[("owl", 0.6), ("dog", 0.3)]]
    assert preprocessing.decode_predictions(sequence[:, 0], 1) == [[("0", 0.7)]]


def test_one_sigmoid_has_two_names():
    decode = preprocessing.decode_predictions
    for p in (np.array([[0.75], [0.125]]), np.array([[[0.5], [0.75]], [[1], [0.125]]])):
        assert decode(p) == [[("1", 0.75), ("0", 0.25)], [("0", 0.875), ("1", 0.125)]]
        assert decode(p, 1, ["no", "yes"]) == [[("yes", 0.75)], [("no", 0.875)]]
        with pytest.raises(ValueError, match="class_names must be 2 names"):
            decode(p, 1, ["yes"])
    with pytest.raises(ValueError, match=r"predictions .* from 0 to 1, .* got -0.5 to"):
        decode(np.array([[-0.5], [3.0]]))


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ((np.zeros(3),), "predictions"),
        ((np.zeros((1, 3)), 0), "top"),
        ((np.zeros((1, 3)), 1, ["a"]), "class_names"),
    ],
)
def test_decode_predictions_refuses(arguments, match):
    with pytest.raises(ValueError, match=match):
        preprocessing.decode_predictions(*arguments)


def test_zca_of_no_images_is_none():
    fitted = ZCAWhitening().fit(correlated(5))
    assert fitted(correlated(5)[:0]).shape == (0, 3, 4, 2)


def test_torch_turns_the_channels_around():
    pytest.importorskip("torch")
    code = """
import numpy as np
from keras import ops
from kfeedback.preprocessing import preprocess_input
images = np.arange(24, dtype="float32").reshape(2, 2, 2, 3)
found = preprocess_input(ops.convert_to_tensor(images), "caffe")
wanted = preprocess_input(images, "caffe")
np.testing.assert_array_equal(ops.convert_to_numpy(found), wanted)
"""
    environment = {**os.environ, "KERAS_BACKEND": "torch"}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)
