"""Scenes put together of several images, for the grid pointing game."""

import collections
import heapq

import numpy as np

from kfeedback import checks
from kfeedback import images as images_lib


def collages(images, labels, grid=2):
    """Scenes of the grid pointing game: images of different classes, side by side.

    Images are taken in their order; one whose class a scene has already waits for the
    next. What does not fill a scene is left out. Measure maps of every class in turn
    with `pixel_average_precision`, `energy_in_box` and `pointing_game`.

    Args:
        images: `(N, H, W, C)`, values 0 to 255.
        labels: int `(N,)`.
        grid: int ≥ 2, images a side.

    Returns:
        `(scenes, targets, boxes)`: float32 `(M, H, W, C)`, each image resized to a cell
        of it; int32 `(M, grid²)`; and int64 `(M, grid², 4)`.

    Raises:
        ValueError: if an argument is not as above, or there is no scene.

    Reference:
        Zhang et al., Top-down neural attention by excitation backprop, 2016; Böhle,
        Fritz and Schiele, Convolutional dynamic alignment networks for interpretable
        classifications, 2021, section 4.3.

    Example:

        scenes, targets, boxes = explain.metrics.collages(images, labels)
        maps = explainer.saliency(scenes, targets)  # (M, 4, H, W)
    """
    images, labels = checks.array("images", images), checks.array("labels", labels)
    grid = checks.integer("grid", grid, least=2)
    if images.ndim != 4 or labels.shape != images.shape[:1] or images.size == 0:
        raise ValueError(
            "images must be (N, H, W, C), none of them 0, with a label each, got "
            f"{images.shape} and {labels.shape}."
        )
    checks.gray_levels("images", images)
    if labels.dtype.kind not in "iu":
        raise ValueError(f"labels must be int classes, got {labels.dtype}.")
    height, width = images.shape[1:3]
    if grid > min(height, width):
        raise ValueError(
            f"grid must be at most the pixels of a side, {min(height, width)}, got "
            f"{grid}."
        )
    rows, columns = (np.arange(grid + 1) * n // grid for n in (height, width))
    cells = np.array(
        [
            (rows[i], columns[j], rows[i + 1], columns[j + 1])
            for i in range(grid)
            for j in range(grid)
        ]
    )
    chosen = _groups(labels.tolist(), grid * grid)
    if not chosen:
        raise ValueError(
            f"images must have {grid * grid} classes or more, got "
            f"{len(set(labels.tolist()))}."
        )
    scenes = np.zeros((len(chosen), *images.shape[1:]), np.float32)
    for scene, own in zip(scenes, chosen, strict=True):
        for n, (top, left, bottom, right) in zip(own, cells, strict=True):
            size = (int(bottom - top), int(right - left))
            scene[top:bottom, left:right] = images_lib.resize(images[n], size)
    targets = labels[np.array(chosen)].astype(np.int32)
    return scenes, targets, np.repeat(cells[None], len(chosen), axis=0)


def _groups(labels, size):
    """Groups of `size` places of different labels, each the first that are left."""
    queues = {}
    for place, label in enumerate(labels):
        queues.setdefault(label, collections.deque()).append(place)
    heads = [(queue.popleft(), label) for label, queue in queues.items()]
    heapq.heapify(heads)
    groups = []
    while len(heads) >= size:
        group = [heapq.heappop(heads) for _ in range(size)]
        groups.append([place for place, _ in group])
        for _, label in group:
            if queues[label]:
                heapq.heappush(heads, (queues[label].popleft(), label))
    return groups
