import pathlib
import tracemalloc

import numpy as np
import pytest

import kfeedback
from kfeedback import images
from kfeedback.datasets import load_boxes, stream_boxes

Image = pytest.importorskip("PIL.Image")

_OBJECT = """<object><name>{}</name><bndbox><xmin>{}</xmin><ymin>{}</ymin>
<xmax>{}</xmax><ymax>{}</ymax></bndbox></object>"""


@pytest.fixture
def voc(tmp_path):
    """Three images; VOC counts pixels from 1, and its upper bounds are inside."""
    for folder in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (tmp_path / folder).mkdir(parents=True)
    objects = {
        "a": [("dog", 1, 1, 10, 20)],
        "b": [("cat", 3, 5, 30, 8), ("dog", 2, 2, 3, 3)],
        "c": [("bird", 1, 1, 2, 2)],
    }
    for name, found in objects.items():
        Image.new("RGB", (40, 20), (100, 0, 0)).save(
            tmp_path / "JPEGImages" / f"{name}.jpg"
        )
        inside = "".join(_OBJECT.format(*one) for one in found)
        (tmp_path / "Annotations" / f"{name}.xml").write_text(
            f"<annotation><filename>{name}.jpg</filename>{inside}</annotation>"
        )
    (tmp_path / "ImageSets/Main/val.txt").write_text("b 1\na -1\n")
    return tmp_path


def test_voc_folder(voc):
    found = load_boxes(voc, "all")
    assert found.class_names == ["bird", "cat", "dog"]
    assert found.images.shape == (3, 20, 40, 3) and found.images.dtype == np.uint8
    assert found.index.tolist() == [0, 1, 1, 2]
    assert found.labels.tolist() == [2, 1, 2, 0]
    assert found.boxes.tolist() == [
        [0, 0, 20, 10],
        [4, 2, 8, 30],
        [1, 1, 3, 3],
        [0, 0, 2, 2],
    ]


def test_splits_counts_sizes_and_names(voc):
    found = load_boxes(voc, "val", image_size=(10, 10), count=1)
    assert found.images.shape == (1, 10, 10, 3)
    assert found.boxes[0].tolist() == [2, 0, 4, 8]
    names = ["dog", "cat", "bird", "fox"]
    assert load_boxes(voc, "all", class_names=names).labels.tolist() == [0, 1, 0, 2]


def test_a_class_has_one_number_in_all_splits(voc):
    found = load_boxes(voc, "val", count=1)
    assert found.class_names == ["bird", "cat", "dog"]
    assert found.labels.tolist() == [1, 2]


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"split": "test"}, "split must be 'all' or name"),
        ({"class_names": ["dog"]}, "class_names must hold bird, cat"),
        ({"count": 0}, "count must be an integer ≥ 1"),
    ],
)
def test_bad_arguments(voc, arguments, match):
    with pytest.raises(ValueError, match=match):
        load_boxes(voc, **{"split": "all", **arguments})


def test_bad_annotations(voc):
    (voc / "Annotations" / "c.xml").write_text("<annotation><filename>c.jpg")
    with pytest.raises(ValueError, match=r"annotations of VOC, got .*c\.xml"):
        load_boxes(voc, "all")
    (voc / "Annotations" / "c.xml").write_text(
        "<annotation><filename>../../c.jpg</filename></annotation>"
    )
    (voc / "JPEGImages" / "c.jpg").unlink()
    with pytest.raises(ValueError, match=r"JPEGImages/c\.jpg.*No such file") as error:
        load_boxes(voc, "all")
    assert ".." not in str(error.value)


@pytest.mark.parametrize(
    ("wrong", "right", "reason"),
    [
        (
            "<filename> </filename>",
            "<filename>c.jpg</filename>",
            "annotation has no filename",
        ),
        (
            "<file>c.jpg</file>",
            "<filename>c.jpg</filename>",
            "annotation has no filename",
        ),
        ("<name></name>", "<name>bird</name>", "object has no name"),
        ("<name> </name>", "<name>bird</name>", "object has no name"),
        ("<box>", "<bndbox>", "the object 'bird' has no bndbox"),
        ("", "<xmax>2</xmax>", "bndbox has no xmax"),
        ("<xmax/>", "<xmax>2</xmax>", "bndbox has no xmax"),
        ("<xmax>1,5</xmax>", "<xmax>2</xmax>", "xmax must be a number, got '1,5'"),
    ],
)
def test_what_an_annotation_lacks_is_said(voc, wrong, right, reason):
    path = voc / "Annotations" / "c.xml"
    text = path.read_text().replace(right, wrong)
    path.write_text(text.replace("</bndbox>", "</box>") if "box" in wrong else text)
    with pytest.raises(ValueError) as error:
        load_boxes(voc, "all")
    assert str(error.value) == (
        f"name must be a folder with annotations of VOC, got {str(path)!r}: {reason}."
    )


