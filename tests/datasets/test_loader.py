import os
import pathlib
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

from kfeedback.datasets import ArrayDataset, load, load_arrays
from kfeedback.datasets.sources import tfds as streams


def everything(dataset):
    batches = list(dataset.as_numpy_iterator())
    return tuple(np.concatenate(part) for part in zip(*batches, strict=True))


def keys(images):
    return [image.tobytes() for image in images]


@pytest.mark.parametrize("cache", [True, False])
def test_every_example_once_in_an_order_by_seed_and_epoch(prepared, cache):
    def fresh(**arguments):
        return load(
            "mnist_background_images",
            "train",
            data_dir=prepared,
            batch_size=16,
            cache=cache,
            **arguments,
        )[0]

    plain = everything(fresh())
    dataset = fresh(shuffle=True, seed=3)
    epochs = [everything(dataset) for _ in range(3)]
    for images, _ in epochs:
        assert sorted(keys(images)) == sorted(keys(plain[0]))
        assert keys(images) != keys(plain[0])
    assert keys(epochs[0][0]) != keys(epochs[1][0]) != keys(epochs[2][0])
    tf.random.set_seed(99)  # which must not matter
    resumed = fresh(shuffle=True, seed=3, initial_epoch=1)
    for images, labels in epochs[1:]:
        again = everything(resumed)
        np.testing.assert_array_equal(again[0], images)
        np.testing.assert_array_equal(again[1], labels)
    other = everything(fresh(shuffle=True, seed=4))
    assert keys(other[0]) != keys(epochs[0][0])


def test_large_streams_shuffle_files_and_a_buffer(prepared, monkeypatch):
    monkeypatch.setattr(streams, "FULL_BUFFER", 20)
    monkeypatch.setattr(streams, "LARGE_BUFFER", 10)
    arguments = {"data_dir": prepared, "cache": False, "batch_size": 16}
    plain = keys(
        everything(load("mnist_background_images", "train", **arguments)[0])[0]
    )
    dataset, _ = load("mnist_background_images", "train", shuffle=True, **arguments)
    epochs = [keys(everything(dataset)[0]) for _ in range(2)]
    assert epochs[0] != epochs[1]
    for epoch in epochs:
        assert sorted(epoch) == sorted(plain)
        # A buffer of 10 cannot move an example forward by 10 places or more.
        assert all(plain.index(key) - i < 10 for i, key in enumerate(epoch))


def test_what_is_read_by_its_place_is_shuffled_as_a_whole(monkeypatch):
    """However many: an order by class would stay one in a buffer of some."""
    monkeypatch.setattr(streams, "FULL_BUFFER", 20)
    monkeypatch.setattr(streams, "LARGE_BUFFER", 10)
    arguments = {"image_size": 16, "center_crop": 0.9, "batch_size": 16}
    plain = keys(everything(load("synthetic", "train[:200]", **arguments)[0])[0])
    dataset, _ = load("synthetic", "train[:200]", shuffle=True, **arguments)
    found = keys(everything(dataset)[0])
    assert sorted(found) == sorted(plain)
    assert max(plain.index(key) - i for i, key in enumerate(found)) > 100


def test_elements_cardinality_and_info(prepared):
    dataset, info = load(
        "mnist_background_images", "train[:70%]", data_dir=prepared, batch_size=16
    )
    assert int(dataset.cardinality()) == 3
    assert [len(labels) for _, labels in dataset] == [16, 16, 3]
    assert dataset.element_spec[0].shape.as_list() == [None, 28, 28, 1]
    assert dataset.element_spec[0].dtype == tf.float32
    assert dataset.element_spec[1].dtype == tf.int32
    assert info.num_examples == 35 and info.num_classes == 10
    assert info.image_shape == (28, 28, 1) and info.class_names == tuple("0123456789")
    assert info.name == "mnist_background_images" and info.split == "train[:70%]"
    images, _ = everything(dataset)
    assert images.max() > 1 and np.array_equal(images, np.rint(images))


def test_an_iteration_broken_off_does_not_count():
    dataset, _ = load("synthetic", "train[:40]", batch_size=4, shuffle=True)
    first = everything(dataset)[1]
    for _ in dataset.take(3):
        pass
    second, third = everything(dataset)[1], everything(dataset)[1]
    for epoch, labels in enumerate((first, second, third)):
        fresh, _ = load(
            "synthetic", "train[:40]", batch_size=4, shuffle=True, initial_epoch=epoch
        )
        np.testing.assert_array_equal(everything(fresh)[1], labels)


