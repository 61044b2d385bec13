import sys
import zlib

import numpy as np
import pytest

from kfeedback.datasets import objects

pytest.importorskip("PIL")


def photographs(count=40, classes=5):
    """Images of noise, their classes in turn."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
    return images, np.arange(count) % classes + 2


@pytest.fixture(scope="module")
def scenes():
    return list(objects.compose(*photographs(), 300, seed=1))


def test_boxes_hold_the_objects_and_the_rest_is_background(scenes):
    images, labels = photographs()
    for index, (scene, placed) in enumerate(scenes):
        assert scene.shape == (64, 64, 3) and scene.dtype == np.uint8
        expected = objects.draw_background(np.random.default_rng([1, 0, index]))
        covered = np.zeros((64, 64), int)
        for label, source, (top, left, bottom, right) in placed:
            assert 16 <= bottom - top == right - left <= 32
            assert min(top, left) >= 0 and max(bottom, right) <= 64
            assert label == labels[source]
            resized = objects.resize(images[source], bottom - top)
            expected[top:bottom, left:right] = resized
            covered[top:bottom, left:right] += 1
        assert covered.max() == 1
        np.testing.assert_array_equal(scene, expected)


def test_counts_classes_and_sides_cover_their_range(scenes):
    counts = np.bincount([len(placed) for _, placed in scenes])
    assert len(counts) == 4 and counts[0] == 0 and counts[1:].min() > 70
    for _, placed in scenes:
        assert len({label for label, _, _ in placed}) == len(placed)
    everything = [one for _, placed in scenes for one in placed]
    assert np.bincount([label for label, _, _ in everything])[2:].min() > 80
    assert len({source for _, source, _ in everything}) == 40
    assert {bottom - top for _, _, (top, _, bottom, _) in everything} == {
        *range(16, 33)
    }
    alone = [box for _, placed in scenes if len(placed) == 1 for _, _, box in placed]
    assert min(box[0] for box in alone) < 4 and max(box[3] for box in alone) > 60


def test_a_scene_depends_on_seed_stream_and_index_only(scenes):
    def bytes_of(count, seed, stream=0):
        composed = objects.compose(*photographs(), count, seed=seed, stream=stream)
        return [(scene.tobytes(), placed) for scene, placed in composed]

    first = bytes_of(4, 1)
    assert first == [(scene.tobytes(), placed) for scene, placed in scenes[:4]]
    assert len({scene for scene, _ in first + bytes_of(4, 2) + bytes_of(4, 1, 1)}) == 12


def test_the_pixels_are_pinned(scenes):
    everything = b"".join(scene.tobytes() for scene, _ in scenes)
    assert zlib.crc32(everything) == 2_113_020_938


def test_background_has_contrast_and_color_at_every_place():
    draws = [objects.draw_background(np.random.default_rng(i)) for i in range(100)]
    draws = np.stack(draws).astype(float)
    assert 120 < draws.mean() < 136 and 40 < draws.std() < 65
    assert draws.std(axis=0).min() > 25
    correlation = np.corrcoef(draws.reshape(-1, 3).T)
    assert 0.6 < correlation[np.triu_indices(3, 1)].min() < 0.95


def test_resizing_is_antialiased():
    rows, columns = np.mgrid[:32, :32]
    chess = np.repeat((255 * ((rows + columns) % 2))[..., None], 3, axis=-1)
    found = objects.resize(chess.astype(np.uint8), 16)
    assert np.abs(found.astype(int) - 127).max() <= 16
    image = photographs()[0][0]
    np.testing.assert_array_equal(objects.resize(image, 32), image)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"images": np.zeros((6, 8, 8, 3))}, r"images must be uint8 .* float64"),
        ({"images": np.zeros((6, 8, 8), np.uint8)}, r"shape \(N, h, w, 3\)"),
        ({"labels": np.arange(5)}, r"one entry per image, 6, .* shape \(5,\)"),
        ({"labels": np.arange(6) % 2}, "at least 3 classes, .* and 2"),
        ({"count": 1.5}, "count must be"),
        ({"seed": -1}, "seed must be"),
        ({"stream": True}, "stream must be"),
    ],
)
def test_wrong_arguments_are_refused(change, match):
    arguments = {
        "images": np.zeros((6, 8, 8, 3), np.uint8),
        "labels": np.arange(6),
        "count": 1,
        **change,
    }
    with pytest.raises(ValueError, match=match):
        next(objects.compose(**arguments))


def test_missing_pillow_is_a_sentence(monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(ImportError, match=r"pip install kfeedback\[data\]"):
        next(objects.compose(*photographs(), 1))
