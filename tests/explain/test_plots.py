import sys

import numpy as np
import pytest

from kfeedback import explain

matplotlib = pytest.importorskip("matplotlib")


def scene(count=2):
    images = np.random.default_rng(0).integers(0, 256, (count, 20, 30, 3))
    maps = np.zeros((count, 20, 30), "float32")
    maps[:, 4:8, 6:12] = 1
    return images.astype("uint8"), maps, np.array([[4, 6, 8, 12]] * count)


def shown(axis):
    """The pixels of an axis, and its boxes as (top, left, bottom, right)."""
    (image,) = axis.get_images()
    boxes = []
    for side in axis.patches:
        top, left = side.get_y() + 0.5, side.get_x() + 0.5
        boxes.append((top, left, top + side.get_height(), left + side.get_width()))
    return np.asarray(image.get_array()), boxes


def test_a_map_glows_on_a_gray_image(tmp_path):
    images, maps, boxes = scene()
    figure = explain.plot(images, maps, boxes, ["cat", "dog"], truth=boxes + 1)
    first, second = figure.axes
    assert [first.get_xlabel(), second.get_xlabel()] == ["cat", "dog"]
    pixels, drawn = shown(first)
    # First the true box, over it the one that was found.
    assert drawn == [(5, 7, 9, 13), (4, 6, 8, 12)]
    outside = np.ones((20, 30), bool)
    outside[4:8, 6:12] = False
    gray = 0.8 * images[0].mean(-1) / 255
    for channel in range(3):
        np.testing.assert_allclose(
            pixels[outside][:, channel], gray[outside], atol=1e-6
        )
    inside = pixels[4:8, 6:12]
    assert (inside[..., 0] > inside[..., 2] + 0.2).all()  # yellow
    figure.savefig(tmp_path / "sheet.png")
    saved = matplotlib.image.imread(tmp_path / "sheet.png")
    assert saved.shape[1] > 2 * 200 and saved[..., :3].std() > 0.1


def test_several_maps_make_a_row_an_image():
    images, maps, boxes = scene()
    maps, boxes = np.stack([maps] * 3, 1), np.stack([boxes] * 3, 1)
    captions = [["a", "b", "c"], ["d", "e", "f"]]
    names, titles = ["one", "two"], ["x", "y", "z"]
    figure = explain.plot(
        images, maps, boxes, captions, truth=boxes[:, 0], names=names, titles=titles
    )
    axes = np.reshape(figure.axes, (2, 4))
    plain, drawn = shown(axes[1, 0])
    np.testing.assert_allclose(plain, images[1] / 255, atol=1e-6)
    assert drawn == [(4, 6, 8, 12)]
    assert [x.get_xlabel() for x in axes[1]] == ["", "d", "e", "f"]
    assert [x.get_title() for x in axes[0]] == ["", "x", "y", "z"]
    assert [x.get_ylabel() for x in axes[:, 0]] == names


def test_boxes_alone_and_gray_images():
    images, _, boxes = scene(1)
    figure = explain.plot(images[..., :1], boxes=boxes * 0)
    pixels, _ = shown(figure.axes[0])
    np.testing.assert_allclose(pixels[..., 2], images[0, ..., 0] / 255, atol=1e-6)
    assert not figure.axes[0].patches[0].get_visible()  # of an empty map


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"images": np.zeros((1, 4, 4, 2))}, r"images must be \(N, H, W, C\) with C"),
        ({"images": np.full((1, 4, 4, 3), 256)}, "images must have values from 0 to"),
        ({"maps": np.zeros((1, 4, 5))}, r"maps must have the shape \(1, 4, 4\), got"),
        ({"boxes": np.zeros((2, 4), int)}, r"boxes must have the shape \(1, 4\), got"),
        ({"captions": ["a", "b"]}, r"captions must have the shape \(1,\), got \(2,\)"),
        ({"images": np.full((1, 4, 4, 3), np.nan)}, "images must have values from 0"),
        ({"images": np.full((1, 4, 4, 3), 0.5)}, "images must be .* fractions up to"),
        ({"images": np.ones((1, 4, 4, 3), bool)}, "images must be numbers, got bool"),
        (
            {"images": [np.ones((4, 4, 3)), np.ones((5, 4, 3))]},
            "images must be one a",
        ),
        ({"maps": np.full((1, 4, 4), np.nan)}, "maps must be finite, got nan"),
        ({"maps": np.full((1, 4, 4), np.inf)}, "maps must be finite, got inf"),
        ({"maps": np.full((1, 4, 4), -1)}, "maps must not be negative, got -1"),
        ({"maps": np.ones((1, 4, 4), bool)}, "maps must be numbers, got bool"),
        ({"boxes": [[0.5, 0, 1, 1]]}, "boxes must be int boxes of four, got float64"),
        ({"captions": [["a"], ["b", "c"]]}, "captions must be one array"),
        ({"truth": [[0, 0, 1]]}, r"truth must be int boxes of four, got int64 \(3,\)"),
        ({"truth": [[0, 0, 1, 1]] * 2}, "truth must be for 1 images, got 2"),
        ({"titles": ["a", "b"]}, r"titles must have the shape \(1,\), got \(2,\)"),
    ],
)
def test_bad_arguments(arguments, match):
    with pytest.raises(ValueError, match=match):
        explain.plot(**{"images": np.zeros((1, 4, 4, 3)), **arguments})


def test_without_matplotlib_a_sentence_says_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"pip install kfeedback\[plots\]"):
        explain.plot(np.zeros((1, 4, 4, 3)))
