"""Noise, occlusion, blur, contrast and JPEG on images of 0 to 255, in NumPy.

Every function leaves its argument as it is and returns float32 images. What is random
in image i depends on (seed, first + i) only: with `first` a data set can be corrupted
in batches of any size.
"""

import io
import math

import numpy as np

from kfeedback import checks
from kfeedback.images import pillow

OCCLUDERS = ("rectangles", "patches")
_NOISE, _OCCLUSION, _START = range(3)  # streams of random numbers


def gaussian_noise(images, sigma, seed=0, *, clip=True, first=0):
    """Adds independent normal noise to every value.

    The noise of a seed is the same for every `sigma`, up to that factor.

    Args:
        images: `(N, H, W, C)`, values 0 to 255.
        sigma: number ≥ 0, its standard deviation on that scale.
        seed: int ≥ 0.
        clip: bool; `False` lets values leave 0 to 255.
        first: int ≥ 0, the number of the first image.

    Returns:
        float32, of the same shape.

    Raises:
        ValueError: if an argument is not as above.

    Example:
        >>> corrupted = gaussian_noise(images, 25.5)
    """
    images = checked_images(images)
    sigma = checks.number("sigma", sigma, least=0, below=math.inf)
    checks.boolean("clip", clip)
    for image, random in zip(images, _randoms(seed, _NOISE, first), strict=False):
        image += np.float32(sigma) * random.standard_normal(image.shape, np.float32)
    return np.clip(images, 0, 255) if clip else images


def occlude(
    images, share, seed=0, *, kind="rectangles", boxes=None, others=None, first=0
):
    """Hides a part of the object in every image behind one rectangle.

    Its height and width are drawn from all whole numbers of pixels that cover a share
    within the bounds and whose ratio is within a factor of three of that of the
    object's box, if there are any such; its place is uniform inside that box.

    Args:
        images: `(N, H, W, C)`, values 0 to 255.
        share: `(low, high)`, 0 ≤ low ≤ high ≤ 1, bounds of the covered share of the
            object's box.
        seed: int ≥ 0.
        kind: what covers it: `"rectangles"` of one random color each, or `"patches"`
            of other images.
        boxes: the objects' boxes `(N, 4)`, whole pixels (top, left, bottom, right), the
            ends excluded; by default the whole images.
        others: for `"patches"`, the images to take them from, `(M, H, W, C)`. By
            default the other ones of `images`, so that a data set in batches, with
            `first`, gets other patches than as a whole.
        first: int ≥ 0, the number of the first image.

    Returns:
        float32, of the same shape.

    Raises:
        ValueError: if an argument is not as above, or no rectangle of whole pixels
            covers a share within the bounds.

    Example:
        >>> corrupted = occlude(images, (0.2, 0.3), kind="patches")
    """
    images = checked_images(images)
    low, high = _check_share(share)
    boxes = _check_boxes(boxes, images)
    checks.one_of("kind", kind, OCCLUDERS)
    if others is not None and kind != "patches":
        raise ValueError(
            f"others must be None unless kind is 'patches', got some for {kind!r}."
        )
    pool = _check_others(others, images) if kind == "patches" else None
    result, sizes_of = images.copy(), {}
    for i, random in zip(
        range(len(images)), _randoms(seed, _OCCLUSION, first), strict=False
    ):
        top, left, bottom, right = boxes[i]
        box = (bottom - top, right - left)
        if box not in sizes_of:
            sizes_of[box] = _sizes(*box, low, high)
        height, width = sizes_of[box][random.integers(len(sizes_of[box]))]
        y = top + random.integers(box[0] - height + 1)
        x = left + random.integers(box[1] - width + 1)
        if pool is None:
            cover = random.integers(0, 256, images.shape[-1])
        else:
            # Without `others` any image but this one.
            choice = random.integers(len(pool) - (others is None))
            choice += others is None and choice >= i
            v = random.integers(images.shape[1] - height + 1)
            u = random.integers(images.shape[2] - width + 1)
            cover = pool[choice, v : v + height, u : u + width]
        result[i, y : y + height, x : x + width] = cover
    return result


def blur(images, sigma):
    """Convolves every channel with a Gaussian, the border mirrored.

    Args:
        images: `(N, H, W, C)`, values 0 to 255.
        sigma: number ≥ 0 and at most 100, its standard deviation in pixels; 0 changes
            nothing.

    Returns:
        float32, of the same shape.

    Raises:
        ValueError: if an argument is not as above.

    Example:
        >>> corrupted = blur(images, 1.5)
    """
    images = checked_images(images)
    sigma = checks.number("sigma", sigma, least=0, most=100)
    if not sigma:
        return images
    from scipy import ndimage

    # Mode "reflect" of SciPy repeats the pixel at the edge.
    images = ndimage.gaussian_filter(
        images, (0, sigma, sigma, 0), mode="reflect", radius=math.ceil(4 * sigma)
    )
    return np.clip(images, 0, 255)


def contrast(images, factor):
    """Scales every value's distance to the mean of its channel in its image.

    Args:
        images: `(N, H, W, C)`, values 0 to 255.
        factor: number ≥ 0; 1 changes nothing, 0 leaves the mean.

    Returns:
        float32, of the same shape, clipped to 0 to 255.

    Raises:
        ValueError: if an argument is not as above.

    Example:
        >>> corrupted = contrast(images, 0.5)
    """
    images = checked_images(images)
    factor = checks.number("factor", factor, least=0, below=math.inf)
    if factor == 1:
        return images
    means = images.mean(axis=(1, 2), keepdims=True, dtype=np.float64)
    means = means.astype(np.float32)
    return np.clip(means + np.float32(factor) * (images - means), 0, 255)