def test_it_gives_the_batches_of_array_dataset():
    arguments = {"batch_size": 7, "shuffle": True, "flip": True, "shift": 3, "seed": 5}
    dataset, _ = load(
        "synthetic",
        "train[:40]",
        preprocess=lambda x: x / 2,
        initial_epoch=2,
        **arguments,
    )
    images, labels, _ = load_arrays("synthetic", "train[:40]")
    arrays = ArrayDataset(images, labels, preprocess=lambda x: x / 2, **arguments)
    for i, (x, y) in enumerate(dataset.as_numpy_iterator()):
        expected = arrays.batch(2, i)
        np.testing.assert_array_equal(x, expected[0])
        np.testing.assert_array_equal(y, expected[1])
    assert i == len(arrays) - 1


def test_a_prepared_folder_is_only_read(prepared, monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("prepared again")

    def tree():
        return sorted((p, p.stat().st_mtime) for p in pathlib.Path(prepared).rglob("*"))

    monkeypatch.setattr(tfds.core.DatasetBuilder, "download_and_prepare", refuse)
    before = tree()
    load("mnist_background_images", "test", data_dir=prepared)
    assert tree() == before


def test_mock_data_of_stock_builders(tmp_path):
    with tfds.testing.mock_data(num_examples=5):
        for name, classes, cache in (
            ("cifar100", 100, None),
            ("imagenet2012", 1000, 0),
        ):
            dataset, info = load(
                name, "train", batch_size=4, image_size=(8, 6), flip=True, cache=cache
            )
            shapes = [images.shape.as_list() for images, _ in dataset]
            assert shapes == [[4, 8, 6, 3], [1, 8, 6, 3]]
            assert info.num_classes == classes and info.image_shape == (8, 6, 3)


@pytest.mark.parametrize("cache", [True, False])
def test_folder_of_images(folder, cache):
    dataset, info = load(folder, "train", batch_size=5, image_size=6, cache=cache)
    images, labels = everything(dataset)
    by_turns = 10 * np.arange(12).reshape(3, 4).T.ravel()
    np.testing.assert_array_equal(images[:, 3, 3, 1], by_turns)
    np.testing.assert_array_equal(labels, np.tile([0, 1, 2], 4))
    assert info.class_names == ("a", "b", "c") and info.image_shape == (6, 6, 3)
    # A class that a split lacks keeps its number.
    _, labels = everything(load(folder, "test[2:]", image_size=6, cache=cache)[0])
    np.testing.assert_array_equal(labels, [0, 2, 0, 2, 0, 2])
    shuffled = load(folder, "train", image_size=6, shuffle=True, cache=cache)[0]
    epochs = [everything(shuffled)[0][:, 0, 0, 0] for _ in range(2)]
    assert list(epochs[0]) != list(epochs[1])
    assert sorted(epochs[0]) == sorted(epochs[1]) == list(10 * np.arange(12))


def test_a_part_of_a_folder_has_each_class_in_its_share(tmp_path):
    from PIL import Image

    for name, count in (("many", 40), ("few", 10)):
        (tmp_path / "train" / name).mkdir(parents=True)
        for n in range(count):
            image = np.zeros((2, 2, 3), np.uint8)
            Image.fromarray(image).save(tmp_path / "train" / name / f"{n}.png")
    for split in ("train[:50%]", "train[50%:]", "train[10:35]"):
        _, labels = everything(load(f"{tmp_path}", split, image_size=2)[0])
        assert list(np.bincount(labels)) == [5, 20]


def test_resizing_arrays():
    images, labels, _ = load_arrays("synthetic", "test[:3]")
    dataset, info = load("synthetic", "test[:3]", image_size=(16, 8))
    found = everything(dataset)
    assert info.image_shape == (16, 8, 3) and found[0].shape == (3, 16, 8, 3)
    np.testing.assert_array_equal(found[1], labels)
    np.testing.assert_allclose(found[0].mean(), images.mean(), atol=2)


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (("mnist_backgroun_images", "train"), "mean 'mnist_background_images' or"),
        (("cifra10", "train"), "name .* got 'cifra10'; did you mean 'cifar10'"),
        (("./nowhere", "train"), r"existing folder .* got './nowhere'\."),
        (("wider_face", "train"), "with a class label, .* got 'wider_face'"),
        ((None, "train"), "name must be a name or a path, got None"),
        (("synthetic", "val"), "split must name one of 'train', 'test'"),
        (("synthetic", None), "split must be a string"),
    ],
)
def test_wrong_names_are_one_sentence(arguments, match, tmp_path):
    with pytest.raises(ValueError, match=match) as caught:
        load(*arguments, data_dir=str(tmp_path))
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("split", ["trian", "train[:200%]", "train[60:]"])
def test_wrong_splits_are_one_sentence(prepared, folder, split):
    for name, arguments in (
        ("mnist_background_images", {"data_dir": prepared}),
        (folder, {"image_size": 4}),
    ):
        with pytest.raises(ValueError, match="split must") as caught:
            load(name, split, **arguments)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"batch_size": 0}, "batch_size"),
        ({"seed": -1}, "seed"),
        ({"initial_epoch": 1.5}, "initial_epoch"),
        ({"shift": -2}, "shift"),
        ({"image_size": 0}, "image_size"),
        ({"image_size": (1, 2, 3)}, "image_size"),
    ],
)
def test_wrong_numbers_are_refused(arguments, match):
    with pytest.raises(ValueError, match=match):
        load("synthetic", "train", **arguments)


