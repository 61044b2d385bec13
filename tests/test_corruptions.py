import numpy as np
import pytest

from kfeedback import corruptions

CORRUPTIONS = {
    "gaussian_noise": lambda x, **k: corruptions.gaussian_noise(x, 20, 3, **k),
    "rectangles": lambda x, **k: corruptions.occlude(x, (0.2, 0.3), 3, **k),
    "patches": lambda x, **k: corruptions.occlude(
        x, (0.2, 0.3), 3, kind="patches", others=_images(5, seed=9), **k
    ),
    "blur": lambda x, **k: corruptions.blur(x, 1.5),
    "contrast": lambda x, **k: corruptions.contrast(x, 0.4),
    "jpeg": lambda x, **k: corruptions.jpeg(x, 30),
}


def _images(count=6, shape=(16, 20, 3), seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, *shape), np.uint8)


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_the_same_seed_gives_the_same_bytes_in_any_parts(name):
    corrupt, images = CORRUPTIONS[name], _images()
    before = images.copy()
    whole = corrupt(images)
    assert whole.dtype == np.float32 and whole.shape == images.shape
    assert whole.min() >= 0 and whole.max() <= 255
    assert np.array_equal(images, before)
    assert not np.array_equal(whole, images)
    assert corrupt(images).tobytes() == whole.tobytes()
    parts = [corrupt(images[:2]), corrupt(images[2:], first=2)]
    assert np.concatenate(parts).tobytes() == whole.tobytes()


def test_float_images_are_not_changed_in_place():
    images = _images().astype(np.float32)
    before = images.copy()
    for corrupt in CORRUPTIONS.values():
        corrupt(images)
        assert np.array_equal(images, before)


@pytest.mark.parametrize("sigma", [1, 10, 50])
def test_the_measured_sigma_is_the_one_asked_for(sigma):
    images = np.full((40, 32, 32, 3), 128, np.uint8)
    noise = corruptions.gaussian_noise(images, sigma, seed=1, clip=False) - 128
    assert abs(noise.std() / sigma - 1) < 0.02
    assert abs(noise.mean()) < 0.02 * sigma
    # No two images have the same noise, nor two seeds.
    assert len(np.unique(noise[:, 0, 0, 0])) == 40
    other = corruptions.gaussian_noise(images, sigma, seed=2, clip=False) - 128
    assert abs(np.corrcoef(noise.ravel(), other.ravel())[0, 1]) < 0.02


def test_noise_leaves_the_range_only_if_it_may():
    images = np.zeros((4, 16, 16, 1), np.uint8)
    assert corruptions.gaussian_noise(images, 9).min() == 0
    assert corruptions.gaussian_noise(images, 9, clip=False).min() < 0


@pytest.mark.parametrize("kind", corruptions.OCCLUDERS)
@pytest.mark.parametrize("low, high", [(0.1, 0.1), (0.2, 0.25), (0.45, 0.55)])
def test_the_covered_share_is_within_the_bounds(kind, low, high):
    images = np.zeros((1000, 20, 30, 1), np.uint8)
    others = np.full((2, 20, 30, 1), 255, np.uint8)
    random = np.random.default_rng(0)
    sides = random.integers(10, (21, 31), (1000, 2)) // 10 * 10
    starts = random.integers(0, (20, 30) - sides + 1)
    boxes = np.concatenate([starts, starts + sides], axis=1)
    result = corruptions.occlude(
        images,
        (low, high),
        kind=kind,
        boxes=boxes,
        others=others if kind == "patches" else None,
    )
    if kind == "rectangles":  # a color may be black: see where white is hidden too
        result += 255 - corruptions.occlude(
            images + 255, (low, high), kind=kind, boxes=boxes
        )
    covered = result[..., 0] > 0
    for one, (top, left, bottom, right) in zip(covered, boxes, strict=True):
        inside = one[top:bottom, left:right]
        assert low - 1e-9 <= inside.mean() <= high + 1e-9
        assert one.sum() == inside.sum()  # nothing outside the object
        rows, columns = np.nonzero(one)
        ratio = (np.ptp(rows) + 1) / (np.ptp(columns) + 1)
        ratio /= (bottom - top) / (right - left)
        assert 1 / 3.01 < ratio < 3.01


def test_patches_come_from_other_images():
    images = np.repeat(np.arange(5, dtype=np.uint8) * 50, 64).reshape(5, 8, 8, 1)
    for seed in range(20):
        result = corruptions.occlude(images, (0.2, 0.5), seed, kind="patches")
        for image, one in zip(images, result, strict=True):
            assert len(np.unique(one)) == 2
            assert set(np.unique(one)) < set(np.unique(images))
            assert image[0, 0] in one


def test_no_share_covers_nothing_and_all_covers_everything():
    images = _images()
    assert np.array_equal(corruptions.occlude(images, (0, 0)), images)
    covered = corruptions.occlude(images, (1, 1))
    assert (covered.std(axis=(1, 2)) == 0).all()


