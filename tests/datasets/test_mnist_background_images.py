import zipfile

import numpy as np
import pytest
import tensorflow_datasets as tfds

from kfeedback.datasets import backgrounds
from kfeedback.datasets.builders import mnist_background_images as module
from tests.datasets.test_backgrounds import digits, photographs

COUNTS = {"train": 30, "test": 20}


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(backgrounds, "TRAIN_EXAMPLES", COUNTS["train"])
    monkeypatch.setattr(backgrounds, "TEST_EXAMPLES", COUNTS["test"])
    monkeypatch.setattr(backgrounds, "load_photographs", photographs)
    monkeypatch.setattr(module, "EXAMPLES", COUNTS)
    monkeypatch.setattr(module, "read_mnist", lambda data_dir: digits(70))


def rows(split):
    rng = np.random.default_rng(len(split))
    images = rng.integers(0, 256, (COUNTS[split], 28, 28, 1), dtype=np.uint8)
    labels = np.arange(COUNTS[split]) % 10
    lines = [
        "   ".join(f"{v:.6e}" for v in [*(image.ravel() / 255), label])
        for image, label in zip(images, labels, strict=True)
    ]
    return images, labels, "\n".join(lines) + "\n"


def write_archive(folder, zipped):
    for split, member in module.MEMBERS.items():
        if zipped:
            with zipfile.ZipFile(folder / module.ARCHIVE, "a") as archive:
                archive.writestr(member, rows(split)[2])
        else:
            (folder / member).write_text(rows(split)[2], encoding="ascii")


def read(builder, split):
    """The examples in an order that does not depend on how TFDS stores them."""
    data = tfds.as_numpy(builder.as_dataset(split=split, batch_size=-1))
    order = sorted(range(len(data["label"])), key=lambda i: data["image"][i].tobytes())
    return data["image"][order], data["label"][order]


def assert_same(found, images, labels):
    order = sorted(range(len(labels)), key=lambda i: images[i].tobytes())
    np.testing.assert_array_equal(found[0], images[order])
    np.testing.assert_array_equal(found[1], labels[order])


def config(folder):
    return tfds.download.DownloadConfig(manual_dir=str(folder))


def test_it_is_composed_without_a_manual_folder(small, tmp_path):
    builder = module.MnistBackgroundImages(data_dir=tmp_path)
    builder.download_and_prepare()
    composed = backgrounds.compose_splits(*digits(70), seed=0)
    for split, count in COUNTS.items():
        assert builder.info.splits[split].num_examples == count
        assert_same(read(builder, split), *composed[split])
    assert builder.info.features["image"].shape == (28, 28, 1)
    assert builder.info.features["label"].num_classes == 10
    again = tfds.builder("mnist_background_images", data_dir=tmp_path)
    assert again.is_prepared() and again.info.metadata["source"] == "composed"


@pytest.mark.parametrize("zipped", [True, False])
def test_it_is_read_from_the_archive(small, tmp_path, zipped):
    (tmp_path / "manual").mkdir()
    write_archive(tmp_path / "manual", zipped)
    builder = module.MnistBackgroundImages(data_dir=tmp_path / "data")
    builder.download_and_prepare(download_config=config(tmp_path / "manual"))
    for split in COUNTS:
        assert_same(read(builder, split), *rows(split)[:2])
    assert builder.info.metadata["source"] == "archive"


def test_the_archive_is_not_confused_with_the_composed_set(small, tmp_path):
    write_archive(tmp_path, zipped=False)
    module.MnistBackgroundImages(data_dir=tmp_path / "data").download_and_prepare()
    builder = module.MnistBackgroundImages(data_dir=tmp_path / "data")
    with pytest.raises(ValueError, match="already holds the composed set"):
        builder.download_and_prepare(download_config=config(tmp_path))


@pytest.mark.parametrize("present", [[], ["train"]])
def test_a_missing_archive_is_a_sentence(small, tmp_path, present):
    for split in present:
        (tmp_path / module.MEMBERS[split]).write_text(rows(split)[2])
    builder = module.MnistBackgroundImages(data_dir=tmp_path / "data")
    with pytest.raises(ValueError, match=r"manual_dir must be a folder that holds"):
        builder.download_and_prepare(download_config=config(tmp_path))


def test_rows_are_parsed_in_chunks():
    images, labels, text = rows("train")
    found = module.read_amat(text.splitlines(), 30, chunk=7)
    np.testing.assert_array_equal(found[0], images)
    np.testing.assert_array_equal(found[1], labels)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda lines: lines[:-1], "must hold 30 rows.*29"),
        (lambda lines: ["0 " + line for line in lines], "784 numbers"),
        (lambda lines: ["1.5" + lines[0][12:], *lines[1:]], r"784 numbers in 0\.\.1"),
        (lambda lines: [lines[0][:-12] + "10", *lines[1:]], r"a label in 0\.\.9"),
    ],
)
def test_wrong_rows_are_refused(change, match):
    with pytest.raises(ValueError, match=match):
        module.read_amat(change(rows("train")[2].splitlines()), 30)


def test_a_prepared_mnist_is_found(monkeypatch, tmp_path):
    opened = []

    class Builder:
        def __init__(self, name, data_dir):
            assert name == "mnist"
            self.data_dir = data_dir

        def is_prepared(self):
            return self.data_dir == "environment"

        def download_and_prepare(self):
            opened.append(self.data_dir)

        def as_dataset(self, split, batch_size):
            number = {"train": 1, "test": 2}[split]
            return {"image": np.full((3, 28, 28, 1), number), "label": np.arange(3)}

    monkeypatch.setattr(tfds, "builder", Builder)
    monkeypatch.setattr(tfds, "as_numpy", lambda data: data)
    monkeypatch.setenv("TFDS_DATA_DIR", "environment")
    images, labels = module.read_mnist("given")
    assert opened == ["environment"]
    np.testing.assert_array_equal(images[:, 0, 0, 0], [1, 1, 1, 2, 2, 2])
    np.testing.assert_array_equal(labels, [0, 1, 2, 0, 1, 2])
    monkeypatch.setenv("TFDS_DATA_DIR", "elsewhere")
    module.read_mnist("given")
    assert opened == ["environment", "given"]  # where MNIST would be downloaded to
