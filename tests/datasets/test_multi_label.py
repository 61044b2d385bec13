import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

from kfeedback.datasets import (
    ArrayDataset,
    load,
    load_arrays,
    load_boxes,
    stream_boxes,
)
from tests.datasets.test_arrays import epoch
from tests.datasets.test_loader import everything


class KfeedbackTestScenes(tfds.core.GeneratorBasedBuilder):
    """Images with the features of voc, whose gray level says of which classes."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        names = ["cat", "dog", "owl"]
        sequence, label = tfds.features.Sequence, tfds.features.ClassLabel
        return tfds.core.DatasetInfo(
            builder=self,
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(None, None, 3)),
                    "image/filename": tfds.features.Text(),
                    "labels": sequence(label(names=names)),
                    "objects": sequence(
                        {
                            "label": label(names=names),
                            "bbox": tfds.features.BBoxFeature(),
                            "pose": label(num_classes=5),
                            "is_difficult": np.bool_,
                        }
                    ),
                }
            ),
        )

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples()}

    def _generate_examples(self):
        box = tfds.features.BBox(0.0, 0.0, 1.0, 1.0)
        for i in range(16):
            found = [k for k in range(3) if i & 1 << k] * 2  # each class twice
            yield (
                i,
                {
                    "image": np.full((8 + i, 9, 3), 10 * i, np.uint8),
                    "image/filename": f"{i}.jpg",
                    "labels": found,
                    "objects": [
                        {"label": k, "bbox": box, "pose": i % 5, "is_difficult": i < 8}
                        for k in found
                    ],
                },
            )


@pytest.mark.parametrize("dtype", [np.uint8, bool, np.int64])
def test_npz_of_several_classes_an_image(tmp_path, dtype):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, (9, 4)).astype(dtype)
    labels[:, 3] = 0  # a class that no image is of
    arrays = {
        "x_train": rng.integers(0, 256, (9, 5, 4), dtype=np.uint8),
        "y_train": labels,
        "x_test": np.zeros((1, 5, 4), np.uint8),
        "y_test": labels[:1],
    }
    np.savez(tmp_path / "set.npz", **arrays)
    images, found, info = load_arrays("set.npz", "train[3:]", data_dir=tmp_path)
    assert info.multi_label and info.num_classes == 4 and info.num_examples == 6
    assert info.class_names == tuple("0123") and found.dtype == np.int32
    np.testing.assert_array_equal(found, labels[3:])
    dataset = ArrayDataset(images, found, 4, shuffle=True)
    x, y = epoch(dataset, 1)
    originals = [image.tobytes() for image in images]
    order = [originals.index(image.astype(np.uint8).tobytes()) for image in x]
    np.testing.assert_array_equal(y, found[order])
    with pytest.raises(ValueError, match="classes must be None where"):
        load_arrays("set.npz", "train", data_dir=tmp_path, classes=[0, 1])


@pytest.mark.parametrize("cache", [True, False])
@pytest.mark.parametrize("shuffle", [True, False])
def test_objects_become_multi_hot_labels(tmp_path, cache, shuffle):
    dataset, info = load(
        "kfeedback_test_scenes",
        "train",
        batch_size=5,
        data_dir=str(tmp_path),
        image_size=(4, 6),
        cache=cache,
        shuffle=shuffle,
        flip=True,
    )
    assert dataset.element_spec[1].shape.as_list() == [None, 3]
    assert dataset.element_spec[1].dtype == tf.int32
    assert info.multi_label and info.image_shape == (4, 6, 3)
    assert info.num_classes == 3 and info.class_names == ("cat", "dog", "owl")
    images, labels = everything(dataset)
    numbers = images[:, 0, 0, 0].astype(int) // 10
    assert sorted(numbers) == list(range(16))
    np.testing.assert_array_equal(labels, numbers[:, None] >> np.arange(3) & 1)
    with pytest.raises(ValueError, match=r"image_size must be given for"):
        load("kfeedback_test_scenes", "train", data_dir=str(tmp_path))
    with pytest.raises(ValueError, match=r"classes must be None where"):
        load(
            "kfeedback_test_scenes",
            "train",
            data_dir=str(tmp_path),
            image_size=4,
            classes=["cat"],
        )


def test_images_with_boxes_have_the_same_pixels(tmp_path):
    arguments = {"data_dir": str(tmp_path), "image_size": (4, 6)}
    images, labels = everything(load("kfeedback_test_scenes", "train", **arguments)[0])
    found = load_boxes("kfeedback_test_scenes", "train[2:]", **arguments)
    np.testing.assert_array_equal(found.images, images[2:])
    assert found.class_names == ["cat", "dog", "owl"]
    assert (found.boxes == [0, 0, 4, 6]).all()
    hot = np.zeros_like(labels[2:])
    hot[found.index, found.labels] = 1
    np.testing.assert_array_equal(hot, labels[2:])
    assert [len(one.original) for one in found_stream(tmp_path)] == [
        len(original) for original in found.originals[:3]
    ]
    with pytest.raises(ValueError, match=r"split must select .* 'train', got 'val'\."):
        stream_boxes("kfeedback_test_scenes", "val", **arguments)
    with pytest.raises(ValueError, match=r"existing folder .* mean 'kfeedback_test_s"):
        stream_boxes("kfeedback_test_scene", "train", **arguments)


def found_stream(data_dir):
    return stream_boxes(
        "kfeedback_test_scenes", "train[2:]", data_dir=str(data_dir), count=3
    )


def test_mock_data_of_voc():
    with tfds.testing.mock_data(num_examples=3):
        dataset, info = load("voc/2012", "train", image_size=32)
        images, labels = everything(dataset)
    assert info.multi_label and images.shape == (3, 32, 32, 3)
    assert labels.shape == (3, 20) and set(labels.ravel()) <= {0, 1}


def test_several_classes_an_image_in_a_file(tmp_path):
    labels = np.random.default_rng(0).integers(0, 2, (6, 4))
    images = np.arange(6, dtype=np.uint8)[:, None, None] + np.zeros((8, 8), np.uint8)
    np.savez(tmp_path / "set.npz", x_train=images, y_train=labels)
    dataset, info = load(tmp_path / "set.npz", "train", image_size=4, shuffle=True)
    found = everything(dataset)
    assert info.multi_label and info.image_shape == (4, 4, 1)
    np.testing.assert_array_equal(found[1], labels[found[0][:, 0, 0, 0].astype(int)])
