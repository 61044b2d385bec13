"""Augmentation: what it does, and that it is a function of seed, epoch and place."""

import functools

import keras
import numpy as np
import pytest

pytest.importorskip("tensorflow")
import tensorflow as tf

from kfeedback.datasets import ArrayDataset, augmentation, load, load_arrays
from kfeedback.datasets.info import DatasetInfo

NAMES = list(augmentation.AUGMENTATIONS.entries())
MIXING = ["mixup", "cutmix", "fourier_mix"]
RECIPES = {name: {"augment": {name: 0.6}} for name in NAMES}
RECIPES["random_crop"] = {"random_crop": (0.08, 1), "image_size": 20}
RECIPES["center_crop"] = {"center_crop": 0.875, "image_size": 20, "flip": True}
RECIPES["shift_fill"] = {"shift": 3, "shift_fill": "zero", "flip": True}
RECIPES["all"] = {
    **{"random_crop": (0.3, 0.9), "image_size": 20, "flip": True, "shift": 2},
    "augment": {name: 0.6 for name in NAMES if name != "grid_mask"},
}


def epochs(recipe, seed=0, **options):
    """The function of `(epoch, batch)` of 50 images in batches of 8."""
    if "grid_mask" in RECIPES[recipe].get("augment", ()):
        pytest.importorskip("keras_cv")
    arguments = {"batch_size": 8, "shuffle": True, "seed": seed, "by_epoch": True}
    arguments |= RECIPES[recipe] | options
    return load("synthetic", "train[:50]", **arguments)[0]


def arrays(batches):
    return [(x.numpy(), y.numpy()) for x, y in batches]


@functools.cache
def third(recipe):
    """The batches of its third epoch."""
    keras.utils.set_random_seed(1)
    return arrays(epochs(recipe)(2))


@functools.cache
def plain():
    """The images as they are."""
    return arrays(load("synthetic", "train[:50]", batch_size=8)[0])


def assert_same(found, expected):
    for one, other in zip(found, expected, strict=True):
        for a, b in zip(one, other, strict=True):
            assert a.dtype == b.dtype
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("recipe", RECIPES)
def test_what_is_left_of_an_epoch_is_what_it_was(recipe):
    """Also in a process whose global seed is another, under another policy."""
    whole = third(recipe)
    keras.utils.set_random_seed(2)
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        again = epochs(recipe)
        again(0)
        assert_same(arrays(again(2, 3)), whole[3:])
    finally:
        keras.config.set_dtype_policy(policy)
    assert whole[0][0].dtype == np.float32 and len(whole[-1][0]) == 2
    assert whole[0][0].min() >= 0 and whole[0][0].max() <= 255


@pytest.mark.parametrize("recipe", RECIPES)
def test_channels_are_last_whatever_keras_is_told(recipe):
    expected = third(recipe)
    keras.config.set_image_data_format("channels_first")
    try:
        assert_same(arrays(epochs(recipe)(2)), expected)
    finally:
        keras.config.set_image_data_format("channels_last")


@pytest.mark.parametrize("recipe", sorted(RECIPES.keys() - {"center_crop", "all"}))
def test_epochs_batches_and_seeds_differ_in_more_than_order(recipe):
    """Without shuffling, one image comes at one place."""
    found = epochs(recipe, shuffle=False)
    first, second = arrays(found(0)), arrays(found(1))
    other = arrays(epochs(recipe, seed=1, shuffle=False)(0))
    for changed in (second, other):
        same = [np.array_equal(a[0], b[0]) for a, b in zip(first, changed, strict=True)]
        assert sum(same) <= 1
    if first[0][0].shape == plain()[0][0].shape:
        moved = [np.abs(a[0] - b[0]) for a, b in zip(first, plain(), strict=True)]
        assert len({float(m.mean()) for m in moved}) == len(moved)


def test_streamed_and_in_any_number_of_parts(folder):
    def found(**options):
        arguments = {"batch_size": 3, "shuffle": True, "image_size": 6}
        arguments |= {"by_epoch": True, "random_crop": (0.2, 0.8), "flip": True}
        augment = {"color_jitter": 0.4, "cutmix": 1}
        arguments |= {"augment": augment}
        return load(folder, "train", **arguments | options)[0]

    shape = found()(0).element_spec[0].shape
    assert shape.as_list() == [None, 6, 6, 3]
    whole = arrays(found()(1))
    for batch in range(len(whole) + 1):
        assert_same(arrays(found()(1, batch)), whole[batch:])

    def middle(cache):
        options = {"random_crop": None, "augment": {}, "flip": False, "shuffle": False}
        return arrays(found(**options, center_crop=0.5, cache=cache)(1))

    assert_same(middle(False), middle(True))


