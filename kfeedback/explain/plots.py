"""Pictures of maps and boxes, to show to others."""

import math

import numpy as np

from kfeedback import checks

_FOUND = "#00C8FF"
_INCHES = 2.2  # the width of a picture
_COLUMNS = 6  # at most, of a sheet of single maps
_LINE = 0.16  # inches, the height of a line of text
_BRIGHTEST = 0.995  # this share of a map's pixels is darker than the brightest color


def plot(
    images, maps=None, boxes=None, captions=None, *, truth=None, names=None, titles=None
):
    """Draws maps over their images, with boxes and captions.

    An image is gray where its map is dark and glows, from violet to yellow, the more a
    pixel matters; every map is scaled by itself. One map an image makes a sheet of
    several columns. K maps or boxes an image make a row for each: the image as it is,
    then K pictures.

    Args:
        images: `(N, H, W, C)`, values 0 to 255, C 1 or 3.
        maps: `(N, H, W)` or `(N, K, H, W)`, values ≥ 0; `None` for images as they are.
        boxes: int `(N, 4)` or `(N, K, 4)`, what was found, in blue: `(top, left,
            bottom, right)` in pixels, ends excluded.
        captions: N texts, or N lists of K, which stand below the pictures.
        truth: int `(N, 4)`, or N arrays `(k, 4)`, the true boxes, white and dashed.
        names: texts at the left of the rows, one a row of the figure: N where an image
            has a row of its own, fewer for a sheet.
        titles: texts above the columns, one a column: K where an image has a row of its
            own.

    Returns:
        `matplotlib.figure.Figure`; its `savefig` writes a file.

    Raises:
        ImportError: if Matplotlib is missing.
        ValueError: if an argument is not as above.

    Example:

        maps, boxes = explainer.saliency(images), explainer.localize(images)
        figure = explain.plot(images, maps, boxes, ["a cat, 0.98", "a dog, 0.71"])
        figure.savefig("where.png", dpi=150)
    """
    Figure = _figure()
    images = checks.array("images", images)
    if images.ndim != 4 or images.size == 0 or images.shape[-1] not in (1, 3):
        raise ValueError(
            f"images must be (N, H, W, C) with C 1 or 3, got {images.shape}."
        )
    checks.gray_levels("images", images)
    count, sides = len(images), images.shape[1:3]
    maps = None if maps is None else _maps(maps)
    boxes = None if boxes is None else _boxes("boxes", boxes)
    in_rows = np.ndim(maps) == 4 or np.ndim(boxes) == 3
    several = np.shape(maps if np.ndim(maps) == 4 else boxes)[1] if in_rows else 1
    each = (count, several) if in_rows else (count,)
    given = [
        _shaped("maps", maps, each, sides),
        _shaped("boxes", boxes, each, (4,)),
        _shaped("captions", captions, each, ()),
    ]
    given = [x.reshape(count, several, *x.shape[len(each) :]) for x in given]
    truth = [()] * count if truth is None else truth
    if len(truth) != count:
        raise ValueError(f"truth must be for {count} images, got {len(truth)}.")
    rows = []
    for image, own, *found in zip(images, truth, *given, strict=True):
        own = np.atleast_2d(_boxes("truth", own)) if np.size(own) else ()
        row = [(image, own, None, None, None)] if in_rows else []
        rows.append(row + [(image, own, *one) for one in zip(*found, strict=True)])
    if not in_rows:
        wide = min(_COLUMNS, math.ceil(math.sqrt(count)))
        cells = [row[0] for row in rows]
        rows = [cells[n : n + wide] for n in range(0, count, wide)]
    lines = max(len(str(c[-1] or "").splitlines()) for row in rows for c in row)
    high = _INCHES * sides[0] / sides[1] + _LINE * lines
    width = len(rows[0]) * _INCHES
    head = 2 * _LINE if titles is not None else 0
    figure = Figure((width, len(rows) * high + head), layout="constrained")
    axes = figure.subplots(len(rows), len(rows[0]), squeeze=False)
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[], frame_on=False)
    for line, row in zip(axes, rows, strict=True):
        for axis, cell in zip(line, row, strict=False):
            _draw(axis, *cell)
    left, top = axes[:, 0], axes[0, int(in_rows) :]
    names = _shaped("names", names, left.shape, ())
    titles = _shaped("titles", titles, top.shape, ())
    for axis, name in zip(left, names, strict=True):
        axis.set_ylabel(name, fontsize=9)
    for axis, title in zip(top, titles, strict=True):
        axis.set_title(title, fontsize=10)
    return figure


def overlay(image, one):
    """A map over its image: float32 `(H, W, 3)` of 0 to 1, gray where it is dark.

    Args:
        image: `(H, W, C)`, values 0 to 255.
        one: `(H, W)`, values ≥ 0.
    """
    from matplotlib import colormaps

    gray = np.asarray(image, np.float32).mean(axis=-1, keepdims=True) / 255
    brightest = max(float(np.quantile(one, _BRIGHTEST)), 1e-30)
    heat = np.sqrt(np.clip(one / brightest, 0, 1))
    share = 0.9 * heat[..., None]
    color = colormaps["inferno"](heat)[..., :3]
    return (0.8 * gray * (1 - share) + color * share).astype(np.float32)


def _draw(axis, image, truth, one, found, caption):
    from matplotlib import patches, patheffects

    picture = image / 255 if one is None else overlay(image, one)
    axis.imshow(np.broadcast_to(picture, (*picture.shape[:2], 3)))
    axis.set_xlabel(caption, fontsize=8)
    outline = [patheffects.withStroke(linewidth=3, foreground="black", alpha=0.6)]
    boxes = [(box, "white", "--") for box in truth]
    boxes += [] if found is None else [(found, _FOUND, "-")]
    for (top, left, bottom, right), color, style in boxes:
        # The center of the first pixel has the coordinates 0, 0.
        side = patches.Rectangle((left - 0.5, top - 0.5), right - left, bottom - top)
        side.set(fill=False, edgecolor=color, linestyle=style, linewidth=1.5)
        side.set(path_effects=outline, clip_on=False, visible=right > left)
        axis.add_patch(side)


def _shaped(name, given, each, own):
    """An array of the shape `(*each, *own)`; of `None`, `None` for each."""
    if given is None:
        return np.full(each, None)
    given = checks.array(name, given)
    if given.shape != (*each, *own):
        raise ValueError(
            f"{name} must have the shape {(*each, *own)}, got {given.shape}."
        )
    return given


def _maps(maps):
    maps = checks.finite("maps", checks.array("maps", maps))
    if maps.min() < 0:
        raise ValueError(f"maps must not be negative, got {maps.min():g}.")
    return maps


def _boxes(name, boxes):
    boxes = checks.array(name, boxes)
    if boxes.dtype.kind not in "iu" or boxes.shape[-1:] != (4,):
        raise ValueError(
            f"{name} must be int boxes of four, got {boxes.dtype} {boxes.shape}."
        )
    return boxes


def _figure():
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(
            "plot draws by Matplotlib, which is missing; install it with "
            "`pip install kfeedback[plots]`."
        ) from error
    return Figure
