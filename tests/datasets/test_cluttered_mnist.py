import numpy as np
import pytest
import tensorflow_datasets as tfds

from kfeedback.datasets import clutter, load
from kfeedback.datasets.boxes import load_boxes
from kfeedback.datasets.builders import cluttered_mnist as module
from tests.datasets.test_clutter import figures

pytest.importorskip("PIL")

COUNTS = {"train": 6, "test": 4, "test_two": 3}


def mnist(name, data_dir):
    assert name == "mnist"
    images, labels = figures()
    return {"train": (images, labels), "test": (images[::-1], labels[::-1])}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A folder that holds a tiny `cluttered_mnist`."""
    folder = str(tmp_path_factory.mktemp("tfds"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "EXAMPLES", COUNTS)
        patch.setattr(module, "read_prepared", mnist)
        load("cluttered_mnist", "train", data_dir=folder)
    return folder


@pytest.mark.parametrize(("stream", "split"), enumerate(COUNTS))
def test_it_holds_the_composed_scenes(prepared, stream, split):
    source = mnist("mnist", None)[split.split("_")[0]]
    figures_in = 2 if split == "test_two" else 1
    expected = list(
        clutter.compose(*source, COUNTS[split], figures_in, seed=0, stream=stream)
    )
    builder = tfds.builder("cluttered_mnist", data_dir=prepared)
    numbers = []
    for example in tfds.as_numpy(builder.as_dataset(split=split)):
        scene, placed = expected[example["image/id"]]
        np.testing.assert_array_equal(example["image"], scene)
        assert example["label"] == placed[0][0]
        found = example["objects"]
        assert list(found["label"]) == [label for label, _, _ in placed]
        assert (64 * found["bbox"]).tolist() == [list(box) for _, _, box in placed]
        numbers.append(int(example["image/id"]))
    assert sorted(numbers) == list(range(COUNTS[split]))


def test_loads_with_one_label_and_with_boxes(prepared):
    batches, info = load("cluttered_mnist", "test", data_dir=prepared, batch_size=4)
    images, labels = next(iter(batches))
    assert images.shape == (4, 64, 64, 1) and not info.multi_label
    boxed = load_boxes("cluttered_mnist", "test", data_dir=prepared)
    np.testing.assert_array_equal(boxed.images, images)
    np.testing.assert_array_equal(boxed.labels, labels)
    assert boxed.index.tolist() == [0, 1, 2, 3]
    two = load_boxes("cluttered_mnist", "test_two", data_dir=prepared, count=2)
    assert two.index.tolist() == [0, 0, 1, 1] and len(two.class_names) == 10
    half = load_boxes("cluttered_mnist", "test", data_dir=prepared, image_size=(32, 32))
    np.testing.assert_array_equal(half.originals, boxed.images)
    assert abs(2 * half.boxes - boxed.boxes).max() <= 1


def test_sets_without_boxes_are_refused(tmp_path):
    with (
        tfds.testing.mock_data(num_examples=1),
        pytest.raises(
            ValueError, match="objects with label and bbox, or label and bbox"
        ),
    ):
        load_boxes("mnist", "train", data_dir=str(tmp_path))