@pytest.mark.parametrize("shorter", [85, 345, 640])
def test_a_center_crop_has_the_sides_of_boxes(shorter):
    """0.7 of 345 pixels are 241.49999 and not 241.5, as float32 has it."""
    image = tf.zeros((shorter, shorter + 9, 1), tf.uint8)
    cut = augmentation.center_window(0.7)(image, None)
    assert tuple(cut.shape[:2]) == 2 * (round(0.7 * shorter),)


@pytest.mark.parametrize("fill", ["edge", "zero"])
def test_shifted_images_are_those_of_array_dataset(fill):
    images, labels, _ = load_arrays("synthetic", "train[:50]")
    options = {"shuffle": True, "flip": True, "shift": 5, "shift_fill": fill}
    expected = ArrayDataset(images, labels, 8, **options)
    found, _ = load("synthetic", "train[:50]", batch_size=8, **options)
    assert_same(arrays(found), [expected.batch(0, k) for k in range(7)])
    dark = [(expected.batch(0, k)[0].max((1, 3)) == 0).any() for k in range(7)]
    assert all(dark) == any(dark) == (fill == "zero")


def test_a_random_window_keeps_its_bounds():
    """The pixels of the image say where they are."""
    rows, columns = np.mgrid[:60, :90]
    image = tf.constant(np.stack([rows, columns], -1).astype(np.uint8))
    crop = augmentation.random_window((0.2, 0.5))
    windows = [crop(image, tf.constant(seed)).numpy() for seed in range(200)]
    areas, aspects, corners = [], [], set()
    for window in windows:
        height, width = window.shape[:2]
        top, left = window[0, 0]
        np.testing.assert_array_equal(
            window, image[top : top + height, left : left + width]
        )
        areas.append(height * width / (60 * 90))
        aspects.append(width / height)
        corners.add((top, left))
    assert 0.18 < min(areas) < 0.25 and 0.45 < max(areas) < 0.52
    assert 0.7 < min(aspects) < 0.8 and 1.25 < max(aspects) < 1.42
    assert len(corners) > 150


@pytest.mark.parametrize("shape", [(40, 60), (60, 40), (41, 60)])
def test_the_center_is_the_square_in_the_middle(shape):
    image = np.zeros((*shape, 1), np.uint8)
    side = round(0.5 * min(shape))
    top, left = (shape[0] - side) // 2, (shape[1] - side) // 2
    image[top : top + side, left : left + side] = 1
    found = augmentation.center_window(0.5)(tf.constant(image), None)
    assert found.shape == (side, side, 1) and found.numpy().all()


def test_arrays_are_cropped_before_they_are_resized():
    images, labels, _ = load_arrays("synthetic", "test[:6]")
    found, info = load("synthetic", "test[:6]", image_size=16, center_crop=0.5)
    assert info.image_shape == (16, 16, 3)
    ((batch, read),) = arrays(found)
    np.testing.assert_array_equal(batch, images[:, 8:24, 8:24])
    np.testing.assert_array_equal(read, labels)


def flat_images(augment, count=64):
    """What becomes of images whose pixels are all ten times their class."""
    info = DatasetInfo("", "", count, 20, (64, 64, 3), ("",) * 20)
    apply = augmentation.pipeline(augment, info)
    classes = np.arange(count, dtype=np.int32) % 20
    images = np.zeros((count, 64, 64, 3), np.float32)
    images += 10 * classes[:, None, None, None]
    batch = tf.data.Dataset.from_tensors((images, classes, np.int32(7))).map(apply)
    return arrays(batch)[0]


@pytest.mark.parametrize("name", MIXING)
def test_labels_are_mixed_as_images_are(name):
    images, labels = flat_images({name: 1.0})
    assert labels.dtype == np.float32 and labels.shape == (64, 20)
    np.testing.assert_allclose(labels.sum(1), 1, rtol=1e-5)
    level = labels @ (10 * np.arange(20, dtype=np.float32))
    bound = 190 * 2 / 64 if name == "cutmix" else 1e-3  # its label counts part pixels
    np.testing.assert_allclose(images.mean((1, 2, 3)), level, atol=bound)
    assert (np.count_nonzero(labels, 1) == 2).mean() > 0.8
    levels = [len(np.unique(image)) for image in images]
    assert set(levels) <= ({1} if name == "mixup" else {1, 2})


def test_of_several_that_mix_a_batch_gets_one():
    def kinds(found):
        return {
            "mixup" if all(len(np.unique(i)) == 1 for i in x) else "cutmix"
            for x in found
        }

    images = np.zeros((400, 8, 8, 3), np.float32)
    images += np.arange(400, dtype=np.float32)[:, None, None, None] % 17
    info = DatasetInfo("", "", 400, 20, (8, 8, 3), ("",) * 20)
    apply = augmentation.pipeline({"mixup": 1, "cutmix": 1}, info)
    labels = np.zeros(400, np.int32)
    batches = tf.data.Dataset.from_tensor_slices((images, labels)).batch(20)
    seeds = tf.data.Dataset.range(20).map(lambda n: tf.cast(n, tf.int32))
    found = tf.data.Dataset.zip(batches, seeds).map(lambda b, s: apply(*b, s))
    assert kinds([x for x, _ in arrays(found)]) == {"mixup", "cutmix"}