def test_missing_folders_are_refused(prepared, folder, tmp_path):
    name = "mnist_background_images"
    with pytest.raises(ValueError, match="manual_dir must be a folder that exists"):
        load(name, "train", data_dir=prepared, manual_dir=str(tmp_path / "no"))
    with pytest.raises(ValueError, match="manual_dir must be a folder that holds"):
        load(name, "train", data_dir=prepared, manual_dir=str(tmp_path))
    with pytest.raises(ValueError, match="image_size must be given"):
        load(folder, "train")
    with pytest.raises(ValueError, match="holds no image"):
        load(str(tmp_path), "train", image_size=4)


def test_fit_goes_on_as_if_it_had_not_stopped():
    def data(initial_epoch):
        return load(
            "synthetic",
            "train[:64]",
            batch_size=16,
            shuffle=True,
            shift=2,
            preprocess=lambda x: x / 255,
            initial_epoch=initial_epoch,
        )[0]

    model = keras.Sequential(
        [keras.Input((32, 32, 3)), keras.layers.Flatten(), keras.layers.Dense(10)]
    )
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    start = model.get_weights()
    model.fit(data(0), epochs=3, verbose=0)
    straight = model.get_weights()
    model.set_weights(start)
    model.fit(data(0), epochs=1, verbose=0)
    model.fit(data(1), epochs=2, verbose=0)
    for a, b in zip(straight, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    model.set_weights(start)
    for epoch in range(3):  # the n-th epoch of fit is the n-th epoch of the data
        for x, y in data(epoch):
            model.train_on_batch(x, y)
    for a, b in zip(straight, model.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_fit_on_two_devices():
    code = """
import numpy as np
import tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
two = [tf.config.LogicalDeviceConfiguration()] * 2
tf.config.set_logical_device_configuration(cpu, two)
import keras
from kfeedback.datasets import load

def data(epoch):
    return load("synthetic", "train[:170]", batch_size=16, shuffle=True, flip=True,
                preprocess=lambda x: x / 255, initial_epoch=epoch)[0]

strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
assert strategy.num_replicas_in_sync == 2
with strategy.scope():
    model = keras.Sequential([keras.Input((32, 32, 3)), keras.layers.Flatten(),
                              keras.layers.Dense(10)])
    model.compile(
        "sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
dataset = data(0)
steps = []
count = keras.callbacks.LambdaCallback(
    on_train_batch_end=lambda batch, logs: steps.append(batch))
history = model.fit(dataset, epochs=2, verbose=0, callbacks=[count])
assert steps == 2 * list(range(11)), steps
assert history.params["steps"] == 11
for (_, found), (_, expected) in zip(dataset, data(2), strict=True):
    np.testing.assert_array_equal(found, expected)
print("done")
"""
    result = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "KERAS_BACKEND": "tensorflow"},
        capture_output=True,
        text=True,
    )
    assert result.stdout.strip() == "done", result.stderr