def test_blur_is_a_gaussian_that_keeps_the_sum():
    image = np.zeros((1, 41, 41, 1), np.float32)
    image[0, 20, 20, 0] = 255
    blurred = corruptions.blur(image, 2.0)
    place = np.arange(41) - 20
    expected = np.exp(-(place[:, None] ** 2 + place**2) / 8) / (2 * np.pi * 4) * 255
    np.testing.assert_allclose(blurred[0, ..., 0], expected, atol=0.01)
    images = _images(2, (5, 3, 2))
    np.testing.assert_allclose(
        corruptions.blur(images, 3.0).mean((1, 2)), images.mean((1, 2)), rtol=1e-4
    )
    assert np.array_equal(corruptions.blur(images, 0), images)


def test_contrast_scales_about_the_mean():
    images = np.array([[[[90.0], [110.0]]]])
    assert corruptions.contrast(images, 0.5).ravel().tolist() == [95, 105]
    assert corruptions.contrast(images, 0).ravel().tolist() == [100, 100]
    assert corruptions.contrast(images, 20).ravel().tolist() == [0, 255]
    assert np.array_equal(corruptions.contrast(images, 1), images)


@pytest.mark.parametrize("value", [127, 129, 253])
def test_contrast_of_a_large_even_image_changes_nothing(value):
    """In float32 the mean of a million equal pixels is another number."""
    images = np.full((1, 1024, 1024, 1), value, np.float32)
    np.testing.assert_array_equal(corruptions.contrast(images, 0.5), images)


def test_a_share_of_whole_pixels_is_not_lost_to_rounding():
    """0.28 * 10 * 10 is a little more than 28."""
    images = np.full((1, 10, 10, 1), 255, np.float32)
    covered = corruptions.occlude(images, (0.28, 0.28), 0)
    assert (covered != images).sum() == 28


@pytest.mark.parametrize("channels", [1, 3])
def test_jpeg_is_worse_for_lower_quality(channels):
    images = corruptions.blur(_images(3, (32, 32, channels)), 1.5)
    errors = [np.abs(corruptions.jpeg(images, q) - images).mean() for q in (95, 50, 5)]
    assert errors[0] < 5 and errors[0] < errors[1] < errors[2]


GOOD = np.zeros((2, 8, 8, 3), np.uint8)
BAD = {
    "sigma": lambda: corruptions.gaussian_noise(GOOD, -1),
    "sigma must be a number ≥ 0": lambda: corruptions.gaussian_noise(GOOD, "big"),
    "sigma must": lambda: corruptions.gaussian_noise(GOOD, float("inf")),
    "seed": lambda: corruptions.gaussian_noise(GOOD, 1, -1),
    "first": lambda: corruptions.gaussian_noise(GOOD, 1, first=0.5),
    "0 to 255, got -1 to 0": lambda: corruptions.blur(
        GOOD.astype(float) - [0, 0, 1], 1
    ),
    "got 0 to 256": lambda: corruptions.jpeg(GOOD + np.array([0, 256, 0]), 9),
    "got nan": lambda: corruptions.contrast(GOOD * np.nan, 1),
    "images must be numbers": lambda: corruptions.contrast(GOOD[0], 1),
    "got <U": lambda: corruptions.contrast(np.array("picture"), 1),
    "share must": lambda: corruptions.occlude(GOOD, (0.3, 0.2)),
    "got 0.3": lambda: corruptions.occlude(GOOD, 0.3),
    "got \\(-0.1": lambda: corruptions.occlude(GOOD, (-0.1, 0.2)),
    "got \\(0.1, 1.1": lambda: corruptions.occlude(GOOD, (0.1, 1.1)),
    "whole pixels": lambda: corruptions.occlude(GOOD, (0.30001, 0.30002)),
    "kind": lambda: corruptions.occlude(GOOD, (0.1, 0.3), kind="circles"),
    "boxes must be whole": lambda: corruptions.occlude(
        GOOD, (0.1, 0.3), boxes=np.zeros((1, 4), int)
    ),
    "boxes must be .top": lambda: corruptions.occlude(
        GOOD, (0.1, 0.3), boxes=np.array([[0, 0, 9, 8]] * 2)
    ),
    "others must be None unless kind is 'patches'": lambda: corruptions.occlude(
        GOOD, (0.1, 0.3), others=GOOD
    ),
    "others must be given": lambda: corruptions.occlude(
        GOOD[:1], (0.1, 0.3), kind="patches"
    ),
    "others must be images": lambda: corruptions.occlude(
        GOOD, (0.1, 0.3), kind="patches", others=GOOD[:, :4]
    ),
    "factor": lambda: corruptions.contrast(GOOD, -0.5),
    "sigma must be a number ≥ 0 and": lambda: corruptions.blur(GOOD, -0.5),
    "quality": lambda: corruptions.jpeg(GOOD, 101),
    "quality must": lambda: corruptions.jpeg(GOOD, 0),
    "channels": lambda: corruptions.jpeg(GOOD[..., :2], 50),
}


@pytest.mark.parametrize("message", BAD)
def test_bad_input_is_one_sentence(message):
    with pytest.raises(ValueError, match=message) as error:
        BAD[message]()
    assert str(error.value).endswith(".") and "\n" not in str(error.value)
