"""Folders as real people have them: the right pixels, or a sentence that says which.

Every case is a small folder with a few oddities at random. Images are of one color, so
that what they must be is known without decoding or resizing them a second time.
"""

import io
import os
import warnings

import numpy as np
import pytest
import tensorflow as tf

from kfeedback.datasets import load, stream_boxes

Image = pytest.importorskip("PIL.Image")


def plain(color, size, mode="RGB"):
    return Image.new("RGB", size, color).convert(mode)


def as_file(image, kind, **arguments):
    file = io.BytesIO()
    image.save(file, kind, **arguments)
    return file.getvalue()


def gray(color):
    return (color[0],) * 3


def adaptive(color, size):
    return plain(color, size).quantize(4)


def turned():
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


def deep(color, size):
    return Image.fromarray(np.full(size[::-1], 256 * color[0] + 255, np.uint16))


# Name -> suffix, bytes of a color and size, the color that must be read.
KINDS = {
    "png": (".png", lambda c, s: as_file(plain(c, s), "PNG"), tuple),
    "jpeg": (".JPG", lambda c, s: as_file(plain(c, s), "JPEG", exif=turned()), tuple),
    "cmyk": (".jpeg", lambda c, s: as_file(plain(c, s, "CMYK"), "JPEG"), tuple),
    "gray jpeg": (".jpg", lambda c, s: as_file(plain(gray(c), s, "L"), "JPEG"), gray),
    "palette png": (".png", lambda c, s: as_file(adaptive(c, s), "PNG"), tuple),
    "palette bmp": (".bmp", lambda c, s: as_file(adaptive(c, s), "BMP"), tuple),
    "bmp": (".BMP", lambda c, s: as_file(plain(c, s), "BMP"), tuple),
    "one bit": (
        ".bmp",
        lambda c, s: as_file(Image.new("1", s, 1), "BMP"),
        lambda c: (255,) * 3,
    ),
    "deep": (".png", lambda c, s: as_file(deep(c, s), "PNG"), gray),
    "clear": (
        ".png",
        lambda c, s: as_file(Image.new("RGBA", s, (*c, 7)), "PNG"),
        tuple,
    ),
    "gray clear": (
        ".png",
        lambda c, s: as_file(Image.new("LA", s, (c[0], 0)), "PNG"),
        gray,
    ),
    "moving": (
        ".gif",
        lambda c, s: as_file(
            plain(c, s), "GIF", save_all=True, append_images=[plain((1, 2, 3), s)]
        ),
        tuple,
    ),
    "webp": (".png", lambda c, s: as_file(plain(c, s), "WEBP", lossless=True), tuple),
}


def flip(contents):
    """A PNG of which one bit of the pixels is wrong."""
    place = contents.index(b"IDAT") + 6
    return contents[:place] + bytes([contents[place] ^ 4]) + contents[place + 1 :]