@pytest.mark.parametrize(
    ("width", "height", "fits"),
    [(40, 20, True), (0, 0, True), (20, 40, False), (80, 40, False), ("?", 20, True)],
)
def test_boxes_in_another_size_than_the_image_are_refused(voc, width, height, fits):
    """As of a photograph that was turned, or made smaller, after it was annotated."""
    path = voc / "Annotations" / "b.xml"
    size = f"<size><width>{width}</width><height>{height}</height></size>"
    path.write_text(path.read_text().replace("<object>", f"{size}<object>", 1))
    stream = stream_boxes(voc, "all")
    if fits:
        assert [len(one.boxes) for one in stream] == [1, 2, 1]
        return
    with pytest.raises(ValueError) as error:
        list(stream)
    assert str(error.value) == (
        f"name must be a folder with annotations of VOC, got {str(path)!r}: its boxes "
        f"are in an image of {width}×{height} pixels, b.jpg has 40×20."
    )


def annotate(voc, name, *objects):
    inside = "".join(_OBJECT.format(*one) for one in objects)
    (voc / "Annotations" / f"{name}.xml").write_text(
        f"<annotation><filename>{name}.jpg</filename>{inside}</annotation>"
    )


def test_boxes_beyond_the_image_are_clipped_or_left_out(voc):
    annotate(
        voc,
        "a",
        ("dog", -9, -3, 200, 30),
        ("cat", 41, 1, 50, 9),
        ("cat", -8, 1, 0, 9),
        ("bird", 40, 20, 44, 25),
    )
    found = load_boxes(voc, "val")
    (a,) = np.flatnonzero(np.bincount(found.index) == 2)[1:]
    assert found.boxes[found.index == a].tolist() == [[0, 0, 20, 40], [19, 39, 20, 40]]
    assert found.labels[found.index == a].tolist() == [2, 0]


@pytest.mark.parametrize("box", [(9, 1, 8, 9), (1, 9, 9, 8), (1, "nan", 9, 9)])
def test_boxes_that_end_before_they_start_are_refused(voc, box):
    annotate(voc, "b", ("dog", *box))
    with pytest.raises(ValueError, match=r"got .*b\.xml': the box of 'dog' ends"):
        load_boxes(voc, "all")


def test_a_list_with_a_byte_order_mark(voc):
    listed = voc / "ImageSets" / "Main" / "windows.txt"
    listed.write_bytes(b"\xef\xbb\xbfa\r\nb\r\n")
    assert len(list(stream_boxes(voc, "windows"))) == 2


def test_hidden_annotations_are_none(voc):
    (voc / "Annotations" / "._a.xml").write_bytes(b"\0\5\x16\7")
    (voc / "Annotations" / ".ipynb_checkpoints").mkdir()
    assert len(load_boxes(voc, "all").images) == 3


@pytest.mark.parametrize("contents", [b"", b"Thumbs", None])
def test_damaged_images_are_named(voc, contents):
    path = voc / "JPEGImages" / "b.jpg"
    path.write_bytes(path.read_bytes()[:300] if contents is None else contents)
    with pytest.raises(ValueError, match=r"whole image file, got .*/b\.jpg'"):
        load_boxes(voc, "all")


def test_paths(voc, monkeypatch):
    monkeypatch.chdir(voc.parent)
    monkeypatch.setenv("HOME", str(voc.parent))
    for name in (pathlib.Path(voc.name), f"./{voc.name}", f"~/{voc.name}"):
        assert len(load_boxes(name, "all").images) == 3
    assert kfeedback.datasets.boxes.load_boxes is load_boxes
    for name in (pathlib.Path("nowhere"), "./nowhere"):
        with pytest.raises(ValueError, match=r"existing folder .* got '.*nowhere'"):
            load_boxes(name, "all")
    with pytest.raises(ValueError, match="name must be a name or a path, got 3"):
        load_boxes(3, "all")


