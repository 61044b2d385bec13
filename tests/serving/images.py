"""Image files, good and bad."""

import io
import struct
import zlib

import numpy as np
from PIL import Image


def photographs(count):
    """`count` cut-outs of photographs, uint8, gray or colored, of odd sizes."""
    from skimage import data

    whole = [
        getattr(data, name)()
        for name in ("astronaut", "camera", "chelsea", "coffee", "coins", "rocket")
    ]
    random = np.random.default_rng(0)
    cut = []
    for n in range(count):
        image = whole[n % len(whole)]
        height, width = (int(s) * 2 + 1 for s in random.integers(3, 120, 2))
        top = random.integers(0, image.shape[0] - height)
        left = random.integers(0, image.shape[1] - width)
        cut.append(image[top : top + height, left : left + width])
    return cut


def encode(image, kind):
    """The bytes of a `JPEG` or `PNG` file."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, kind)
    return file.getvalue()


def decode(encoded, channels):
    """What Pillow makes of a file: uint8 `(H, W, C)`."""
    image = Image.open(io.BytesIO(encoded)).convert("L" if channels == 1 else "RGB")
    return np.asarray(image).reshape(image.height, image.width, channels)


def chunk(kind, data):
    """A part of a PNG file."""
    crc = struct.pack(">I", zlib.crc32(kind + data))
    return struct.pack(">I", len(data)) + kind + data + crc


def black_png(width, height):
    """A PNG of black pixels, one bit each: small, however many there are."""
    packer = zlib.compressobj(9)
    row = bytes(1 + (width + 7) // 8)
    pixels = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", pixels)
        + chunk(b"IEND", b"")
    )
