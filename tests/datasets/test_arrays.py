import io
import os
import subprocess
import sys

import keras
import numpy as np
import pytest

from kfeedback.datasets import ArrayDataset, DatasetInfo, load_arrays
from kfeedback.datasets._make_sample import write_sample
from kfeedback.datasets.arguments import split_bounds
from kfeedback.datasets.arrays import SAMPLE_PATH, augment


def numbered(count=10, size=4):
    """Images that say which one they are in every pixel."""
    images = np.arange(count, dtype=np.uint8)[:, None, None, None]
    return np.broadcast_to(images, (count, size, size, 1)), np.arange(count) * 10


def epoch(dataset, number):
    batches = [dataset.batch(number, i) for i in range(len(dataset))]
    return tuple(np.concatenate(part) for part in zip(*batches, strict=True))


@pytest.mark.parametrize(
    ("split", "expected"),
    [
        ("train", ("train", 0, 1001)),
        ("train[:90%]", ("train", 0, 901)),
        ("train[90%:]", ("train", 901, 1001)),
        ("train[-10%:]", ("train", 901, 1001)),
        ("train[1000:]", ("train", 1000, 1001)),
        ("train[-1:]", ("train", 1000, 1001)),
        ("test[10:20]", ("test", 10, 20)),
        ("test[:]", ("test", 0, 100)),
    ],
)
def test_splits(split, expected):
    assert split_bounds(split, {"train": 1001, "test": 100}) == expected


def test_splits_are_those_of_tfds():
    tfds = pytest.importorskip("tensorflow_datasets")
    counts = {"train": 1003}
    info = tfds.core.SplitInfo(
        name="train", shard_lengths=[1003], num_bytes=0, filename_template=None
    )
    splits = tfds.core.SplitDict([info])
    for percent in range(1, 100):
        for split in (f"train[:{percent}%]", f"train[-{percent}%:]"):
            _, start, stop = split_bounds(split, counts)
            instruction = tfds.core.ReadInstruction.from_spec(split)
            (absolute,) = instruction.to_absolute(splits)
            found = (absolute.from_ or 0, absolute.to or 1003)
            assert found == (start, stop), split


@pytest.mark.parametrize(
    ("split", "match"),
    [
        ("valid", "must name one of 'train', 'test', got 'valid'"),
        ("train[:200]", "0 to 200"),
        ("train[:101%]", "0 to 101"),
        ("train[50:50]", "50 to 50"),
        ("train[-200:]", "-100 to 100"),
        ("train[1.5:]", "must be like"),
        ("train[5]", "must be like"),
        ("train+test", "must be like"),
        (None, "must be like"),
    ],
)
def test_wrong_splits_are_refused(split, match):
    with pytest.raises(ValueError, match=match):
        split_bounds(split, {"train": 100, "test": 100})


