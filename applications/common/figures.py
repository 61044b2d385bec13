"""What the figures of all programs share."""

import keras
import numpy as np

# Okabe and Ito's colors, told apart with any color vision; markers say it twice.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = "osD^vPX"


def pyplot():
    """matplotlib's pyplot, drawing into files."""
    try:
        import matplotlib
    except ImportError as error:
        raise ImportError(
            "figures need matplotlib: pip install kfeedback[plots]"
        ) from error
    matplotlib.use("Agg")
    from matplotlib import pyplot

    return pyplot


def grid(rows, columns, width, height, **options):
    """A figure of so many inches, and its axes `(rows, columns)`."""
    options |= {"squeeze": False, "layout": "constrained"}
    return pyplot().subplots(rows, columns, figsize=(width, height), **options)


def save(figure, path, title=None):
    """Writes and closes a figure."""
    figure.suptitle(title)
    figure.savefig(path, dpi=110, bbox_inches="tight")
    pyplot().close(figure)


def table(rows, fontsize=8, **options):
    """A figure of rows `(name, pictures)`, the first of them of gray images."""
    count = len(rows[0][1])
    figure, axes = grid(len(rows), count, 1.5 * count + 1, 1.5 * len(rows))
    for (name, pictures), line in zip(rows, axes, strict=True):
        for axis, one in zip(line, pictures, strict=True):
            cmap = "gray" if name == rows[0][0] else "viridis"
            show(axis, one, cmap=cmap, **options)
        line[0].set_ylabel(name, fontsize=fontsize)
    return figure


def show(axis, image, **options):
    """Draws an image on an axis without ticks."""
    axis.set_xticks([])
    axis.set_yticks([])
    return axis.imshow(image, **options)


def pick(batches, indices):
    """The images of those indices, in their order."""
    found, start = {}, 0
    for images, _ in batches:
        images = keras.ops.convert_to_numpy(images)
        for index in indices:
            if start <= index < start + len(images):
                found[index] = images[index - start]
        start += len(images)
        if len(found) == len(set(indices)):
            break
    return np.stack([found[index] for index in indices])


def picture(images):
    """Preprocessed images as matplotlib shows them."""
    axes = (1, 2, 3)
    low, high = images.min(axes, keepdims=True), images.max(axes, keepdims=True)
    images = (images - low) / np.maximum(high - low, 1e-8)
    return images[..., 0] if images.shape[-1] == 1 else images


def strongest_maps(features):
    """Of each sample the channel of the highest mean magnitude, `(B, H, W)`."""
    magnitudes = np.abs(features)
    best = magnitudes.mean((1, 2)).argmax(-1)
    return magnitudes[np.arange(len(features)), :, :, best]
