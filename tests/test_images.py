import io
import os
import subprocess
import sys

import numpy as np
import pytest

from kfeedback import images
from tests import harness

Image = pytest.importorskip("PIL.Image")


def pixels(height, width, channels=3, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (height, width, channels), dtype=np.uint8)


def encoded(image, kind, **arguments):
    file = io.BytesIO()
    image.save(file, kind, **arguments)
    return file.getvalue()


def smooth(size=(40, 60)):
    return Image.fromarray(pixels(6, 9)).resize(size, Image.Resampling.BICUBIC)


def test_resize_has_the_pixels_of_tensorflow():
    tf = pytest.importorskip("tensorflow")
    rng = np.random.default_rng(0)
    for case in range(400):
        most = 700 if case % 8 == 0 else 80
        height, width, *size = (int(n) for n in rng.integers(1, most, 4))
        size = tuple(1 + n % 90 for n in size)
        image = pixels(height, width, 1 + 2 * (case % 2), case)
        if case % 5 == 0:
            image = image // 128 * np.uint8(255)
        expected = tf.round(tf.image.resize(image, size, antialias=True)).numpy()
        found = images.resize(image, size)
        assert found.dtype == np.uint8
        np.testing.assert_array_equal(found, expected, f"{image.shape} to {size}")
        tensor = images.resize(tf.constant(image), size)
        assert tensor.dtype == tf.uint8
        np.testing.assert_array_equal(tensor, expected)


def test_resize_of_batches_and_floats():
    tf = pytest.importorskip("tensorflow")
    batch = np.stack([pixels(13, 17, seed=k) for k in range(4)])
    found = images.resize(batch, (9, 21))
    for one, image in zip(found, batch, strict=True):
        np.testing.assert_array_equal(one, images.resize(image, (9, 21)))
    image = batch[0] / 2
    found = images.resize(image, [5, 40])
    tensor = tf.constant(image, tf.float32)
    expected = tf.round(tf.image.resize(tensor, (5, 40), antialias=True))
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, expected)
    assert images.resize(image, (13, 17)) is image


def test_resize_needs_no_tensorflow():
    code = """
import sys
sys.modules["tensorflow"] = None
import numpy as np
from kfeedback import images
from tests import harness
image = np.random.default_rng(0).integers(0, 256, (37, 52, 3), dtype=np.uint8)
print(images.resize(image, (16, 20)).tobytes().hex())
"""
    environment = {**os.environ, "KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"}
    result = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    expected = images.resize(pixels(37, 52), (16, 20)).tobytes().hex()
    assert result.stdout.split()[-1] == expected


@pytest.mark.parametrize(
    ("image", "size", "match"),
    [
        (np.zeros((4, 4, 3)), 4, r"size must be \(height, width\), got 4\."),
        (np.zeros((4, 4, 3)), (4, 0), "size must be an integer ≥ 1, got 0"),
        (np.zeros((4, 4)), (2, 2), r"image must be numbers .* float64 \(4, 4\)"),
        (np.zeros((0, 4, 3)), (2, 2), r"image must be .* \(0, 4, 3\)"),
        (np.array([[["a"]]]), (2, 2), "image must be numbers"),
    ],
)
def test_resize_refuses(image, size, match):
    with pytest.raises(ValueError, match=match):
        images.resize(image, size)


def files():
    """Images of common kinds, as bytes by name."""
    palette = smooth().convert("P", palette=Image.Palette.ADAPTIVE, colors=7)
    alpha = Image.fromarray(pixels(20, 30, 4))
    cmyk = smooth().convert("CMYK")
    found = {"palette": encoded(palette, "PNG")}
    found["tRNS"] = encoded(palette, "PNG", transparency=2)
    found["gray alpha"] = encoded(alpha.convert("LA"), "PNG")
    found["interlaced 1"] = encoded(smooth().convert("1"), "PNG")
    found["16 bits"] = encoded(
        Image.fromarray(np.arange(0, 65536, 16, dtype=np.uint16).reshape(64, 64)), "PNG"
    )
    for mode in ("L", "RGB", "RGBA"):
        found[f"PNG {mode}"] = encoded(alpha.convert(mode), "PNG")
    for quality in (30, 90):
        for sampling in (0, 1, 2):
            name = f"JPEG {quality} {sampling}"
            found[name] = encoded(
                smooth(), "JPEG", quality=quality, subsampling=sampling
            )
    found["progressive"] = encoded(smooth(), "JPEG", progressive=True)
    found["JPEG L"] = encoded(smooth().convert("L"), "JPEG")
    found["CMYK"] = encoded(cmyk, "JPEG")
    return found


