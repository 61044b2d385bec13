import numpy as np
import pytest

from applications.common import data, optimization
from kfeedback.datasets import load_arrays


@pytest.mark.parametrize("backend", ["tensorflow", "jax"])
def test_some_classes_are_kept(monkeypatch, backend):
    monkeypatch.setattr(data.keras.backend, "backend", lambda: backend)
    images, labels, _ = load_arrays("synthetic", "test[:60]")
    kept = np.isin(labels, [8, 1])
    settings = data.Data(dataset="synthetic", classes=("8", "1"), batch_size=16)
    found = data.get_arrays(settings, "test[:60]")
    batches, info = data.load(settings, "test[:60]")
    np.testing.assert_array_equal(found[0], images[kept])
    np.testing.assert_array_equal(found[1], labels[kept] == 1)
    assert found[2] == info and info.class_names == ("8", "1")
    batches = [batches[i] for i in range(len(batches))] if backend == "jax" else batches
    read = np.concatenate([np.asarray(y) for _, y in batches])
    np.testing.assert_array_equal(read, found[1])


def test_moments_of_more_pixels_than_float32_can_sum():
    """Float32 sums stop growing at 2**32: then the last mean would be 171."""
    images = np.broadcast_to(np.float32([130, 110, 200])[None], (24, 1024, 1024, 3))
    mean, deviation = data.channel_moments(images)
    np.testing.assert_array_equal(mean, np.float32([130, 110, 200]))
    np.testing.assert_array_equal(deviation, 0)


def test_moments_follow_their_definition():
    images = np.random.default_rng(0).normal(100, 60, (300, 64, 64, 3))
    mean, deviation = data.channel_moments(images.astype("float32"))
    np.testing.assert_allclose(mean, images.mean((0, 1, 2)), rtol=1e-6)
    np.testing.assert_allclose(deviation, images.std((0, 1, 2)), rtol=1e-6)
    assert mean.dtype == deviation.dtype == np.float32


@pytest.mark.parametrize("mode", list(data.FITTED))
def test_what_is_fitted_is_whole_or_not_there(tmp_path, mode):
    settings = data.Data(
        dataset="synthetic", train_split="train[:50]", preprocessing=mode, image_size=8
    )
    data.fit_preprocess(settings, tmp_path)
    fitted = data.get_preprocess(mode, tmp_path)
    (path,) = tmp_path.iterdir()
    images = load_arrays("synthetic", "test[:3]")[0][:, ::4, ::4].astype("float32")
    again = data.get_preprocess(mode, tmp_path)(images)
    np.testing.assert_array_equal(fitted(images), again)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ValueError, match="undamaged"):
        data.get_preprocess(mode, tmp_path)


def test_all_flags_of_augmentation_reach_the_loader(monkeypatch):
    given = {"flip": True, "shift": 2, "shift_fill": "zero", "random_crop": (0.5, 1.0)}
    given |= {"augment": {"mixup": 0.2}}
    settings = optimization.Training(
        dataset="synthetic", image_size=8, seed=7, batch_size=5, **given
    )
    found = {}
    monkeypatch.setattr(
        data.datasets, "load", lambda *args, **known: found.update(known) or (None, 1)
    )
    data.load_training(settings, preprocess=None)
    wanted = given | {"shuffle": True, "seed": 7, "batch_size": 5, "image_size": 8}
    assert {name: found[name] for name in wanted} == wanted
