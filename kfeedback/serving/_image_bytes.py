"""From encoded images to pixels, inside a TensorFlow graph."""

import tensorflow as tf

from kfeedback import images

MAX_SIDE = 16_384
MAX_PIXELS = 2**25
"""What larger images would cost is memory: a pixel takes up to 30 bytes on its way."""

# Rec. 601 luma in 16 bits, rounded, as Pillow has it; a gray pixel stays what it is.
_LUMA = (19_595, 38_470, 7_471)

_AT_ONCE = 4  # images of a batch that are decoded side by side
_PNG_HEADER = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"  # behind it width and height


def decode(encoded, shape, crop_fraction):
    """Decodes a batch of JPEG or PNG images and brings them to one size.

    Args:
        encoded: string tensor `(B,)`.
        shape: `(H, W, C)`, C of 1 or 3; gray images become colored ones and the
            reverse, transparency is left out, of 16 bits the upper 8 count. What a
            camera notes of its position turns nothing.
        crop_fraction: `None`: the whole image is resized without regard to its aspect,
            as `kfeedback.datasets.load` does. A number in (0, 1]: that share of the
            sides of the largest box of the aspect of `shape`, at the center.

    Returns:
        float32 `(B, H, W, C)`, whole numbers from 0 to 255.
    """
    return tf.map_fn(
        lambda contents: _one(contents, shape, crop_fraction),
        encoded,
        fn_output_signature=tf.TensorSpec(shape, tf.float32),
        parallel_iterations=None if tf.executing_eagerly() else _AT_ONCE,
    )


def _one(contents, shape, crop_fraction):
    height, width, channels = shape
    is_png = images.is_png(contents)
    known = tf.Assert(
        is_png | images.is_jpeg(contents),
        [
            "image_bytes must be JPEG or PNG images, got bytes that start with",
            # An error has to be text, as protocols carry it.
            tf.strings.unicode_transcode(
                tf.strings.substr(contents, 0, 16), "UTF-8", "UTF-8"
            ),
        ],
    )
    with tf.control_dependencies([known]):
        size = tf.cond(
            is_png,
            lambda: _png_size(contents),
            lambda: tf.io.extract_jpeg_shape(contents)[:2],
        )
    # As floats, which do not overflow.
    small = tf.reduce_all((size >= 1) & (size <= MAX_SIDE))
    small &= tf.reduce_prod(tf.cast(size, tf.float32)) <= MAX_PIXELS
    fits = tf.Assert(
        small,
        [
            f"image_bytes must be images with sides of 1 to {MAX_SIDE} and at most "
            f"{MAX_PIXELS} pixels, got height and width",
            size,
        ],
    )
    with tf.control_dependencies([fits]):
        image = images.decode(contents)
    if crop_fraction is not None:
        image = _crop(image, size, width / height, crop_fraction)
    if channels == 1:
        luma = tf.reduce_sum(tf.cast(image, tf.int32) * _LUMA, axis=-1, keepdims=True)
        image = (luma + 2**15) // 2**16
    image = images.resize(image, (height, width))
    return tf.ensure_shape(tf.cast(image, tf.float32), shape)


def _png_size(contents):
    """Height and width as the header of a PNG says."""
    # Decoders also take a size that comes later, which no check here would see.
    is_header = tf.strings.substr(contents, 0, len(_PNG_HEADER)) == _PNG_HEADER
    complete = tf.Assert(
        is_header & (tf.strings.length(contents) >= 24),
        ["image_bytes must be complete images, got a PNG that starts without its size"],
    )
    with tf.control_dependencies([complete]):
        header = tf.strings.substr(contents, 16, 8)
    return tf.io.decode_raw(header, tf.int32, little_endian=False)[::-1]


def _crop(image, size, aspect, fraction):
    # In float32 0.7 of 345 pixels would be one more than in a data set's crop.
    size = tf.cast(size, tf.float64)
    height = tf.minimum(size[0], size[1] / aspect)
    box = tf.round(tf.stack([height, height * aspect]) * fraction)
    box = tf.clip_by_value(box, 1.0, size)
    start = tf.cast(tf.floor((size - box) / 2), tf.int32)
    end = start + tf.cast(box, tf.int32)
    return image[start[0] : end[0], start[1] : end[1]]