def test_several_labels_an_image_are_mixed_too():
    info = DatasetInfo("", "", 8, 3, (4, 4, 3), ("",) * 3, multi_label=True)
    apply = augmentation.pipeline({"mixup": 1.0}, info)
    hot = tf.constant(np.eye(8, 3, dtype=np.int32) + np.eye(8, 3, 1, dtype=np.int32))
    batch = (tf.zeros((8, 4, 4, 3)), hot, 3)
    _, labels = next(iter(tf.data.Dataset.from_tensors(batch).map(apply)))
    assert labels.dtype == tf.float32 and np.any(labels % 1)
    # Each is a mean of two: its sum lies between theirs.
    assert np.sum(hot, 1).min() <= np.sum(labels, 1).min()
    assert np.sum(labels, 1).max() <= np.sum(hot, 1).max() + 1e-6


def test_what_colors_and_erasing_change():
    gray, _ = flat_images({"random_erasing": 1.0})
    assert all(1 < len(np.unique(image)) for image in gray)
    images, _, _ = load_arrays("synthetic", "train[:16]")
    info = DatasetInfo("", "", 16, 10, (32, 32, 3), ("",) * 10)
    labels = np.arange(16, dtype=np.int32)
    for name in ("color_jitter", "rand_augment"):
        apply = augmentation.pipeline({name: 0.3}, info)
        batch = (images.astype(np.float32), labels, np.int32(1))
        ((found, kept),) = arrays(tf.data.Dataset.from_tensors(batch).map(apply))
        np.testing.assert_array_equal(kept, labels)
        assert found.shape == images.shape
        assert np.abs(found - images).mean() > 1


def test_contrast_falls_and_rises():
    info = DatasetInfo("", "", 64, 10, (8, 8, 3), ("",) * 10)
    gray = np.random.default_rng(0).normal(128, 10, (64, 8, 8, 1))
    images = np.repeat(gray, 3, -1).astype("float32")
    apply = augmentation.pipeline({"color_jitter": 0.3}, info)
    batch = (images, np.zeros(64, np.int32), np.int32(1))
    ((found, _),) = arrays(tf.data.Dataset.from_tensors(batch).map(apply))
    ratios = found.std((1, 2, 3)) / images.std((1, 2, 3))
    assert 0.69 < ratios.min() < 0.8 and 1.2 < ratios.max() < 1.31


def test_it_is_refused_where_it_would_be_no_function_of_the_seed(monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    with pytest.raises(ValueError, match=r"KERAS_BACKEND is not tensorflow, .* mixup"):
        load("synthetic", "train[:20]", augment={"mixup": 0.2})


def test_a_grid_mask_blackens_each_image_otherwise():
    pytest.importorskip("keras_cv")
    images, _ = flat_images({"grid_mask": 0.5})
    masks = images[1:20, ..., 0] == 0
    assert 0.02 < masks.mean() < 0.5
    assert len({mask.tobytes() for mask in masks}) > 15
    assert set(np.unique(images)) <= {10.0 * k for k in range(20)}


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"augment": {"mixop": 1}}, "names in augment must be one of color_jitter, "),
        ({"augment": {"mixup": 0}}, r"augment\['mixup'\] must be a number > 0 and ≤ 1"),
        ({"augment": {"mixup": "a"}}, r"augment\['mixup'\] must be a number"),
        ({"random_crop": (0.1, 1)}, "image_size must be given"),
        ({"center_crop": 0.5}, "image_size must be given"),
        ({"center_crop": 1.5, "image_size": 8}, "center_crop must be a number > 0"),
        ({"random_crop": (1, 0.1), "image_size": 8}, "random_crop must be .least, m"),
        ({"random_crop": 0.5, "image_size": 8}, "random_crop must be .least, most"),
        ({"random_crop": (0.1, 2), "image_size": 8}, "random_crop must be a number"),
        ({"random_crop": (0.1, 1), "image_size": 8, "cache": True}, "cache must be"),
        ({"shift_fill": "wrap"}, "shift_fill must be one of edge, zero, got 'wrap'"),
    ],
)
def test_wrong_arguments_are_one_sentence(arguments, match):
    with pytest.raises(ValueError, match=match) as caught:
        load("synthetic", "train[:20]", **arguments)
    assert "\n" not in str(caught.value)


def test_gray_images_and_missing_packages_are_refused(monkeypatch):
    with pytest.raises(ValueError, match="augment must leave out 'color_jitter' for"):
        name = "mnist_background_images_sample"
        load(name, "train[:20]", augment={"color_jitter": 0.2})
    monkeypatch.setattr(augmentation.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"needs keras_cv, .*kfeedback\[cv\]"):
        load("synthetic", "train[:20]", augment={"grid_mask": 0.2})