@pytest.mark.parametrize("name", files())
def test_arrays_and_tensors_are_decoded_alike(name):
    tf = pytest.importorskip("tensorflow")
    contents = files()[name]
    found = images.decode(contents)
    assert found.dtype == np.uint8 and found.shape[2] == 3
    graph = tf.function(images.decode)
    np.testing.assert_array_equal(graph(tf.constant(contents)), found)
    assert images.is_png(contents) != images.is_jpeg(contents)
    assert bool(images.is_png(tf.constant(contents))) == images.is_png(contents)
    assert bool(images.is_jpeg(tf.constant(contents))) == images.is_jpeg(contents)


def test_sixteen_bits_of_color():
    tf = pytest.importorskip("tensorflow")
    deep = np.random.default_rng(0).integers(0, 2**16, (5, 6, 4), dtype=np.uint16)
    for channels in (1, 2, 3, 4):
        contents = tf.io.encode_png(deep[..., :channels]).numpy()
        expected = deep[..., : 3 if channels > 2 else 1] >> 8
        found = images.decode(contents)
        np.testing.assert_array_equal(found, np.broadcast_to(expected, (5, 6, 3)))
        np.testing.assert_array_equal(images.decode(tf.constant(contents)), found)


def test_what_the_files_show(tmp_path):
    gray = np.full((2, 3), 32768, np.uint16)
    contents = encoded(Image.fromarray(gray), "PNG")
    assert np.unique(images.decode(contents)) == 128
    assert images.decode(contents, channels=None).shape == (2, 3, 1)
    with pytest.raises(ValueError) as error:
        images.decode(contents, channels=1)
    harness.assert_one_sentence(error.value, "channels must be 3 or None, got 1")
    # The indices of a palette mean colors, also of two.
    colors = np.array([[[200, 10, 20], [0, 0, 250]]], np.uint8)
    palette = Image.fromarray(colors).convert("P", palette=Image.Palette.ADAPTIVE)
    for kind in ("BMP", "GIF", "PNG"):
        np.testing.assert_array_equal(images.decode(encoded(palette, kind)), colors)
    bits = Image.fromarray(np.array([[0, 255, 0]], np.uint8)).convert("1")
    for kind in ("BMP", "PNG"):
        found = images.decode(encoded(bits, kind))
        assert found[0].tolist() == [[0] * 3, [255] * 3, [0] * 3]
    # Alpha is cut off, EXIF turns nothing, of an animation the first frame counts.
    rgba = pixels(5, 4, 4)
    found = images.decode(encoded(Image.fromarray(rgba), "PNG"))
    np.testing.assert_array_equal(found, rgba[..., :3])
    turned = Image.Exif()
    turned[0x0112] = 6
    plain, noted = (encoded(smooth(), "JPEG", exif=e) for e in (Image.Exif(), turned))
    np.testing.assert_array_equal(images.decode(plain), images.decode(noted))
    frames = [Image.new("RGB", (3, 2), color) for color in ((9, 8, 7), (1, 2, 3))]
    moving = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert np.unique(images.decode(moving)).tolist() == [7, 8, 9]
    path = tmp_path / "a picture"
    path.write_bytes(moving)
    for source in (path, str(path)):
        np.testing.assert_array_equal(images.decode(source), images.decode(moving))


def test_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    smooth().save(tmp_path / "a.png")
    assert images.decode("~/a.png").shape == (60, 40, 3)


def flipped(contents, place):
    place %= len(contents)
    return contents[:place] + bytes([contents[place] ^ 255]) + contents[place + 1 :]


@pytest.mark.parametrize(
    ("contents", "reason"),
    [
        (b"", "empty"),
        (b"text, no picture", "no kind of image"),
        (encoded(smooth(), "PNG")[:200], "runcated"),
        (encoded(smooth(), "JPEG")[:400], "Truncated"),
        (encoded(smooth(), "JPEG")[:-80], "truncated"),
        (encoded(smooth(), "BMP")[:400], "truncated"),
        (flipped(encoded(Image.fromarray(pixels(40, 40)), "PNG"), 900), "broken PNG"),
        (encoded(smooth(), "PNG")[:-12], "truncated"),  # all pixels are there
        (flipped(encoded(smooth(), "PNG"), -14), "broken PNG file"),  # a checksum
        (encoded(Image.new("F", (3, 3)), "TIFF"), "32 bits"),
        (None, "No such file"),
    ],
)
def test_damaged_files_are_one_sentence(tmp_path, contents, reason):
    path = tmp_path / "caf\udce9.png"
    if contents is not None:
        path.write_bytes(contents)
    with pytest.raises(ValueError, match=reason) as caught:
        images.decode(path)
    message = str(caught.value)
    assert "caf\\udce9.png" in message and message.isprintable()
    assert message.startswith("source must be a whole image file, got ")
    assert message.endswith(".")
    if contents is not None:
        with pytest.raises(ValueError, match="got number 3"):
            images.decode(contents, name="number 3")


def test_an_error_does_not_hold_the_file():
    damaged = encoded(smooth(), "JPEG")[:-80]
    with pytest.raises(ValueError, match=r"^source must be a .*, got bytes: ") as error:
        images.decode(damaged)
    assert len(str(error.value)) < 200
