import numpy as np
import pytest

from kfeedback.datasets import DatasetInfo, load, load_arrays
from tests.datasets.test_loader import everything, keys


@pytest.mark.parametrize("classes", [[7, "3"], ("7", np.int64(3))])
def test_some_classes_are_kept(classes):
    images, labels, _ = load_arrays("synthetic", "test[:100]")
    found = load_arrays("synthetic", "test[:100]", classes=classes)
    kept = (labels == 7) | (labels == 3)
    np.testing.assert_array_equal(found[0], images[kept])
    np.testing.assert_array_equal(found[1], labels[kept] == 3)
    assert found[1].dtype == np.int32
    assert found[2] == DatasetInfo(
        "synthetic", "test[:100]", kept.sum(), 2, (32, 32, 3), ("7", "3")
    )


@pytest.mark.parametrize(
    ("classes", "match"),
    [
        ([], r"a list of class names or indices, got \[\]"),
        ("3", "a list .* got '3'"),
        (3, "a list .* got 3"),
        (["3", "cat"], "name some of 10 classes, got 'cat'"),
        ([3, 10], "indices below 10, got 10"),
        ([-1], "an integer ≥ 0, got -1"),
        ([1.5], "an integer ≥ 0, got 1.5"),
        ([True], "an integer ≥ 0, got True"),
        ([3, 4, "3"], r"each class once, got \[3, 4, '3'\]"),
        ([5], r"some of the 1 examples of 'test\[:1\]', got \[5\]"),
    ],
)
def test_wrong_classes_are_refused(classes, match):
    split = "test[:1]" if classes == [5] else "test"
    with pytest.raises(ValueError, match=f"classes must .*{match}"):
        load_arrays("synthetic", split, classes=classes)


@pytest.mark.parametrize("cache", [True, False])
def test_some_classes_of_a_tfds_set(prepared, cache):
    def read(**arguments):
        dataset, info = load(
            "mnist_background_images",
            "train[5:]",
            data_dir=prepared,
            batch_size=4,
            cache=cache,
            **arguments,
        )
        assert int(dataset.cardinality()) == -(-info.num_examples // 4)
        return *everything(dataset), info, dataset

    images, labels, _, _ = read()
    found = read(classes=["7", 2])
    kept = np.isin(labels, [7, 2])
    np.testing.assert_array_equal(found[0], images[kept])
    np.testing.assert_array_equal(found[1], labels[kept] == 2)
    assert found[2].num_examples == kept.sum() and found[2].num_classes == 2
    assert found[2].class_names == ("7", "2") and not found[2].multi_label
    shuffled = read(classes=["7", 2], shuffle=True, shift=0)
    assert keys(shuffled[0]) != keys(found[0])
    pairs = set(zip(keys(found[0]), found[1], strict=True))
    assert set(zip(keys(shuffled[0]), shuffled[1], strict=True)) == pairs
    second = everything(shuffled[3])
    assert keys(second[0]) != keys(shuffled[0])
    assert set(zip(keys(second[0]), second[1], strict=True)) == pairs
    with pytest.raises(ValueError, match=r"classes must name .* got 'cat'"):
        read(classes=["cat"])


def test_some_classes_of_a_folder(folder):
    dataset, info = load(folder, "test", image_size=6, classes=["c", "b"])
    np.testing.assert_array_equal(everything(dataset)[1], [0, 0, 0, 0])
    assert info.num_examples == 4 and info.class_names == ("c", "b")
    with pytest.raises(ValueError, match="classes must leave some of the 8"):
        load(folder, "test", image_size=6, classes=["b"])


def test_names_go_before_numbers(tmp_path):
    """As the command line gives them: the folder "1" is not the class of number 1."""
    from PIL import Image

    for name in ("1", "2", "3"):
        folder = tmp_path / "test" / name
        folder.mkdir(parents=True)
        Image.new("RGB", (4, 4)).save(folder / "image.png")
    _, info = load(f"{tmp_path}", "test", image_size=4, classes=["1", "2"])
    assert info.class_names == ("1", "2")
    _, info = load(f"{tmp_path}", "test", image_size=4, classes=["0", "2"])
    assert info.class_names == ("1", "2")