def test_the_sample_ships():
    assert SAMPLE_PATH.stat().st_size <= 3_000_000
    seen = set()
    for split, count in (("train", 6000), ("test", 1200)):
        images, labels, info = load_arrays("mnist_background_images_sample", split)
        assert images.shape == (count, 28, 28, 1) and images.dtype == np.uint8
        assert labels.dtype == np.int32
        np.testing.assert_array_equal(np.bincount(labels), [count // 10] * 10)
        variance = images.reshape(count, -1).astype(np.float64).var(axis=1)
        assert variance.min() > 300  # near backgrounds.MIN_PATCH_VARIANCE
        seen |= {image.tobytes() for image in images}
        assert info == DatasetInfo(
            "mnist_background_images_sample",
            split,
            count,
            10,
            (28, 28, 1),
            tuple("0123456789"),
        )
    assert len(seen) == 7200


def test_the_sample_is_written_without_loss(tmp_path, monkeypatch):
    monkeypatch.setattr(
        "kfeedback.datasets._make_sample.EXAMPLES_PER_CLASS", {"train": 3, "test": 2}
    )
    rng = np.random.default_rng(0)
    composed = {
        split: (
            rng.integers(0, 256, (80, 28, 28, 1), dtype=np.uint8),
            np.arange(80) // 2 % 10,
        )
        for split in ("train", "test")
    }
    write_sample(tmp_path / "a.npz", composed)
    write_sample(tmp_path / "b.npz", composed)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    for split, each in (("train", 3), ("test", 2)):
        images, labels, _ = load_arrays(str(tmp_path / "a.npz"), split)
        first = [
            i
            for i, label in enumerate(composed[split][1])
            if (composed[split][1][:i] == label).sum() < each
        ]
        np.testing.assert_array_equal(images, composed[split][0][first])
        np.testing.assert_array_equal(labels, composed[split][1][first])


def test_synthetic_is_seeded_and_learnable():
    images, labels, info = load_arrays("synthetic", "train")
    assert images.shape == (2000, 32, 32, 3) and images.dtype == np.uint8
    assert info.num_examples == 2000 and info.num_classes == 10
    np.testing.assert_array_equal(np.bincount(labels), [200] * 10)
    np.testing.assert_array_equal(images, load_arrays("synthetic", "train")[0])
    part, part_labels, _ = load_arrays("synthetic", "train[100:200]")
    np.testing.assert_array_equal(part, images[100:200])
    np.testing.assert_array_equal(part_labels, labels[100:200])
    other = load_arrays("synthetic", "train", seed=1)[0]
    assert not np.array_equal(images, other)

    def spectra(images):
        gray = images.mean(axis=-1)
        gray -= gray.mean(axis=(1, 2), keepdims=True)
        return np.abs(np.fft.fft2(gray)).reshape(len(images), -1)

    test, test_labels, _ = load_arrays("synthetic", "test")
    assert test.shape == (500, 32, 32, 3)
    means = np.stack([spectra(images[labels == k]).mean(axis=0) for k in range(10)])
    scores = spectra(test) @ (means / np.linalg.norm(means, axis=1)[:, None]).T
    assert (scores.argmax(axis=1) == test_labels).mean() > 0.9


def test_npz_in_the_keras_layout(tmp_path):
    rng = np.random.default_rng(0)
    arrays = {
        "x_train": rng.integers(0, 256, (9, 5, 4), dtype=np.uint8),
        "y_train": np.arange(9, dtype=np.uint8)[:, None] % 3,
        "x_test": rng.integers(0, 256, (4, 5, 4), dtype=np.uint8),
        "y_test": np.array([0, 1, 0, 4]),
    }
    np.savez(tmp_path / "set.npz", **arrays)
    images, labels, info = load_arrays("set.npz", "train[3:]", data_dir=tmp_path)
    np.testing.assert_array_equal(images, arrays["x_train"][3:, ..., None])
    np.testing.assert_array_equal(labels, [0, 1, 2, 0, 1, 2])
    assert info.num_classes == 5 and info.image_shape == (5, 4, 1)
    assert info.num_examples == 6 and info.split == "train[3:]"


def test_npz_of_jpeg_files(tmp_path):
    image_module = pytest.importorskip("PIL.Image")
    files = []
    for gray in (0, 60, 120, 180, 240):
        buffer = io.BytesIO()
        image_module.new("RGB", (8, 6), (gray, gray, gray)).save(buffer, "JPEG")
        files.append(buffer.getvalue())
    arrays = {
        "train_jpeg": np.frombuffer(b"".join(files), np.uint8),
        "train_ends": np.cumsum([len(f) for f in files]),
        "train_labels": np.arange(5, dtype=np.uint8),
    }
    np.savez(tmp_path / "set.npz", **arrays)
    images, labels, info = load_arrays(str(tmp_path / "set.npz"), "train[1:4]")
    assert images.shape == (3, 6, 8, 3) and info.image_shape == (6, 8, 3)
    np.testing.assert_allclose(images.mean(axis=(1, 2, 3)), [60, 120, 180], atol=2)
    np.testing.assert_array_equal(labels, [1, 2, 3])
    for kind in (np.uint64, np.uint32):
        other = arrays | {"train_ends": arrays["train_ends"].astype(kind)}
        np.savez(tmp_path / "kind.npz", **other)
        again, *_ = load_arrays(str(tmp_path / "kind.npz"), "train[1:4]")
        np.testing.assert_array_equal(again, images)
    arrays["train_ends"] = arrays["train_ends"] - 1
    np.savez(tmp_path / "cut.npz", **arrays)
    with pytest.raises(ValueError, match="must end with the length"):
        load_arrays(str(tmp_path / "cut.npz"), "train")


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"x_train": np.zeros((3, 5, 4), np.uint8)}, "one per label"),
        ({"x_train": np.zeros((4, 5, 4), np.float32)}, "must be uint8"),
        ({"x_train": np.zeros((4, 5), np.uint8)}, "must be uint8 of shape"),
        ({"y_train": np.zeros(4)}, "whole numbers"),
        ({"y_train": np.array([0, 1, -1, 2])}, "whole numbers"),
        ({"y_train": np.full((4, 3), 2)}, "zeros and ones of shape"),
        ({"y_train": np.zeros((4, 3))}, "zeros and ones of shape"),
        ({"y_train": np.zeros((4, 1), bool)}, "must be whole numbers"),
        ({"y_train": np.zeros((4, 3, 2), int)}, "must be whole numbers"),
        ({"y_train": np.ones((4, 3), int)}, r"of one kind .* \(4, 3\), \(4,\)"),
        ({"x_train": None}, "no images of the split 'train'"),
        ({"y_train": None}, "must name one of 'test'"),
    ],
)
def test_wrong_files_are_refused(tmp_path, change, match):
    arrays = {
        "x_train": np.zeros((4, 5, 4), np.uint8),
        "y_train": np.zeros(4, int),
        "y_test": np.zeros(4, int),
    }
    arrays = {k: v for k, v in {**arrays, **change}.items() if v is not None}
    np.savez(tmp_path / "set.npz", **arrays)
    with pytest.raises(ValueError, match=match):
        load_arrays(str(tmp_path / "set.npz"), "train")


