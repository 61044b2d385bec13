"""Compose cluttered scenes with exact boxes from images of one bright figure each.

A scene is a gray canvas of weak noise on which fragments of figures lie and, whole,
one or two figures of different classes, resized, neither over the other.
"""

import numpy as np

from kfeedback import checks
from kfeedback.datasets.objects import CANVAS_SIZE, draw_background, of_classes, resize

SIDES = (20, 56)
"""Least and greatest height and width of a resized image, its margin included."""

SIDES_OF_TWO = (20, 32)
"""The same where two figures share a canvas."""

FRAGMENTS = 12
"""Fragments in a scene."""

FRAGMENT_SIZE = 8
"""Height and width of a fragment, in pixels of the figures' images."""

INK = 64
"""Pixels at least so bright belong to a figure; its box is the least that holds all."""

_FAINT = 4  # the noise has 1 / 4 of the range


def compose(images, labels, count, figures=1, seed=0, stream=0):
    """Composes scenes, one at a time.

    Classes, images, sides, places and fragments are drawn uniformly; two figures are
    drawn again, together, until their images do not overlap. A pixel is the brightest
    of what lies there. Scene i depends on (seed, stream, i) and on the arguments but
    for `count`.

    Args:
        images: uint8 array `(N, h, w, 1)`, bright figures on black.
        labels: integer array `(N,)`, of at least `figures` classes.
        count: how many scenes.
        figures: 1 or 2, the whole figures in a scene.
        seed: a whole number from 0 on.
        stream: a whole number from 0 on, another for each split.

    Yields:
        `(scene, placed)`: uint8 `(CANVAS_SIZE, CANVAS_SIZE, 1)`, and a list with one
        `(label, source, box)` per figure: its class, the index of its image, and
        `(top, left, bottom, right)` in pixels, the ends excluded, of its ink.

    Raises:
        ValueError: if an argument is not as above.
        ImportError: if Pillow is missing.
    """
    if figures not in (1, 2):
        raise ValueError(f"figures must be 1 or 2, got {figures!r}.")
    images, labels, members = of_classes(images, labels, 1, figures)
    count = checks.integer("count", count, 0)
    seed = checks.integer("seed", seed, 0)
    stream = checks.integer("stream", stream, 0)
    for index in range(count):
        rng = np.random.default_rng([seed, stream, index])
        scene = draw_background(rng)[..., 0] // _FAINT
        _scatter(rng, scene, images)
        chosen = rng.permutation(len(members))[:figures]
        placed = []
        for k, (top, left, side) in zip(chosen, _places(rng, figures), strict=True):
            source = int(rng.choice(members[k]))
            figure = resize(np.repeat(images[source], 3, axis=-1), side)[..., 0]
            window = scene[top : top + side, left : left + side]
            np.maximum(window, figure, out=window)
            placed.append((int(labels[source]), source, _ink_box(figure, top, left)))
        yield scene[..., None], placed


def _scatter(rng, scene, images):
    """Puts fragments of random images on a scene."""
    size = FRAGMENT_SIZE
    height, width = images.shape[1:3]
    for _ in range(FRAGMENTS):
        image = images[rng.integers(len(images)), ..., 0]
        # From the middle, where the figure is.
        row = rng.integers(height // 4, height - height // 4 - size + 1)
        column = rng.integers(width // 4, width - width // 4 - size + 1)
        top, left = rng.integers(0, CANVAS_SIZE - size + 1, 2)
        window = scene[top : top + size, left : left + size]
        fragment = image[row : row + size, column : column + size]
        np.maximum(window, fragment, out=window)


def _places(rng, figures):
    """`(top, left, side)` of every figure; two are apart."""
    least, most = SIDES if figures == 1 else SIDES_OF_TWO
    while True:
        sides = rng.integers(least, most + 1, figures)
        starts = rng.integers(0, CANVAS_SIZE - sides[:, None] + 1, (figures, 2))
        if figures == 1:
            break
        first, second = starts
        if (first >= second + sides[1]).any() or (second >= first + sides[0]).any():
            break
    return [(*map(int, start), int(n)) for start, n in zip(starts, sides, strict=True)]


def _ink_box(figure, top, left):
    rows, columns = (np.flatnonzero((figure >= INK).any(axis=a)) for a in (1, 0))
    if not len(rows):
        raise ValueError(
            f"images must be of figures with pixels of at least {INK} after resizing, "
            f"got one with at most {figure.max()}."
        )
    box = top + rows[0], left + columns[0], top + rows[-1] + 1, left + columns[-1] + 1
    return tuple(map(int, box))