def test_images_are_resized_like_those_to_train_on(voc):
    from kfeedback.datasets import load

    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (6, 9, 3), dtype=np.uint8)
    for name, size in (("a", (60, 40)), ("b", (31, 77)), ("c", (9, 7))):
        image = Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC)
        image.save(voc / "JPEGImages" / f"{name}.jpg")
    (voc / "split").mkdir()
    (voc / "split" / "class").symlink_to(voc / "JPEGImages")
    batches, _ = load(voc, "split", image_size=(20, 24))
    ((expected, _),) = batches
    found = load_boxes(voc, "all", image_size=(20, 24))
    np.testing.assert_array_equal(found.images, expected)
    for one, original in zip(found.images, found.originals, strict=True):
        np.testing.assert_array_equal(images.resize(original, (20, 24)), one)


def test_a_stream_gives_one_image_after_another(voc):
    stream = stream_boxes(voc, "all", image_size=10)
    assert stream.class_names == ["bird", "cat", "dog"]
    for _ in range(2):
        found = list(stream)
        assert [one.labels.tolist() for one in found] == [[2], [1, 2], []]
        assert {one.image.shape for one in found} == {(10, 10, 3)}
        assert {one.original.shape for one in found} == {(20, 40, 3)}
        # Of the object in the third image no pixel is left.
        assert found[1].boxes.tolist() == [[2, 0, 4, 8], [0, 0, 2, 1]]
    whole = load_boxes(voc, "all", image_size=10)
    boxes = np.concatenate([one.boxes for one in found])
    np.testing.assert_array_equal(whole.boxes, boxes)
    (voc / "JPEGImages" / "b.jpg").write_bytes(b"")
    stream = iter(stream_boxes(voc, "all"))
    assert next(stream).labels.tolist() == [2]
    with pytest.raises(ValueError, match=r"b\.jpg"):
        next(stream)


def test_a_center_crop_takes_boxes_along(voc):
    """Of 40×20 pixels the square of 20 from column 10 on, at half its size."""
    annotate(voc, "a", ("dog", 11, 3, 20, 20), ("cat", 1, 1, 9, 9))
    stream = stream_boxes(voc, "all", image_size=10, center_crop=1)
    assert len(stream) == 3 and len(stream_boxes(voc, "all", count=2)) == 2
    first, second, _ = stream
    assert first.image.shape == (10, 10, 3) and first.original.shape == (20, 40, 3)
    assert first.labels.tolist() == [2] and first.boxes.tolist() == [[1, 0, 10, 5]]
    assert second.boxes.tolist() == [[2, 0, 4, 10]]  # cut off on both sides
    with pytest.raises(ValueError, match="center_crop must be a number > 0 and ≤ 1"):
        stream_boxes(voc, "all", center_crop=2)


def test_a_center_crop_is_that_of_training(voc):
    from kfeedback.datasets import load

    rng = np.random.default_rng(0)
    for name, size in (("a", (61, 40)), ("b", (31, 77)), ("c", (9, 7))):
        noise = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
        Image.fromarray(noise).save(voc / "JPEGImages" / f"{name}.jpg")
    (voc / "split").mkdir()
    (voc / "split" / "class").symlink_to(voc / "JPEGImages")
    batches, _ = load(voc, "split", image_size=12, center_crop=0.7)
    ((expected, _),) = batches
    found = load_boxes(voc, "all", image_size=12, center_crop=0.7)
    np.testing.assert_array_equal(found.images, expected)


def test_a_stream_keeps_no_image(voc):
    """An image takes 3 MB here: the memory for 40 is that for 4."""
    Image.new("RGB", (1000, 1000)).save(voc / "JPEGImages" / "a.jpg")

    def peak(count):
        (voc / "ImageSets" / "Main" / "train.txt").write_text("a\n" * count)
        tracemalloc.start()
        seen = sum(1 for _ in stream_boxes(voc, "train", image_size=50))
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert seen == count
        return most

    few, many = peak(4), peak(40)
    assert many < few + 1_000_000, f"{few} bytes for 4, {many} for 40"


def test_images_of_several_sizes_want_one(voc):
    Image.new("RGB", (30, 20)).save(voc / "JPEGImages" / "c.jpg")
    with pytest.raises(ValueError, match="image_size must be given"):
        load_boxes(voc, "all")


def test_names_of_classes_are_for_folders():
    with pytest.raises(
        ValueError, match=r"^class_names must be None for a data set of"
    ):
        stream_boxes("voc/2007", "test", class_names=["cat"])
