"""A new data set is one new file, wherever it lies."""

import numpy as np
import pytest

from kfeedback.datasets import builders, load, sources
from tests.datasets.test_loader import everything

SOURCE = """
import numpy as np
from kfeedback.datasets import DatasetInfo
from kfeedback.datasets.arguments import split_bounds
from kfeedback.images import resize
from kfeedback.datasets.sources import SOURCES, Examples, Source

class Stripes(Source):
    kinds = "'stripes'"
    def names(self):
        return ["stripes"]
    def takes(self, name, data_dir):
        return name == "stripes"
    def open(self, name, split, *, data_dir, manual_dir, image_size):
        _, start, stop = split_bounds(split, {"train": 6})
        images = np.arange(6, dtype=np.uint8)[start:stop, None, None, None]
        images = np.broadcast_to(images, (stop - start, 4, 5, 1))
        if image_size is not None:
            images = resize(images, image_size)
        labels = np.arange(6, dtype=np.int32)[start:stop] % 2
        shape = images.shape[1:]
        info = DatasetInfo(name, split, len(images), 2, shape, ("thin", "thick"))
        return Examples(info, (images, labels))

SOURCES.add("{module}", Stripes())
"""

BUILDER = """
import numpy as np
import tensorflow_datasets as tfds

class KfeedbackTestDots(tfds.core.GeneratorBasedBuilder):
    '''Dots.'''
    VERSION = tfds.core.Version("1.0.0")
    def _info(self):
        features = {
            "image": tfds.features.Image(shape=(6, 6, 3)),
            "label": tfds.features.ClassLabel(names=["one", "two"]),
        }
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(features),
            supervised_keys=("image", "label"),
        )
    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples()}
    def _generate_examples(self):
        for i in range(4):
            image = np.full((6, 6, 3), 50 * i, np.uint8)
            yield i, {"image": image, "label": i % 2}
"""


def test_a_source_is_one_file(tmp_path, monkeypatch):
    # It is asked before TFDS, though its name comes later.
    (tmp_path / "zz_stripes.py").write_text(SOURCE.replace("{module}", "zz_stripes"))
    monkeypatch.setattr(sources, "__path__", [*sources.__path__, str(tmp_path)])
    try:
        dataset, info = load("stripes", "train", batch_size=4, classes=["thick"])
        images, labels = everything(dataset)
        assert info.num_examples == 3 and info.class_names == ("thick",)
        assert images[:, 0, 0, 0].tolist() == [1, 3, 5] and not labels.any()
        small, info = load("stripes", "train[:50%]", image_size=2)
        assert everything(small)[0].shape == (3, 2, 2, 1) and info.num_examples == 3
        with pytest.raises(
            ValueError, match=r"or 'stripes'.* got 'strips'; did you mean 'stripes'"
        ):
            load("strips", "train")
    finally:
        sources.SOURCES._entries.pop("zz_stripes", None)


def test_a_builder_is_one_file(tmp_path, monkeypatch):
    (tmp_path / "kfeedback_test_dots.py").write_text(BUILDER)
    monkeypatch.setattr(builders, "__path__", [*builders.__path__, str(tmp_path)])
    with pytest.raises(ValueError, match="did you mean 'kfeedback_test_dots'"):
        load("kfeedback_test_dot", "train", data_dir=tmp_path / "data")
    dataset, info = load("kfeedback_test_dots", "train", data_dir=tmp_path / "data")
    images, labels = everything(dataset)
    assert info.class_names == ("one", "two") and info.num_examples == 4
    np.testing.assert_array_equal(labels, images[:, 0, 0, 0] // 50 % 2)


def test_a_builder_has_the_name_of_its_file(tmp_path, monkeypatch):
    (tmp_path / "kfeedback_test_none.py").write_text("import numpy\n")
    monkeypatch.setattr(builders, "__path__", [*builders.__path__, str(tmp_path)])
    with pytest.raises(ImportError, match="no TFDS builder of the name 'kfeedback_te"):
        load("kfeedback_test_none", "train")


def test_what_is_there():
    assert set(sources.SOURCES.entries()) >= {"arrays", "folder", "tfds"}
    assert set(builders.names()) >= {
        "cifar10_objects",
        "cluttered_mnist",
        "mnist_background_images",
    }
