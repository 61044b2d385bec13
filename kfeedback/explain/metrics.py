"""How good saliency maps and boxes are, in NumPy.

Boxes are `(top, left, bottom, right)` in pixels, the ends excluded. The truth is one
box a map, `(N, 4)`; or N arrays `(k, 4)` where a map is about a class of which an image
has k ≥ 1 objects: any of them counts.
"""

import itertools

import numpy as np
from keras import ops

from kfeedback import checks
from kfeedback.explain.boxes import area, component_boxes, iou
from kfeedback.explain.scenes import collages

__all__ = [
    "THRESHOLDS",
    "collages",
    "deletion",
    "energy_in_box",
    "error_by_size",
    "insertion",
    "localization_errors",
    "max_box_accuracies",
    "max_box_accuracies_v2",
    "pixel_average_precision",
    "pointing_game",
]

THRESHOLDS = tuple(n / 50 for n in range(1, 50))


def localization_errors(boxes, truth, threshold=0.5):
    """Where a box is wrong: its IoU with no true one is above the threshold.

    Args:
        boxes: `(N, 4)`.
        truth: `(N, 4)`, or N arrays `(k, 4)`.
        threshold: ≥ 0 and < 1.

    Returns:
        bool `(N,)`; its mean is the localization error.

    Raises:
        ValueError: if an argument is not as above.

    Example:
        >>> boxes, truth = np.array([[0, 0, 4, 4]]), np.array([[0, 0, 4, 5]])
        >>> localization_errors(boxes, truth).tolist()
        [False]
    """
    boxes = _boxes("boxes", boxes)
    truth = _several(truth, len(boxes), "boxes")
    threshold = checks.number("threshold", threshold, least=0, below=1)
    best = [iou(one, own).max() for one, own in zip(boxes, truth, strict=True)]
    return ~(np.array(best) > threshold)


def max_box_accuracies(maps, truth, thresholds=THRESHOLDS):
    """MaxBoxAcc before its maximum is taken: the accuracy at every threshold.

    The box is that of the largest connected component of the pixels that are at least
    the threshold, as a share of the brightest. Choose the threshold on a tuning split,
    and take the accuracy at that one on the test split.

    Args:
        maps: `(N, H, W)`, values ≥ 0.
        truth: `(N, 4)`, or N arrays `(k, 4)`.
        thresholds: shares, each > 0 and ≤ 1.

    Returns:
        float64, one a threshold: the share of boxes with IoU > 0.5.

    Raises:
        ValueError: if an argument is not as above.

    Reference:
        Choe et al., Evaluating weakly supervised object localization methods right,
        2020.

    Example:
        >>> maps, truth = np.ones((1, 4, 4)), np.array([[0, 0, 4, 4]])
        >>> max_box_accuracies(maps, truth, (0.5,)).tolist()
        [1.0]
    """
    maps, truth = _maps_and_boxes(maps, truth)
    shares = _shares("thresholds", thresholds, above=0, most=1)
    correct = np.zeros(len(shares))
    for n, found, own in _components(maps, truth, shares):
        correct[n] += len(found) > 0 and iou(found[0], own).max() > 0.5
    return correct / len(maps)


def pointing_game(maps, truth):
    """Whether the brightest pixel of a map lies in a box: bool `(N,)`.

    Of several equally bright ones the first is taken; a map of zeros never does. The
    arguments are those of `max_box_accuracies`.

    Reference:
        Zhang et al., Top-down neural attention by excitation backprop, 2016 (who also
        count what is within 15 pixels of photographs).

    Example:
        >>> maps, truth = np.ones((1, 4, 4)), np.array([[0, 0, 4, 4]])
        >>> pointing_game(maps, truth).tolist()
        [True]
    """
    maps, truth = _maps_and_boxes(maps, truth)
    return np.array(
        [
            bool(one.max() > 0 and _inside(one, own).flat[one.argmax()])
            for one, own in zip(maps, truth, strict=True)
        ]
    )


def energy_in_box(maps, truth):
    """The share of a map's sum that lies in the boxes, 0 for zeros: float64 `(N,)`.

    The arguments are those of `max_box_accuracies`.

    Example:
        >>> maps, truth = np.ones((1, 4, 4)), np.array([[0, 0, 4, 4]])
        >>> energy_in_box(maps, truth).tolist()
        [1.0]
    """
    maps, truth = _maps_and_boxes(maps, truth)
    inside = np.array(
        [
            one[_inside(one, own)].sum(dtype=np.float64)
            for one, own in zip(maps, truth, strict=True)
        ]
    )
    total = maps.sum(axis=(1, 2), dtype=np.float64)
    return inside / np.where(total > 0, total, 1)


