"""Look and think twice: crop what matters for each of the best classes, classify it."""

import math

import numpy as np
from keras import ops

from kfeedback import checks
from kfeedback import images as images_lib

COMBINATIONS = ("looks", "crops", "mean")


def look_twice(
    explainer,
    images,
    *,
    top=5,
    energy=0.8,
    margin=0.0,
    square=True,
    combine="looks",
    size=None,
    verbose="auto",
):
    """Classifies, crops what matters for each of the best classes, and again.

    The boxes of the `top` classes of the whole image are cut out of the original,
    resized to the model's input and classified. Every look gives its `top` pairs of
    class and confidence; the best distinct classes among them are the answer.

    Args:
        explainer: `explain.Explainer`.
        images: `(N, H, W, C)`, or a list of `(H, W, C)` of any sizes, values 0 to 255:
            the originals. The first look is at them resized to whole gray levels, so
            they must be pixels also where `preprocess` is `None`.
        top: int ≥ 1, classes; no more than the model has are taken.
        energy: as for `Explainer.localize`.
        margin: ≥ 0, what is added to a box on each side, as a share of it.
        square: bool, cut out the least square around a box.
        combine: whose pairs compete: `"looks"`, those of the first look and the crops;
            `"crops"`, those of the crops alone; or `"mean"`, those of the mean of all
            posteriors.
        size: `(H, W)` of both looks; by default the model's own, and to be given where
            it takes images of any size.
        verbose: as for `Explainer.saliency`.

    Returns:
        dict of arrays: `classes` and `scores` `(N, top)`, the answer, best first;
        `first_classes` and `first_scores` `(N, top)` of the first look; `boxes` int32
        `(N, top, 4)`, what was cut out, in pixels of the original.

    Raises:
        ValueError: if an argument is not as above.

    Reference:
        Cao et al., Look and think twice: capturing top-down visual attention with
        feedback convolutional neural networks, 2015.

    Departures: `margin`, `square` and `combine`; the paper's rule is
    `look_twice(explainer, images, energy=0.95, square=False, combine="crops")`. The
    defaults were chosen on half of 400 photographs, with boxes by feedback. Objects of
    photographs mostly stand in the middle, so compare with boxes by `explain.Center`.

    Example:

        looks = explainer.look_twice(photographs)
        answer = looks["classes"][:, 0]
    """
    top = min(checks.integer("top", top), explainer.network.classes)
    margin = checks.number("margin", margin, least=0, below=math.inf)
    checks.boolean("square", square)
    checks.one_of("combine", combine, COMBINATIONS)
    size = _size(size, explainer.network.model)
    if not hasattr(images, "__len__") or len(images) == 0:
        raise ValueError(
            "images must be an array or a list of one or more, got "
            f"{'none' if hasattr(images, '__len__') else type(images).__name__}."
        )
    results = []
    count = min(len(images), max(1, explainer.batch_size // top))
    for part in explainer.parts(len(images), count, verbose):
        originals = [_original(x, explainer.network.model) for x in images[part]]
        # As many in the last part as in all: nothing recompiles.
        filled = originals + originals[-1:] * (count - len(originals))
        resized = np.stack([images_lib.resize(x, size) for x in filled])
        posterior = explainer.predict(resized, verbose=False)
        best = np.argsort(-posterior, axis=-1, kind="stable")[:, :top].astype(np.int32)
        found = explainer.localize(resized, best, energy=energy, verbose=False)
        boxes = [
            [_window(box, x.shape[:2], size, margin, square) for box in own]
            for own, x in zip(found, filled, strict=True)
        ]
        crops = [
            images_lib.resize(x[t:b, left:r], size)
            for own, x in zip(boxes, filled, strict=True)
            for t, left, b, r in own
        ]
        looks = explainer.predict(np.stack(crops), verbose=False)
        looks = looks.reshape(count, top, -1)
        classes, scores = _answer(posterior, looks, combine, top)
        first = np.take_along_axis(posterior, best, axis=-1)
        found = (classes, scores, best, first, np.asarray(boxes))
        results.append([array[: len(originals)] for array in found])
    names = ("classes", "scores", "first_classes", "first_scores", "boxes")
    joined = map(np.concatenate, zip(*results, strict=True))
    return dict(zip(names, joined, strict=True))


def _size(size, model):
    own = model.inputs[0].shape[1:3]
    found = own if size is None else size
    found = np.asarray(found) if isinstance(found, list | tuple) else found
    fits = np.shape(found) == (2,) and found.dtype.kind in "iu" and min(found) > 0
    if not (fits and checks.fits(tuple(found), own)):
        raise ValueError(
            f"size must be (H, W) as '{model.name}' takes it, {own}, got {size}."
        )
    return tuple(map(int, found))


def _original(image, model):
    image = ops.convert_to_numpy(image)
    channels = model.inputs[0].shape[-1]
    if image.ndim != 3 or image.shape[-1] != channels or 0 in image.shape:
        raise ValueError(
            f"images must be (H, W, {channels}), got one of shape {image.shape}."
        )
    return checks.gray_levels("images for a second look", image).astype(np.float32)


def _window(box, shape, size, margin, square):
    """A box in the model's input as one in the original; all of it for an empty box."""
    if not (box[2:] > box[:2]).all():
        return np.array([0, 0, *shape], np.int32)
    scale = np.array(shape) / np.array(size)
    start, stop = box[:2] * scale, box[2:] * scale
    sides = (stop - start) * (1 + 2 * margin)
    if square:
        sides = np.maximum(sides, sides.max())
    sides = np.minimum(sides, shape)
    start = np.clip((start + stop - sides) / 2, 0, np.array(shape) - sides)
    first = np.floor(start + 1e-6).astype(int)
    last = np.ceil(start + sides - 1e-6).astype(int)
    return np.concatenate([first, np.maximum(last, first + 1)]).astype(np.int32)


def _answer(first, looks, combine, top):
    """The best `top` classes, and their scores.

    Of pairs of class and confidence the best distinct classes are those of the greatest
    confidence in any look: a class among the best of all is so in its best look too.

    Args:
        first: `(N, classes)`, the posterior of the first look.
        looks: `(N, K, classes)`, those of the crops.
    """
    if combine != "crops":
        looks = np.concatenate([first[:, None], looks], axis=1)
    score = looks.mean(axis=1) if combine == "mean" else looks.max(axis=1)
    classes = np.argsort(-score, axis=-1, kind="stable")[:, :top].astype(np.int32)
    return classes, np.take_along_axis(score, classes, axis=-1)
