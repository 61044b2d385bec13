import zlib

import numpy as np
import pytest

from kfeedback.datasets import clutter

pytest.importorskip("PIL")


def figures(count=30, classes=5):
    """Bright crosses and bars of several sizes on black, their classes in turn."""
    images = np.zeros((count, 28, 28, 1), np.uint8)
    for n, image in enumerate(images):
        image[5 : 23 - n % 3, 12:16] = 255
        image[12:16, 6 : 8 + 3 * (n % classes)] = 255
    return images, np.arange(count) % classes


@pytest.mark.parametrize("count", [1, 2])
def test_boxes_hold_the_ink_of_figures_apart(count):
    images, labels = figures()
    scenes = list(clutter.compose(images, labels, 60, figures=count, seed=1))
    sides = []
    for scene, placed in scenes:
        assert scene.shape == (64, 64, 1) and scene.dtype == np.uint8
        assert len(placed) == count == len({label for label, _, _ in placed})
        for label, source, (top, left, bottom, right) in placed:
            assert label == labels[source]
            inside = scene[top:bottom, left:right, 0]
            # Every edge of the box is touched by ink.
            for edge in (inside[0], inside[-1], inside[:, 0], inside[:, -1]):
                assert edge.max() >= clutter.INK
            sides.append(bottom - top)
        if count == 2:
            (_, _, a), (_, _, b) = placed
            assert a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1]
    low, high = (clutter.SIDES, clutter.SIDES_OF_TWO)[count - 1]
    assert 0.5 * low < min(sides) and max(sides) < 0.75 * high
    assert max(sides) - min(sides) > 0.3 * (high - low)


def test_scenes_have_noise_and_fragments_beside_the_figure():
    images, labels = figures()
    shares = []
    for scene, placed in clutter.compose(images, labels, 40, seed=2):
        outside = np.ones((64, 64), bool)
        top, left, bottom, right = placed[0][2]
        outside[top:bottom, left:right] = False
        shares.append((scene[..., 0][outside] > 100).mean())
        assert np.median(scene[..., 0][outside]) < 64 and scene.std() > 10
    assert 0.02 < np.mean(shares) < 0.3


def test_a_scene_depends_on_seed_stream_and_index_only():
    def scenes(count, seed, stream):
        found = clutter.compose(*figures(), count, seed=seed, stream=stream)
        return [(scene.tobytes(), placed) for scene, placed in found]

    first = scenes(4, 3, 0)
    assert first == scenes(6, 3, 0)[:4]
    assert first != scenes(4, 4, 0) and first != scenes(4, 3, 1)


def test_scenes_are_these():
    scene, placed = next(clutter.compose(*figures(), 1, seed=0))
    assert len(placed) == 1 and zlib.crc32(scene.tobytes()) == CRC


CRC = 2299431440


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"images": np.zeros((3, 28, 28, 3), np.uint8)}, "images must be uint8"),
        ({"figures": 3}, "figures must be 1 or 2"),
        ({"labels": np.zeros(30, int), "figures": 2}, "labels must have one entry"),
        ({"images": np.zeros((30, 28, 28, 1), np.uint8)}, "images must be of figures"),
        ({"count": -1}, "count must be an integer ≥ 0"),
    ],
)
def test_bad_arguments(change, match):
    images, labels = figures()
    arguments = {"images": images, "labels": labels, "count": 1} | change
    with pytest.raises(ValueError, match=match):
        list(clutter.compose(**arguments))