DAMAGES = {
    "empty": lambda contents: b"",
    "foreign": lambda contents: b"\xd0\xcf\x11\xe0 Thumbs",
    "cut": lambda contents: contents[: len(contents) // 2],
    "bit": lambda contents: flip(
        as_file(Image.effect_noise((20, 20), 50).convert("RGB"), "PNG")
    ),
}
NAMES = ("{}", "a b {}", "ü{}", "caf\udce9 {}", "x.y.{}", "-{}", "'{}'", "{}%s")
CLASSES = ("owl", "wren", "grand duc", "m\udce9sange", "épervier", "2")


def image_of(rng, bad, damage):
    """`(suffix, bytes, color)` of a random kind; damaged if wanted."""
    kind = list(KINDS)[rng.integers(len(KINDS))]
    suffix, make, read = KINDS[kind]
    color = tuple(int(c) for c in rng.integers(4, 252, 3))
    size = tuple(int(n) for n in rng.integers(9, 30, 2))
    contents = make(color, size)
    if bad:
        contents, suffix = DAMAGES[damage](contents), suffix
    return suffix, contents, read(color), size


def write_folder(rng, root):
    """Makes a folder; returns what must be read, class by color, and what is bad."""
    expected, bad = [], []
    damaged = rng.random() < 0.4
    labels = [CLASSES[k] for k in rng.permutation(len(CLASSES))[: rng.integers(1, 4)]]
    total = 0
    for label in labels:
        folder = root / "train" / label
        folder.mkdir(parents=True)
        for n in range(rng.integers(0 if total else 1, 4)):
            wrong = damaged and rng.random() < 0.4
            damage = list(DAMAGES)[rng.integers(len(DAMAGES))]
            suffix, contents, color, _ = image_of(rng, wrong, damage)
            stem = NAMES[rng.integers(len(NAMES))].format(n)
            (folder / f"{stem}{suffix}").write_bytes(contents)
            if wrong:
                bad.append(folder / f"{stem}{suffix}")
            else:
                expected.append((os.fsencode(label), color))
            total += 1
        left_out = {
            "._0.png": b"\0\5\x16\7",
            ".DS_Store": b"",
            "Thumbs.db": b"",
            "notes.txt": b"owls",
        }
        for name, contents in left_out.items():
            if rng.random() < 0.3:
                (folder / name).write_bytes(contents)
        if rng.random() < 0.3:
            (folder / ".ipynb_checkpoints").mkdir()
            (folder / ".ipynb_checkpoints" / "0-checkpoint.png").write_bytes(b"")
        if rng.random() < 0.2:
            (folder / "a folder.png").mkdir()
        if rng.random() < 0.2:
            (folder / "@eaDir").mkdir()
            (folder / "@eaDir" / "0.png").write_bytes(b"")
    if rng.random() < 0.3:
        (root / "__MACOSX" / "owl").mkdir(parents=True)
        (root / "__MACOSX" / "owl" / "._0.png").write_bytes(b"\0\5\x16\7")
        (root / "train" / "__MACOSX").mkdir()
        (root / "train" / "__MACOSX" / "._0.png").write_bytes(b"\0\5\x16\7")
    if rng.random() < 0.3:
        (root / ".git" / "objects").mkdir(parents=True)
    return labels, expected, bad


def one_sentence_names(error, paths):
    message = str(error)
    if isinstance(error, ValueError):
        assert message.endswith(".") and "\n" not in message, message
    assert any(repr(str(path)) in message for path in paths), message


def check_folder(rng, root, cache):
    labels, expected, bad = write_folder(rng, root)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        try:
            dataset, info = load(root, "train", image_size=6, cache=cache, batch_size=3)
            batches = list(dataset.as_numpy_iterator())
        except (ValueError, tf.errors.InvalidArgumentError) as error:
            assert bad, str(error)
            one_sentence_names(error, bad)
            return "refused"
    assert not bad, f"{bad} were read"
    assert len(info.class_names) == len(labels)
    order = sorted(labels)
    found = []
    for images, numbers in batches:
        for image, number in zip(images, numbers, strict=True):
            color = image.reshape(-1, 3)
            np.testing.assert_array_equal(color, color[:1].repeat(len(color), 0))
            found.append((os.fsencode(order[number]), color[0].tolist()))
    assert_same(found, expected)
    return "read"


def assert_same(found, expected):
    """The same colors, up to the two levels that JPEG may take, of the same classes."""
    assert len(found) == len(expected)
    for name, color in expected:
        distance = [
            np.abs(np.subtract(color, other)).max() if name == label else 255
            for label, other in found
        ]
        nearest = int(np.argmin(distance))
        assert distance[nearest] <= 2, f"{name} {color} is not among {found}"
        del found[nearest]


def box_of(rng, size):
    """A box as annotated, and what is left of it, or `None`; or text if it is bad."""
    width, height = size
    left, top = (int(n) for n in rng.integers(-10, 35, 2))
    right, bottom = left + int(rng.integers(0, 20)), top + int(rng.integers(0, 20))
    kind = rng.random()
    if kind < 0.05:
        return (right + 1, top, left, bottom), "bad"
    if kind < 0.08:
        return (left, "nan", right, bottom), "bad"
    inside = np.clip([top - 1, left - 1, bottom, right], 0, [height, width] * 2)
    empty = (inside[2:] <= inside[:2]).any()
    return (left, top, right, bottom), None if empty else inside.tolist()


def annotation(filename, objects):
    inside = "".join(
        f"<object><name>{name}</name><part><name>head</name><bndbox><xmin>1</xmin>"
        f"</bndbox></part><bndbox><xmin>{a}</xmin><ymin>{b}</ymin><xmax>{c}</xmax>"
        f"<ymax>{d}</ymax></bndbox></object>"
        for name, (a, b, c, d) in objects
    )
    text = f"<annotation><filename>{filename}</filename>{inside}</annotation>"
    return '<?xml version="1.0" encoding="ISO-8859-1"?>\n' + text


def check_boxes(rng, root):
    for folder in ("Annotations", "JPEGImages"):
        (root / folder).mkdir(parents=True)
    expected, bad = [], []
    damaged = rng.random() < 0.4
    for n in range(rng.integers(1, 4)):
        how = rng.integers(8) if damaged else 8
        damage = list(DAMAGES)[how % len(DAMAGES)]
        suffix, contents, color, size = image_of(rng, how < 4, damage)
        image = root / "JPEGImages" / f"{n}{suffix}"
        image.write_bytes(contents)
        boxes = [box_of(rng, size) for _ in range(rng.integers(0, 4))]
        names = [("owl", "mésange", "wren")[rng.integers(3)] for _ in boxes]
        text = annotation(
            image.name,
            [(name, box) for name, (box, _) in zip(names, boxes, strict=True)],
        ).encode("latin-1")
        path = root / "Annotations" / f"{n}.xml"
        if how == 4:
            image.unlink()
        elif how == 5:
            text = text[: len(text) // 2]
        elif how == 6:
            text = text.replace(b"filename", b"file")
        path.write_bytes(text)
        if how < 5:
            bad.append(image)
        if how in (5, 6) or any(left == "bad" for _, left in boxes):
            bad.append(path)
        expected.append(
            (
                color,
                [(m, left) for m, (_, left) in zip(names, boxes, strict=True) if left],
            )
        )
    if rng.random() < 0.3:
        (root / "Annotations" / "._0.xml").write_bytes(b"\0\5\x16\7")
    try:
        stream = stream_boxes(root, "all")
        examples = list(stream)
    except ValueError as error:
        assert bad, str(error)
        one_sentence_names(error, bad)
        return "refused"
    assert not bad, f"{bad} were read"
    for one, (color, objects) in zip(examples, expected, strict=True):
        pixels = one.image.reshape(-1, 3).astype(int)
        assert np.abs(pixels - color).max() <= 2
        found = [stream.class_names[label] for label in one.labels]
        assert list(zip(found, one.boxes.tolist(), strict=True)) == objects
    return "read"


def check(root, seeds):
    ends = {"read": 0, "refused": 0}
    for seed in seeds:
        rng = np.random.default_rng(seed)
        folder = root / str(seed)
        if seed % 2:
            end = check_boxes(rng, folder)
        else:
            end = check_folder(rng, folder, cache=bool(seed % 4))
        ends[end] += 1
    # Both happen often, or the test would say little.
    assert min(ends.values()) >= len(seeds) / 8, ends


@pytest.mark.slow
def test_twenty_folders(tmp_path):
    check(tmp_path, range(20))


@pytest.mark.slow
def test_two_hundred_folders(tmp_path):
    check(tmp_path, range(1000, 1200))