def test_wrong_names_are_refused():
    with pytest.raises(ValueError, match=r"got 'synthetik'; did you mean 'synthetic'"):
        load_arrays("synthetik", "train")
    with pytest.raises(ValueError, match="must be the path of a file"):
        load_arrays("no/such/file.npz", "train")


def test_epochs_differ_and_hold_every_example_once():
    images, labels = numbered()
    dataset = ArrayDataset(images, labels, 4, shuffle=True, seed=5)
    assert [len(dataset.batch(0, i)[1]) for i in range(len(dataset))] == [4, 4, 2]
    orders = []
    for number in (0, 1, 0):
        x, y = epoch(dataset, number)
        assert x.dtype == np.float32
        np.testing.assert_array_equal(x[:, 0, 0, 0] * 10, y)
        assert sorted(y) == list(labels)
        orders.append(list(y))
    assert orders[0] == orders[2] != orders[1]
    other = ArrayDataset(images, labels, 4, shuffle=True, seed=6)
    assert list(epoch(other, 0)[1]) != orders[0]
    plain = ArrayDataset(images, labels, 4)
    np.testing.assert_array_equal(epoch(plain, 3)[1], labels)


def test_the_order_does_not_depend_on_batch_size_or_augmentation():
    images, labels = numbered()
    first = ArrayDataset(images, labels, 4, shuffle=True)
    second = ArrayDataset(images, labels, 7, shuffle=True, flip=True, shift=2)
    np.testing.assert_array_equal(epoch(first, 2)[1], epoch(second, 2)[1])


def test_augmentation_mirrors_and_shifts_with_the_edge_repeated():
    image = np.arange(12).reshape(1, 3, 4, 1)
    images = np.repeat(image, 3, axis=0)
    flips = np.array([False, True, True])
    offsets = np.array([[1, 2], [0, 0], [-1, 1]])
    found = augment(images, flips, offsets)[..., 0]
    np.testing.assert_array_equal(found[0], [[0, 0, 0, 1], [0, 0, 0, 1], [4, 4, 4, 5]])
    np.testing.assert_array_equal(found[1], image[0, :, ::-1, 0])
    np.testing.assert_array_equal(
        found[2], [[7, 7, 6, 5], [11, 11, 10, 9], [11, 11, 10, 9]]
    )


