"""From a saliency map to boxes (top, left, bottom, right) in pixels, ends excluded."""

import numpy as np
from keras import ops

from kfeedback import checks


def check_energy(energy):
    """Returns a share of energy; raises a ValueError unless it is > 0 and ≤ 1.

    Args:
        energy: a number.
    """
    return checks.number("energy", energy, above=0, most=1)


def foreground(maps, energy):
    """The fewest pixels, brightest first, that keep a share of a map's energy.

    The energy of a map is the sum of its values. Pixels as bright as the last one that
    is needed belong to the foreground too.

    Args:
        maps: float32 tensor `(B, K, H, W)`, values ≥ 0.
        energy: share, > 0 and ≤ 1, a number or a scalar tensor.

    Returns:
        bool, of the same shape; `False` everywhere where a map is zero everywhere.

    Example:
        >>> maps = np.array([[[[4.0, 3.0], [2.0, 1.0]]]], "float32")
        >>> keras.ops.convert_to_numpy(foreground(maps, 0.65)).tolist()
        [[[[True, True], [False, False]]]]
    """
    shape = ops.shape(maps)
    flat = ops.reshape(maps, (-1, shape[1], shape[2] * shape[3]))
    # From the darkest on, so that float32 loses none of the small values.
    ordered = ops.sort(flat, axis=-1)
    sums = ops.cumsum(ordered, axis=-1)
    spare = ops.cast(sums <= (1 - energy) * sums[..., -1:], "int32")
    first = ops.sum(spare, axis=-1, keepdims=True)
    first = ops.minimum(first, ops.shape(flat)[-1] - 1)
    last = ops.take_along_axis(ordered, first, axis=-1)[..., None]
    return ops.logical_and(maps >= last, maps > 0)


def smallest_box(mask):
    """The least box that holds all of a mask's pixels.

    Args:
        mask: bool tensor `(..., H, W)`.

    Returns:
        int32 `(..., 4)`; zeros where a mask is empty.

    Example:
        >>> mask = np.zeros((8, 8), bool)
        >>> mask[1:3, 2:7] = True
        >>> keras.ops.convert_to_numpy(smallest_box(mask)).tolist()
        [1, 2, 3, 7]
    """
    sides = []
    for axis in (-1, -2):
        line = ops.any(mask, axis=axis)
        start = ops.argmax(ops.cast(line, "int32"), axis=-1)
        end = ops.argmax(ops.cast(ops.flip(line, axis=-1), "int32"), axis=-1)
        stop = ops.shape(line)[-1] - ops.cast(end, "int32")
        sides.append((ops.cast(start, "int32"), ops.cast(stop, "int32")))
    (top, bottom), (left, right) = sides
    box = ops.stack([top, left, bottom, right], axis=-1)
    found = ops.any(ops.any(mask, axis=-1), axis=-1)
    return box * ops.cast(found, "int32")[..., None]


def component_boxes(mask):
    """The boxes of a mask's connected components, that of most pixels first.

    Pixels that touch at an edge or a corner are connected.

    Args:
        mask: bool array `(H, W)`.

    Returns:
        int32 array `(N, 4)`, N the number of components.

    Example:
        >>> mask = np.zeros((8, 8), bool)
        >>> mask[1:3, 1:3] = mask[5, 6] = True
        >>> component_boxes(mask).tolist()
        [[1, 1, 3, 3], [5, 6, 6, 7]]
    """
    from scipy import ndimage  # here, as importing kfeedback brings no SciPy along

    labels, _ = ndimage.label(np.asarray(mask, bool), structure=np.ones((3, 3)))
    sizes = np.bincount(labels.ravel())[1:]
    boxes = [
        [rows.start, columns.start, rows.stop, columns.stop]
        for rows, columns in ndimage.find_objects(labels)
    ]
    boxes = np.array(boxes, np.int32).reshape(-1, 4)
    return boxes[np.argsort(-sizes, kind="stable")]


def iou(boxes, others):
    """Intersection over union of boxes, pair by pair.

    Args:
        boxes: array `(..., 4)`.
        others: array `(..., 4)`.

    Returns:
        float64 `(...)`; 0 where a box is empty.

    Example:
        >>> iou(np.array([0, 0, 2, 2]), np.array([0, 1, 2, 3])).item()
        0.3333333333333333
    """
    boxes, others = np.asarray(boxes, np.float64), np.asarray(others, np.float64)
    start = np.maximum(boxes[..., :2], others[..., :2])
    stop = np.minimum(boxes[..., 2:], others[..., 2:])
    common = np.clip(stop - start, 0, None).prod(axis=-1)
    total = area(boxes) + area(others) - common
    return common / np.where(total > 0, total, 1)


def area(boxes):
    """Pixels in boxes `(..., 4)`: float64 `(...)`.

    Args:
        boxes: (top, left, bottom, right), ends excluded.

    Example:
        >>> area(np.array([2, 0, 4, 8])).item()
        16.0
    """
    boxes = np.asarray(boxes, np.float64)
    return np.clip(boxes[..., 2:] - boxes[..., :2], 0, None).prod(axis=-1)
