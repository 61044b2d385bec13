import numpy as np
import pytest

from kfeedback.datasets.boxes import load_boxes

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
    with pytest.raises(FileNotFoundError, match=r"JPEGImages/c\.jpg") as error:
        load_boxes(voc, "all")
    assert ".." not in str(error.value)


def test_images_of_several_sizes_want_one(voc):
    Image.new("RGB", (30, 20)).save(voc / "JPEGImages" / "c.jpg")
    with pytest.raises(ValueError, match="image_size must be given"):
        load_boxes(voc, "all")