def jpeg(images, quality):
    """Writes every image as a JPEG file, rounded to whole values, and reads it.

    Args:
        images: `(N, H, W, C)`, values 0 to 255, 1 or 3 channels.
        quality: int from 1 to 100, Pillow's.

    Returns:
        float32, of the same shape.

    Raises:
        ValueError: if an argument is not as above.
        ImportError: if Pillow is missing.

    Example:
        >>> corrupted = jpeg(images, 20)
    """
    images = checked_images(images)
    quality = checks.integer("quality", quality)
    if quality > 100:
        raise ValueError(f"quality must be an integer from 1 to 100, got {quality}.")
    if images.shape[-1] not in (1, 3):
        raise ValueError(f"images must have 1 or 3 channels, got {images.shape}.")
    Image = pillow("JPEG files are written")
    for image in images:
        pixels = np.rint(image).astype(np.uint8)
        file = io.BytesIO()
        gray = pixels.shape[-1] == 1
        Image.fromarray(pixels[..., 0] if gray else pixels).save(
            file, "JPEG", quality=quality
        )
        read = np.asarray(Image.open(file), np.float32)
        image[:] = read[..., None] if gray else read
    return images


def start_noise(images, epsilon, seed, first=0):
    """Noise uniform in -epsilon to epsilon, where an attack on image i may start.

    Args:
        images: `(N, H, W, C)`.
        epsilon: the largest absolute value, on the scale of the images.
        seed: int ≥ 0.
        first: int ≥ 0, the number of the first image in its data set.
    """
    noise = np.empty(images.shape, np.float32)
    for one, random in zip(noise, _randoms(seed, _START, first), strict=False):
        one[:] = random.uniform(-epsilon, epsilon, one.shape)
    return noise


def checked_images(images, name="images", least_rank=4, most_rank=4):
    """A float32 copy of images.

    Args:
        images: array of numbers from 0 to 255.
        name: what the error calls them.
        least_rank, most_rank: how many axes they may have.

    Raises:
        ValueError: if their rank is another or a value is not in 0 to 255.
    """
    images = np.asarray(images)
    if images.dtype.kind not in "fiu" or not least_rank <= images.ndim <= most_rank:
        shape = "(N, H, W, C)" if least_rank == most_rank else "(N, ...)"
        raise ValueError(
            f"{name} must be numbers of the shape {shape}, got {images.dtype} "
            f"{images.shape}."
        )
    if images.size:
        checks.pixels(name, images)
    return images.astype(np.float32)


def _randoms(seed, stream, first):
    """A generator of random numbers for each image from `first` on."""
    seed = checks.integer("seed", seed, 0)
    first = checks.integer("first", first, 0)

    def generators():
        index = first
        while True:
            yield np.random.default_rng([seed, stream, index])
            index += 1

    return generators()


def _check_share(share):
    valid = isinstance(share, list | tuple) and len(share) == 2
    try:
        low, high = (checks.number("share", x, least=0, most=1) for x in share)
    except (TypeError, ValueError):
        valid = False
    if not valid or low > high:
        raise ValueError(
            f"share must be (low, high) with 0 ≤ low ≤ high ≤ 1, got {share!r}."
        )
    return low, high


def _check_boxes(boxes, images):
    height, width = images.shape[1:3]
    if boxes is None:
        return [(0, 0, height, width)] * len(images)
    boxes = np.asarray(boxes)
    if boxes.shape != (len(images), 4) or boxes.dtype.kind not in "iu":
        raise ValueError(
            f"boxes must be whole numbers of the shape {(len(images), 4)}, got "
            f"{boxes.dtype} {boxes.shape}."
        )
    top, left, bottom, right = boxes.T.astype(int)
    inside = (0 <= top) & (top < bottom) & (bottom <= height)
    inside &= (0 <= left) & (left < right) & (right <= width)
    if not inside.all():
        raise ValueError(
            "boxes must be (top, left, bottom, right) inside the images, got "
            f"{boxes[~inside][0].tolist()} for images of {height} x {width}."
        )
    return [tuple(box) for box in boxes.tolist()]


def _check_others(others, images):
    if others is None:
        if len(images) == 1:
            raise ValueError("others must be given for a single image, got None.")
        return images
    others = checked_images(others, "others")
    if not len(others) or others.shape[1:] != images.shape[1:]:
        raise ValueError(
            f"others must be images of the shape {images.shape[1:]}, got "
            f"{others.shape}."
        )
    return others


_ROUNDING = 1e-6  # of a pixel: 0.28 * 10 * 10 is more than 28


def _sizes(height, width, low, high):
    """All (height, width) of rectangles that cover a share within the bounds.

    Long ones, above 3:1 in units of the box, only where there are no others.
    """
    sizes = [
        (a, b)
        for a in range(height + 1)
        for b in range(width + 1)
        if low * height * width - _ROUNDING
        <= a * b
        <= high * height * width + _ROUNDING
        and (a > 0) == (b > 0)
    ]
    if not sizes:
        raise ValueError(
            "share must have room for a rectangle of whole pixels, got "
            f"({low:g}, {high:g}) for an object of {height} x {width} pixels."
        )
    compact = [
        (a, b)
        for a, b in sizes
        if a * width <= 3 * b * height and b * height <= 3 * a * width
    ]
    return compact or sizes
