import numpy as np
import pytest

from kfeedback.datasets import backgrounds


def digits(count, seed=0):
    rng = np.random.default_rng(seed)
    images = np.zeros((count, 28, 28), np.uint8)
    images[:, 8:20, 8:20] = rng.integers(0, 256, (count, 12, 12))
    images[:, 0, 0] = np.arange(count) % 256
    return images, np.arange(count) % 10


def photographs(seed=0):
    """One textured photograph, one that is flat in its upper half."""
    rng = np.random.default_rng(seed)
    textured = rng.integers(0, 200, (60, 70), dtype=np.uint8)
    half = rng.integers(0, 200, (80, 40), dtype=np.uint8)
    half[:40] = 100
    return [textured, half]


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(backgrounds, "TRAIN_EXAMPLES", 30)
    monkeypatch.setattr(backgrounds, "TEST_EXAMPLES", 50)


def test_the_wheels_carry_the_photographs():
    read = backgrounds.load_photographs()
    assert len(read) == sum(len(names) for _, names in backgrounds.PHOTOGRAPHS.values())
    for photograph in read:
        assert photograph.dtype == np.uint8 and photograph.ndim == 2
        assert min(photograph.shape) >= 300


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(
        backgrounds.PHOTOGRAPHS, "no_such_package", ("data", ("a.png",))
    )
    with pytest.raises(ImportError, match=r"no_such_package.*kfeedback\[data\]"):
        backgrounds.load_photographs()


def test_a_missing_photograph_is_named(monkeypatch):
    monkeypatch.setitem(backgrounds.PHOTOGRAPHS, "skimage", ("data", ("nothing.png",)))
    with pytest.raises(ImportError, match=r"skimage.*nothing\.png"):
        backgrounds.load_photographs()


def test_patches_are_seeded_textured_and_from_the_photographs():
    pictures = photographs()
    draw = [
        backgrounds.draw_patches(pictures, 200, np.random.default_rng(seed))
        for seed in (1, 1, 2)
    ]
    assert draw[0].shape == (200, 28, 28) and draw[0].dtype == np.uint8
    np.testing.assert_array_equal(draw[0], draw[1])
    assert not np.array_equal(draw[0], draw[2])
    variance = draw[0].reshape(200, -1).astype(np.float64).var(axis=1)
    assert variance.min() >= backgrounds.MIN_PATCH_VARIANCE
    windows = {
        window.tobytes()
        for p in pictures
        for window in np.lib.stride_tricks.sliding_window_view(p, (28, 28)).reshape(
            -1, 28, 28
        )
    }
    assert all(patch.tobytes() in windows for patch in draw[0])


def test_patches_below_the_variance_are_drawn_again(monkeypatch):
    # Checkerboards of amplitude a have the variance a squared: 19**2 < 400 < 21**2.
    board = np.indices((28, 28)).sum(axis=0) % 2 * 2 - 1
    below, above = ((100 + a * board).astype(np.uint8) for a in (19, 21))
    drawn = backgrounds.draw_patches([below, above], 50, np.random.default_rng(0))
    np.testing.assert_array_equal(drawn, np.broadcast_to(above, (50, 28, 28)))


def test_flat_photographs_are_refused(monkeypatch):
    monkeypatch.setattr(backgrounds, "_DRAWS", 5)
    with pytest.raises(ValueError, match="too few patches"):
        backgrounds.draw_patches(
            [np.full((40, 40), 7, np.uint8)], 3, np.random.default_rng(0)
        )


def test_the_brighter_pixel_wins():
    digit = np.array([[[0, 10, 255]]], np.uint8)
    patch = np.array([[[5, 200, 254]]], np.uint8)
    np.testing.assert_array_equal(backgrounds.compose(digit, patch), [[[5, 200, 255]]])


def test_splits_hold_every_digit_at_most_once(small):
    images, labels = digits(100)
    composed = backgrounds.compose_splits(images, labels, 3, photographs())
    again = backgrounds.compose_splits(images[..., None], labels, 3, photographs())
    other = backgrounds.compose_splits(images, labels, 4, photographs())
    seen = []
    for split, count in (("train", 30), ("test", 50)):
        x, y = composed[split]
        assert x.shape == (count, 28, 28, 1) and x.dtype == np.uint8
        assert y.shape == (count,) and y.dtype == np.int32
        np.testing.assert_array_equal(x, again[split][0])
        np.testing.assert_array_equal(y, again[split][1])
        assert not np.array_equal(x, other[split][0])
        for image, label in zip(x[..., 0], y, strict=True):
            # No patch reaches 200, so the pixels from there on tell the digits apart.
            bright = image >= 200
            match = [
                i
                for i in range(100)
                if np.array_equal(images[i] >= 200, bright)
                and np.array_equal(images[i][bright], image[bright])
            ]
            assert len(match) == 1 and labels[match[0]] == label
            assert (image >= images[match[0]]).all()
            seen += match
    assert len(set(seen)) == 80


@pytest.mark.parametrize(
    ("images", "labels", "match"),
    [
        (np.zeros((79, 28, 28), np.uint8), np.zeros(79, int), "at least 80"),
        (np.zeros((80, 28, 28), np.uint8), np.zeros(79, int), "got 80 and 79"),
        (np.zeros((80, 28, 28), np.float32), np.zeros(80, int), "uint8"),
        (np.zeros((80, 27, 28), np.uint8), np.zeros(80, int), "28 by 28"),
    ],
)
def test_wrong_digits_are_refused(small, images, labels, match):
    with pytest.raises(ValueError, match=match):
        backgrounds.compose_splits(images, labels, photographs=photographs())