def deletion(predict, images, maps, targets, *, steps=20, baseline=None):
    """The mean posterior of a class while its brightest pixels are taken away.

    Args:
        predict: function of images `(N, H, W, C)` that gives posteriors.
        images: `(N, H, W, C)`.
        maps: `(N, H, W)`, values ≥ 0.
        targets: int `(N,)`.
        steps: int ≥ 1, in which all pixels go.
        baseline: images that take their place, or a number; by default the mean of
            each image.

    Returns:
        float64 `(N,)`: the area under the curve of the posterior over the share of
        pixels taken away; less is better.

    Raises:
        ValueError: if an argument is not as above.

    Reference:
        Petsiuk, Das and Saenko, RISE, 2018.

    Example:
        >>> predict = lambda images: np.full((len(images), 10), 0.1)
        >>> images, maps = np.zeros((2, 8, 8, 3)), np.ones((2, 8, 8))
        >>> deletion(predict, images, maps, np.array([3, 5])).round(3).tolist()
        [0.1, 0.1]
    """
    return _curve_area(predict, images, maps, targets, steps, baseline, False)


def insertion(predict, images, maps, targets, *, steps=20, baseline=None):
    """Mean posterior of a class while its brightest pixels are put onto the baseline.

    The arguments are those of `deletion`; more is better.
    """
    return _curve_area(predict, images, maps, targets, steps, baseline, True)


def max_box_accuracies_v2(maps, truth, thresholds=THRESHOLDS, ious=(0.3, 0.5, 0.7)):
    """MaxBoxAccV2 before its maxima are taken: the accuracy at every threshold and IoU.

    All connected components of the pixels that are at least the threshold, as a share
    of the brightest, give boxes; the best pair of one and a true box counts. Choose a
    threshold for each IoU on a tuning split; MaxBoxAccV2 is the mean over the IoUs.

    Args:
        maps: `(N, H, W)`, values ≥ 0.
        truth: `(N, 4)`, or N arrays `(k, 4)`.
        thresholds: shares, each > 0 and ≤ 1.
        ious: each ≥ 0 and < 1.

    Returns:
        float64 `(thresholds, ious)`: the share of images whose best IoU is at least
        that.

    Raises:
        ValueError: if an argument is not as above.

    Reference:
        Choe et al., Evaluation for weakly supervised object localization: protocol,
        metrics, and datasets, 2020, section 3.3.
    """
    maps, truth = _maps_and_boxes(maps, truth)
    shares = _shares("thresholds", thresholds, above=0, most=1)
    bounds = _shares("ious", ious, least=0, below=1)
    correct = np.zeros((len(shares), len(bounds)))
    for n, found, own in _components(maps, truth, shares):
        correct[n] += iou(found[:, None], own[None]).max(initial=0.0) >= bounds
    return correct / len(maps)


def pixel_average_precision(maps, truth):
    """How well a map ranks the pixels of an object first: float64 `(N,)`.

        AP = Σ_n P_n (R_n − R_(n−1))

    with P_n and R_n the precision and recall of the pixels that are at least as bright
    as the n-th brightest value. No change of a map that keeps the order moves it.

    Args:
        maps: `(N, H, W)`, values ≥ 0.
        truth: `(N, 4)`, or N arrays `(k, 4)`, boxes whose pixels are the object's.

    Raises:
        ValueError: if an argument is not as above.

    Reference:
        Choe et al., Evaluating weakly supervised object localization methods right,
        2020, equations 2 and 3 (PxAP).

    Departures: an image at a time instead of one ranking of all images' pixels; boxes
    in place of masks.
    """
    maps, truth = _maps_and_boxes(maps, truth)
    return np.array(
        [_precision(one, boxes) for one, boxes in zip(maps, truth, strict=True)]
    )


def _precision(one, boxes):
    order = np.argsort(-one.ravel(), kind="stable")
    values, hits = one.ravel()[order], np.cumsum(_inside(one, boxes).ravel()[order])
    # Equally bright pixels are taken together.
    last = np.append(np.nonzero(np.diff(values))[0], len(values) - 1)
    recall = hits[last] / max(hits[-1], 1)
    return (hits[last] / (last + 1) * np.diff(recall, prepend=0)).sum()


def _inside(one, boxes):
    """The pixels of a map `(H, W)` that lie in a box: bool `(H, W)`."""
    inside = np.zeros(one.shape, bool)
    for top, left, bottom, right in boxes:
        inside[top:bottom, left:right] = True
    return inside


def error_by_size(errors, truth, image_shape, edges=(0, 0.05, 0.1, 0.2, 0.4, 1)):
    """Errors of objects of about one size, as a share of the image.

    Args:
        errors: bool `(N,)`.
        truth: `(N, 4)`, or N arrays `(k, 4)`, of which the largest box counts.
        image_shape: `(H, W)`.
        edges: rising shares, the bounds of the sizes; the upper one belongs to it.

    Returns:
        list of dicts with `from`, `to`, `count` and `error`, the mean, `nan` where
        there are none.

    Raises:
        ValueError: if an argument is not as above.
    """
    errors, truth = np.asarray(errors), _several(truth, len(truth), "boxes")
    edges = np.asarray(edges, np.float64)
    if errors.shape != (len(truth),):
        raise ValueError(
            f"errors must have one entry for each of {len(truth)} boxes, got "
            f"{errors.shape}."
        )
    if edges.ndim != 1 or len(edges) < 2 or not (np.diff(edges) > 0).all():
        raise ValueError(f"edges must be two or more rising shares, got {edges}.")
    if np.shape(image_shape) != (2,) or min(image_shape) <= 0:
        raise ValueError(f"image_shape must be (H, W), got {image_shape!r}.")
    largest = np.array([area(own).max() for own in truth])
    share = largest / (image_shape[0] * image_shape[1])
    rows = []
    for low, high in itertools.pairwise(edges):
        chosen = errors[(share > low) & (share <= high)]
        error = float(chosen.mean()) if len(chosen) else float("nan")
        bounds = {"from": float(low), "to": float(high)}
        rows.append(bounds | {"count": len(chosen), "error": error})
    return rows


