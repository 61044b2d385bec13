"""One decoder and one resize: an image has the same pixels wherever it is read.

Folders of images, images with boxes, the second look and a served model call these two
functions, so that a classifier meets what it was trained on. Both take arrays, without
TensorFlow, and tensors, inside a graph of TensorFlow. (The scenes that
`kfeedback.datasets` composes are resized by Pillow: a seed fixes their pixels.)
"""

import io
import pathlib
import sys

import numpy as np

from kfeedback import checks

_PNG = b"\x89PNG\r\n\x1a\n"
_JPEG = b"\xff\xd8\xff"


def decode(source, *, channels=3, name=None):
    """Decodes an image file; of an animation the first frame.

    Alpha is cut off, without blending. Of 16 bits the upper 8 count. What a camera
    notes of its position (EXIF) turns nothing. Gray becomes colored by repetition, and
    a palette's indices become its colors.

    Args:
        source: path of a file of any kind that Pillow reads, or its bytes; or, for a
            graph of TensorFlow, a string tensor `()` with the bytes of a JPEG or PNG
            file (`is_jpeg` and `is_png` tell).
        channels: 3; for a file or its bytes also `None`, for 1 where the file is gray.
        name: what an error calls bytes.

    Returns:
        uint8 `(H, W, channels)`, an array or, of a tensor, a tensor. The two agree.

    Raises:
        ValueError: if `channels` is not as above, or there is no whole image; the error
            names the file. (A graph raises TensorFlow's own error.)
        ImportError: if Pillow is missing.

    Example:
        >>> kfeedback.images.decode("birds/train/wren/1.jpg").shape
        (375, 500, 3)
    """
    takes = (3,) if _is_tensor(source) else (3, None)
    if channels not in takes:
        raise ValueError(
            f"channels must be {' or '.join(map(str, takes))}, got {channels!r}."
        )
    if _is_tensor(source):
        import tensorflow as tf

        return tf.cond(
            is_png(source),
            lambda: tf.io.decode_png(source, 3),
            # As Pillow decodes; TensorFlow's own choice is a faster, rougher one.
            lambda: tf.io.decode_jpeg(source, 3, dct_method="INTEGER_ACCURATE"),
        )
    Image = pillow("Images are decoded")
    if name is None:
        name = "bytes" if isinstance(source, bytes) else repr(str(source))
    try:
        if not isinstance(source, bytes):
            source = pathlib.Path(source).expanduser().read_bytes()
        if is_png(source):  # all of its checksums, as TensorFlow does
            with Image.open(io.BytesIO(source)) as image:
                image.verify()
        with Image.open(io.BytesIO(source)) as image:
            pixels = _pixels(image)
    except Exception as error:  # Pillow lets through whatever a damaged file causes
        reason = checks.reason(error)
        if isinstance(error, OSError) and error.strerror:
            reason = error.strerror
        elif isinstance(error, Image.UnidentifiedImageError):
            reason = "no kind of image is known that starts so" if source else "empty"
        raise ValueError(
            f"source must be a whole image file, got {name}: {reason}."
        ) from error
    return np.repeat(pixels, 3, -1) if channels and pixels.shape[-1] == 1 else pixels


def pillow(what):
    """The module `PIL.Image`; an ImportError says what is done by it.

    Args:
        what: the start of the error's sentence: what is done.
    """
    try:
        from PIL import Image
    except ImportError as error:
        raise ImportError(
            f"{what} by Pillow, which is missing; install it with "
            "`pip install kfeedback[data]`."
        ) from error
    return Image


def _pixels(image):
    if image.mode in ("I", "F"):
        raise ValueError(f"its pixels are of 32 bits, Pillow's mode {image.mode!r}")
    if image.mode.startswith("I;16"):  # which Pillow would clip to 255
        return (np.asarray(image) >> 8).astype(np.uint8)[..., None]
    if image.mode in ("1", "L", "LA"):
        return np.array(image.convert("L"))[..., None]
    return np.array(image.convert("RGB"))


def is_png(contents):
    """Whether bytes start as a PNG: bool, of a string tensor a tensor.

    Args:
        contents: bytes, or a string tensor.
    """
    return _starts(contents, _PNG)


def is_jpeg(contents):
    """Whether bytes start as a JPEG: bool, of a string tensor a tensor.

    Args:
        contents: bytes, or a string tensor.
    """
    return _starts(contents, _JPEG)


def _starts(contents, magic):
    if not _is_tensor(contents):
        return contents.startswith(magic)
    import tensorflow as tf

    return tf.strings.substr(contents, 0, len(magic)) == magic


def resize(image, size):
    """Resizes an image to whole gray levels.

    Bilinear, antialiased where it shrinks, without regard to its aspect, rounded (a
    half to the even level): `tf.round(tf.image.resize(image, size,
    antialias=True))`, pixel by pixel.

    Args:
        image: `(..., H, W, C)`, values 0 to 255: an array; or a tensor of TensorFlow,
            `(H, W, C)` or `(B, H, W, C)`.
        size: `(height, width)`, integers ≥ 1.

    Returns:
        `(..., height, width, C)`: uint8, or float32 for floating point. An array that
        has the size already is returned itself, in its own dtype.

    Raises:
        ValueError: if an argument is not as above.

    Example:
        >>> kfeedback.images.resize(np.zeros((375, 500, 3), np.uint8), (224, 224)).shape
        (224, 224, 3)
    """
    if _is_tensor(image):
        import tensorflow as tf

        image = tf.image.resize(image, size, antialias=True)
        return tf.saturate_cast(tf.round(image), tf.uint8)
    image = np.asarray(image)
    if not isinstance(size, tuple | list) or len(size) != 2:
        raise ValueError(f"size must be (height, width), got {size!r}.")
    size = tuple(checks.integer("size", side) for side in size)
    if image.dtype.kind not in "fiu" or image.ndim < 3 or 0 in image.shape[-3:-1]:
        raise ValueError(
            "image must be numbers of the shape (..., H, W, C), got "
            f"{image.dtype} {image.shape}."
        )
    if image.shape[-3:-1] == size:
        return image
    resized = image.astype(np.float32) if image.dtype.kind == "f" else image
    for axis, side in zip((-3, -2), size, strict=True):
        if resized.shape[axis] != side:
            resized = _along(resized, axis, side)
    resized = np.rint(resized)
    return resized if image.dtype.kind == "f" else resized.astype(np.uint8)


def _along(image, axis, size):
    """One axis resized, in the order of TensorFlow's additions in single precision."""
    one, half = np.float32(1), np.float32(0.5)
    length = image.shape[axis]
    step = one / (np.float32(size) / np.float32(length))
    radius = max(step, one)
    center = (np.arange(size, dtype=np.float32) + half) * step
    first = np.clip(np.ceil(center - radius - half), 0, length - 1).astype(int)
    last = np.clip(np.floor(center + radius - half), 0, length - 1).astype(int)
    source = first[:, None] + np.arange((last - first).max() + 1)
    distance = np.abs(source.astype(np.float32) + half - center[:, None])
    weights = np.maximum(one - distance * (one / radius), 0)
    weights[source > last[:, None]] = 0
    weights *= one / sum(weights.T)[:, None]
    source = np.minimum(source, length - 1)
    shape = [-1 if k == axis % image.ndim else 1 for k in range(image.ndim)]
    return sum(
        image.take(source[:, k], axis) * weights[:, k].reshape(shape)
        for k in range(source.shape[1])
    )


def _is_tensor(value):
    tf = sys.modules.get("tensorflow")
    return tf is not None and tf.is_tensor(value)
