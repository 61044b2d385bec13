"""Compose scenes of several objects with exact boxes from images of one object each.

A scene is a canvas of colored noise with one to three images of different classes
pasted on it, resized, none over another. The functions need NumPy and Pillow only, and
draw and add whole numbers only: a seed fixes every pixel for a given NumPy and Pillow.
"""

import numpy as np

from kfeedback import checks
from kfeedback.images import pillow

CANVAS_SIZE = 64
"""Height and width of a scene, in pixels."""

SIDES = (16, 32)
"""Least and greatest height and width of an object, in pixels."""

MAX_OBJECTS = 3

_OCTAVES = (2, 4, 8, 16, 32)
_DRAWS = 100


def compose(images, labels, count, seed=0, stream=0):
    """Composes scenes, one at a time.

    The number of objects in a scene is uniform in 1 to `MAX_OBJECTS`, their classes
    are drawn without repetition from those in `labels`, and of each class one image,
    all uniformly. Sides and places are uniform over all choices that keep the objects
    inside the canvas and apart (they may touch): they are drawn again, together, until
    they do, so that objects in company are smaller on average than those alone.

    Scene i depends on (seed, stream, i) and on the arguments `images` and `labels`, not
    on `count`.

    Args:
        images: uint8 array `(N, h, w, 3)`, each filled by one object.
        labels: integer array `(N,)`, of at least `MAX_OBJECTS` classes.
        count: how many scenes.
        seed: a whole number from 0 on.
        stream: a whole number from 0 on, another for each split.

    Yields:
        `(scene, objects)`: uint8 `(CANVAS_SIZE, CANVAS_SIZE, 3)`, and a list with one
        `(label, source, box)` per object: its class, the index of its image in
        `images`, and `(top, left, bottom, right)` in pixels, the ends excluded.

    Raises:
        ValueError: if an argument is not as above.
        ImportError: if Pillow is missing.
    """
    images, labels, members = of_classes(images, labels, 3, MAX_OBJECTS)
    count = checks.integer("count", count, 0)
    seed = checks.integer("seed", seed, 0)
    stream = checks.integer("stream", stream, 0)
    for index in range(count):
        rng = np.random.default_rng([seed, stream, index])
        scene = draw_background(rng)
        objects = []
        boxes = _draw_boxes(rng, 1 + rng.integers(MAX_OBJECTS))
        chosen = rng.permutation(len(members))[: len(boxes)]
        for k, box in zip(chosen, boxes, strict=True):
            source = int(rng.choice(members[k]))
            top, left, bottom, right = box
            scene[top:bottom, left:right] = resize(images[source], bottom - top)
            objects.append((int(labels[source]), source, box))
        yield scene, objects


def draw_background(rng):
    """Draws colored noise with about the spectrum and contrast of photographs.

    Octaves of independent noise, grids of 2x2 to 32x32, are enlarged to the canvas
    (bicubic) and added with equal weights, as amplitude falls as 1 / frequency in
    photographs. Two thirds of a channel's noise are common to the three channels.

    Args:
        rng: a `numpy.random.Generator`.

    Returns:
        A uint8 array `(CANVAS_SIZE, CANVAS_SIZE, 3)`.
    """
    total = np.zeros((CANVAS_SIZE, CANVAS_SIZE, 3), np.int32)
    for side in _OCTAVES:
        noise = rng.integers(0, 256, (side, side, 4))
        noise = (2 * noise[..., :1] + noise[..., 1:]) // 3
        total += resize(noise.astype(np.uint8), CANVAS_SIZE, "BICUBIC")
    contrast = (total - 128 * len(_OCTAVES)) // 2
    return np.clip(128 + contrast, 0, 255).astype(np.uint8)


def resize(image, side, method="BILINEAR"):
    """Resizes an image to a square with Pillow, which antialiases where it shrinks.

    Not with `kfeedback.images.resize`: a seed fixes the pixels of a scene, and those of
    sets that were prepared before must not change.

    Args:
        image: uint8 array `(h, w, 3)`.
        side: height and width of the result.
        method: the name of one of Pillow's `Resampling` filters.

    Returns:
        A uint8 array `(side, side, 3)`.

    Raises:
        ImportError: if Pillow is missing.
    """
    Image = pillow("The scenes are resized")
    resized = Image.fromarray(image).resize((side, side), Image.Resampling[method])
    return np.asarray(resized)


def of_classes(images, labels, channels, least):
    """Images and labels as arrays, and the indices of the images of each class.

    Raises:
        ValueError: unless the images are uint8 `(N, h, w, channels)` with a label each,
            of at least `least` classes.
    """
    images, labels = np.asarray(images), np.asarray(labels)
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] != channels:
        raise ValueError(
            f"images must be uint8 of shape (N, h, w, {channels}), got "
            f"{images.dtype} {images.shape}."
        )
    members = [np.flatnonzero(labels == k) for k in np.unique(labels)]
    if labels.shape != images.shape[:1] or len(members) < least:
        raise ValueError(
            f"labels must have one entry per image, {len(images)}, and at least "
            f"{least} classes, got shape {labels.shape} and {len(members)}."
        )
    return images, labels, members


def _draw_boxes(rng, count):
    """`count` boxes `[top, left, bottom, right]` apart: the first valid of many."""
    while True:
        sides = rng.integers(SIDES[0], SIDES[1] + 1, (_DRAWS, count, 1))
        starts = rng.integers(0, CANVAS_SIZE - sides + 1, (_DRAWS, count, 2))
        stops = starts + sides
        # Boxes are apart if one starts, down or right, no earlier than the other stops.
        after = (starts[:, :, None] >= stops[:, None]).any(axis=-1)
        apart = after | after.swapaxes(1, 2) | np.eye(count, dtype=bool)
        valid = apart.all(axis=(1, 2))
        if valid.any():
            boxes = np.concatenate([starts, stops], axis=-1)
            return boxes[valid.argmax()].tolist()