def test_augmentation_is_seeded_and_covers_its_range():
    image = np.arange(49, dtype=np.uint8).reshape(1, 7, 7, 1)
    images, labels = np.repeat(image, 400, axis=0), np.zeros(400, int)
    dataset = ArrayDataset(images, labels, 64, flip=True, shift=1)
    found = epoch(dataset, 0)[0]
    np.testing.assert_array_equal(found, epoch(dataset, 0)[0])
    assert not np.array_equal(found, epoch(dataset, 1)[0])
    grid = [(f, y, x) for f in (0, 1) for y in (-1, 0, 1) for x in (-1, 0, 1)]
    possible = augment(
        np.repeat(image, 18, axis=0),
        np.array([f for f, _, _ in grid], bool),
        np.array([(y, x) for _, y, x in grid]),
    )
    counts = {p.astype(np.float32).tobytes(): 0 for p in possible}
    for one in found:
        counts[one.tobytes()] += 1
    assert len(counts) == 18 and min(counts.values()) >= 5


def test_preprocess_gets_float_batches():
    images, labels = numbered()
    dataset = ArrayDataset(images, labels, 4, preprocess=lambda x: x / 2)
    np.testing.assert_array_equal(dataset[1][0][:, 0, 0, 0], [2, 2.5, 3, 3.5])
    assert images.dtype == np.uint8
    with pytest.raises(IndexError):
        dataset[3]


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"batch_size": 0}, "batch_size"),
        ({"batch_size": 2.0}, "batch_size"),
        ({"batch_size": True}, "batch_size"),
        ({"seed": -1}, "seed"),
        ({"shift": -1}, "shift"),
        ({"initial_epoch": None}, "initial_epoch"),
    ],
)
def test_wrong_arguments_are_refused(arguments, match):
    with pytest.raises(ValueError, match=match):
        ArrayDataset(*numbered(), **arguments)


def test_arrays_of_other_lengths_are_refused():
    images, labels = numbered()
    with pytest.raises(ValueError, match=r"\(N, H, W, C\)"):
        ArrayDataset(images, labels[1:])
    with pytest.raises(ValueError, match=r"\(N, classes\), got .* \(10, 1, 1\)"):
        ArrayDataset(images, labels[:, None, None])


@pytest.mark.parametrize("batch_size", [3, 16, 64])
def test_fit_goes_on_as_if_it_had_not_stopped(batch_size):
    images, labels, _ = load_arrays("synthetic", "train[:64]")

    def data(initial_epoch):
        return ArrayDataset(
            images,
            labels,
            batch_size,
            shuffle=True,
            flip=True,
            shift=2,
            preprocess=lambda x: x / 255,
            initial_epoch=initial_epoch,
        )

    model = keras.Sequential(
        [keras.Input((32, 32, 3)), keras.layers.Flatten(), keras.layers.Dense(10)]
    )
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    start = model.get_weights()
    dataset = data(0)
    model.fit(dataset, epochs=3, shuffle=False, verbose=0)
    assert dataset.epoch == 3
    straight = model.get_weights()
    model.set_weights(start)
    model.fit(data(0), epochs=1, shuffle=False, verbose=0)
    model.fit(data(1), epochs=2, shuffle=False, verbose=0)
    for a, b in zip(straight, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    model.set_weights(start)
    model.fit(data(0), epochs=1, shuffle=False, verbose=0)
    model.fit(data(2), epochs=2, shuffle=False, verbose=0)
    assert not np.array_equal(straight[0], model.get_weights()[0])


def test_nothing_here_needs_tensorflow():
    code = """
import sys
sys.modules["tensorflow"] = None
sys.modules["tensorflow_datasets"] = None
import keras
import numpy as np
from kfeedback import preprocessing
from kfeedback.datasets import ArrayDataset, load_arrays
assert keras.backend.backend() == "jax"
images, labels, info = load_arrays("synthetic", "train[:64]")
zca = preprocessing.ZCAWhitening().fit(images[:, :4, :4])
images = preprocessing.global_contrast_normalization(images[:, :4, :4])
data = ArrayDataset(images, labels, 16, shuffle=True, preprocess=zca)
model = keras.Sequential(
    [keras.Input((4, 4, 3)), keras.layers.Flatten(), keras.layers.Dense(10)]
)
model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
model.fit(data, epochs=2, verbose=0)
assert data.epoch == 2, data.epoch
load_arrays("mnist_background_images_sample", "test[:5]")
print("done")
"""
    environment = {**os.environ, "KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"}
    result = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True
    )
    assert result.stdout.strip() == "done", result.stderr
