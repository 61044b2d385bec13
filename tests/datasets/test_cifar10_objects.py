import numpy as np
import pytest
import tensorflow_datasets as tfds

from kfeedback.datasets import load, objects
from kfeedback.datasets.builders import cifar10_objects as module

pytest.importorskip("PIL")

COUNTS = {"train": 12, "test": 7}


def cifar(data_dir=None, name="cifar10"):
    """Images that say in every pixel which split, class and image they are of."""
    assert name == "cifar10"
    labels = np.arange(20) % 10
    gray = (5 * np.arange(20)).astype(np.uint8)[:, None, None, None]
    images = np.broadcast_to(gray, (20, 32, 32, 3))
    return {"train": (images, labels), "test": (images + 100, labels)}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A folder that holds a tiny `cifar10_objects`."""
    folder = str(tmp_path_factory.mktemp("tfds"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "EXAMPLES", COUNTS)
        patch.setattr(
            module, "read_prepared", lambda name, data_dir: cifar(data_dir, name)
        )
        load("cifar10_objects", "train", data_dir=folder)
    return folder


def test_it_holds_the_composed_scenes(prepared):
    builder = tfds.builder("cifar10_objects", data_dir=prepared)
    assert builder.is_prepared()
    for stream, (split, count) in enumerate(COUNTS.items()):
        assert builder.info.splits[split].num_examples == count
        expected = list(objects.compose(*cifar()[split], count, seed=0, stream=stream))
        seen = set()
        for example in tfds.as_numpy(builder.as_dataset(split=split)):
            scene, placed = expected[example["image/id"]]
            np.testing.assert_array_equal(example["image"], scene)
            found = example["objects"]
            assert list(found["label"]) == [label for label, _, _ in placed]
            assert (64 * found["bbox"]).tolist() == [box for _, _, box in placed]
            for (top, left, bottom, right), label in zip(
                (64 * found["bbox"]).astype(int), found["label"], strict=True
            ):
                inside = example["image"][top:bottom, left:right]
                assert np.unique(inside).size == 1
                pixel = int(inside[0, 0, 0])
                assert (pixel >= 100) == (split == "test")
                assert pixel % 100 // 5 % 10 == label
            seen.add(int(example["image/id"]))
        assert seen == set(range(count))


@pytest.mark.parametrize("cache", [True, False])
def test_it_is_loaded_with_multi_hot_labels(prepared, cache):
    for stream, (split, count) in enumerate(COUNTS.items()):
        dataset, info = load(
            "cifar10_objects", split, data_dir=prepared, batch_size=5, cache=cache
        )
        assert info.multi_label and info.num_examples == count
        assert info.num_classes == 10 and info.class_names == module.CLASS_NAMES
        assert info.image_shape == (64, 64, 3)
        images, labels = (
            np.concatenate(part)
            for part in zip(*dataset.as_numpy_iterator(), strict=True)
        )
        expected = {
            scene.tobytes(): sorted(label for label, _, _ in placed)
            for scene, placed in objects.compose(
                *cifar()[split], count, seed=0, stream=stream
            )
        }
        assert labels.shape == (count, 10) and labels.dtype == np.int32
        for image, label in zip(images.astype(np.uint8), labels, strict=True):
            assert list(np.flatnonzero(label)) == expected.pop(image.tobytes())
        assert not expected and set(labels.ravel()) == {0, 1}