def _curve_area(predict, images, maps, targets, steps, baseline, insert):
    images = np.asarray(images, np.float32)
    maps = _maps(maps)
    steps = checks.integer("steps", steps)
    if images.ndim != 4 or images.shape[:3] != maps.shape:
        raise ValueError(
            f"images must be (N, H, W, C) like maps {maps.shape}, got {images.shape}."
        )
    targets = np.asarray(targets)
    if targets.shape != (len(maps),) or targets.dtype.kind not in "iu":
        raise ValueError(
            f"targets must be one int class for each of {len(maps)} images, got "
            f"{targets.dtype} {targets.shape}."
        )
    if baseline is None:
        baseline = images.mean(axis=(1, 2, 3), keepdims=True)
    try:
        blank = np.broadcast_to(np.asarray(baseline, np.float32), images.shape)
    except ValueError as error:
        raise ValueError(
            f"baseline must be a number, or images like {images.shape}, got "
            f"{np.shape(baseline)}."
        ) from error
    order = np.argsort(-maps.reshape(len(maps), -1), axis=1, kind="stable")
    rank = np.argsort(order, axis=1, kind="stable").reshape(maps.shape)
    pixels = rank[0].size
    curve = []
    for step in range(steps + 1):
        first = (rank < pixels * step / steps)[..., None]
        shown = np.where(first == insert, images, blank)
        posterior = ops.convert_to_numpy(predict(shown))
        if posterior.ndim != 2 or len(posterior) != len(maps):
            raise ValueError(
                f"predict must give ({len(maps)}, classes), got {posterior.shape}."
            )
        if targets.min() < 0 or targets.max() >= posterior.shape[1]:
            raise ValueError(
                f"targets must be from 0 to {posterior.shape[1] - 1}, got {targets}."
            )
        curve.append(posterior[np.arange(len(maps)), targets])
    curve = np.asarray(curve, np.float64)
    return (curve[1:] + curve[:-1]).mean(axis=0) / 2


def _shares(name, values, **bounds):
    """Numbers within bounds, an array; a single one is an array of one."""
    values = checks.array(name, values).ravel()
    return np.array([checks.number(name, one, **bounds) for one in values])


def _components(maps, truth, shares):
    """For every map and share `(number of the share, boxes, true boxes)`.

    The boxes are those of the connected parts of what is at least so bright, as a share
    of the brightest pixel.
    """
    for one, own in zip(maps, truth, strict=True):
        for n, share in enumerate(shares):
            found = component_boxes((one >= share * one.max()) & (one > 0))
            yield n, found, own


def _maps_and_boxes(maps, truth):
    maps = _maps(maps)
    return maps, _several(truth, len(maps), "maps")


def _several(truth, count, of):
    """N arrays of boxes, one or more each; of single boxes, arrays of one."""
    truth = [_boxes("truth", np.atleast_2d(one)) for one in truth]
    if len(truth) != count or min(map(len, truth), default=0) < 1:
        raise ValueError(
            f"truth must have one box or more for each of {count} {of}, got "
            f"{[len(one) for one in truth][:8]}."
        )
    return truth


def _maps(maps):
    maps = np.asarray(maps)
    if maps.ndim != 3 or maps.dtype.kind not in "fiu" or maps.size == 0:
        raise ValueError(
            f"maps must be numbers (N, H, W), got {maps.dtype} {maps.shape}."
        )
    low, high = maps.min(), maps.max()
    if not (low >= 0 and high < np.inf):  # a NaN is neither
        raise ValueError(
            f"maps must be finite and not negative, got {low:g} to {high:g}."
        )
    # -x of unsigned integers is no negative number.
    return maps if maps.dtype.kind == "f" else maps.astype(np.float64)


def _boxes(name, boxes):
    boxes = np.asarray(boxes)
    if boxes.ndim != 2 or boxes.shape[1:] != (4,) or boxes.dtype.kind not in "iu":
        raise ValueError(
            f"{name} must be int boxes (N, 4), got {boxes.dtype} {boxes.shape}."
        )
    if (boxes < 0).any():  # which would count from the other end
        raise ValueError(f"{name} must lie in the image, from 0 on, got {boxes.min()}.")
    for box in boxes[(boxes[:, 2:] < boxes[:, :2]).any(axis=1)]:
        raise ValueError(f"{name} must end behind their start, got {box.tolist()}.")
    return boxes
