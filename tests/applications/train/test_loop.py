"""A training that is broken off goes on as if nothing had happened."""

import functools
import os
import signal

import keras
import numpy as np
import pytest

from applications.train.interruptions import Interruption
from applications.train.loop import averaged
from tests.applications.train.runs import BATCHES, EPOCHS, Training, batches, network


def finished(folder, **options):
    """A whole run, never broken off."""
    loop = Training(folder, **options)
    assert not loop.restore()
    loop.run()
    return loop


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A function of `average`: that run, made once."""
    return functools.cache(
        lambda average=False: finished(tmp_path_factory.mktemp("run"), average=average)
    )


def assert_equal(one, two):
    assert one.history == two.history
    for a, b in zip(one.values(), two.values(), strict=True):
        assert a.dtype == b.dtype and a.tobytes() == b.tobytes()


def test_is_plain_training(tmp_path):
    """What `train_on_batch` makes of the same batches, but for rounding."""
    model = network()
    for epoch in range(EPOCHS):
        found = batches()(epoch)
        for number in range(BATCHES):
            model.train_on_batch(*found[number])
    loop = finished(tmp_path)
    for one, other in zip(loop.model.variables, model.variables, strict=True):
        if one.dtype.startswith("float"):
            np.testing.assert_allclose(
                one.numpy(), other.numpy(), rtol=1e-3, atol=1e-5, err_msg=one.path
            )


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="reads in a batch")
def test_the_average_is_validated_and_saved_and_not_trained_on(tmp_path):
    def trained(model):
        return [v.numpy() for v in model.trainable_variables]

    seen, validated = [], []
    loop = Training(
        tmp_path, average=True, before=lambda model, _: seen.append(trained(model))
    )
    validate = loop._validate
    loop._validate = lambda check: (
        validated.append(trained(loop.model)) or validate(check)
    )
    loop.run()
    means = [seen[0]]
    for weights in seen[1:]:
        pairs = zip(means[-1], weights, strict=True)
        means.append([0.8 * mean + 0.2 * weight for mean, weight in pairs])
    with averaged(loop.model):
        found = [*validated, trained(loop.model)]
    ends = [BATCHES * (epoch + 1) - 1 for epoch in range(EPOCHS)]
    for weights, end in zip(found, [*ends, ends[-1]], strict=True):
        for one, wanted in zip(weights, means[end], strict=True):
            np.testing.assert_allclose(one, wanted, atol=1e-6)
    for one, wanted in zip(trained(loop.model), seen[-1], strict=True):
        np.testing.assert_array_equal(one, wanted)
    assert np.abs(seen[-1][0] - means[-1][0]).max() > 1e-3


def test_the_average_is_of_what_was_trained_also_when_it_thaws():
    """As a frozen batch norm does when a run is saved."""
    model = network()
    model.get_layer("norm").trainable = False
    model.compile(keras.optimizers.SGD(0.1, use_ema=True, ema_momentum=0.8), "mse")
    trained = model.trainable_variables
    model.optimizer.build(trained)
    for _ in range(2):  # the average begins at the first step
        model.train_on_batch(np.ones((2, 8, 8, 3)), np.zeros((2, 10)))
    model.get_layer("norm").trainable = True
    before = [np.array(v) for v in model.trainable_variables]
    with averaged(model, trained):
        kernel = np.array(trained[0])
        norm = np.array(model.get_layer("norm").gamma)
    for value, variable in zip(before, model.trainable_variables, strict=True):
        np.testing.assert_array_equal(value, np.array(variable))
    assert np.any(kernel != before[0]) and np.all(norm == 1)


def test_a_signal_while_the_last_epoch_is_noted_ends_it(tmp_path):
    def end(history):
        if len(history) == EPOCHS:
            os.kill(os.getpid(), signal.SIGTERM)

    loop = Training(tmp_path, on_epoch=end)
    with pytest.raises(Interruption) as caught:
        loop.run()
    assert caught.value.code == 143
    again = Training(tmp_path)
    again.restore(say=lambda text: None)
    again.run()
    assert again.history == loop.history


FOUR = [(0, 1), (0, 4), (1, None), (2, 2)]


@pytest.mark.parametrize(
    "stops, average",
    [
        ([(1, 3)], False),
        ([(0, BATCHES)], False),
        ([(2, None)], True),
        pytest.param(FOUR, False, marks=pytest.mark.slow),
        pytest.param(FOUR, True, marks=pytest.mark.slow),
    ],
    ids=["mid-epoch", "last batch", "validation", "four times", "four, averaged"],
)
def test_goes_on_bit_by_bit(tmp_path, whole, stops, average):
    for stop in stops:
        loop = Training(tmp_path / "parts", at=stop, average=average)
        loop.restore(say=lambda text: None)
        with pytest.raises(Interruption) as caught:
            loop.run()
        assert caught.value.code == 143
    said = []
    loop = Training(tmp_path / "parts", average=average)
    assert loop.restore(say=said.append)
    epoch, batch = stops[-1]
    assert said == [f"resumed at epoch {epoch + 1}, batch {batch or BATCHES}"]
    loop.run()
    assert_equal(loop, whole(average))


def test_a_stop_at_an_epochs_end_goes_on(tmp_path, whole):
    def end(history):
        if len(history) == 2:
            raise KeyboardInterrupt

    loop = Training(tmp_path / "parts", on_epoch=end)
    with pytest.raises(KeyboardInterrupt):
        loop.run()
    # The first epoch has a checkpoint whatever the time; the second was not due.
    assert [p.name for p in (tmp_path / "parts").glob("*.index")] == ["ckpt-1.index"]
    loop = Training(tmp_path / "parts")
    loop.restore(say=lambda text: None)
    loop.run()
    assert_equal(loop, whole())


def test_checkpoints_come_by_batches_and_few_stay(tmp_path):
    loop = finished(tmp_path, save_batches=2)
    names = {path.name.split(".")[0] for path in tmp_path.glob("ckpt-*")}
    # Two in each of three epochs and one at the end; the last three are there.
    assert names == {"ckpt-5", "ckpt-6", "ckpt-7"}
    assert len(loop.history) == 3


@pytest.mark.parametrize("what", ["conv/kernel", "norm/gamma", "momentum"])
def test_a_weight_that_is_not_finite_ends_it_by_name(tmp_path, what):
    def spoil(model, place):
        if place == (1, 2):
            variables = [*model.variables, *model.optimizer.variables]
            found = next(v for v in variables if what in v.path)
            found.assign(found * float("nan"))

    loop = Training(tmp_path, before=spoil, save_batches=2)
    with pytest.raises(ValueError, match=rf"whose \S*{what}\S* is not"):
        loop.run()
    again = Training(tmp_path)
    assert again.restore(say=lambda text: None)
    assert len(again.history) <= 1
    assert all((value == value).all() for value in again.values())


def test_checkpoints_come_by_time(tmp_path):
    finished(tmp_path / "always", save_seconds=0)
    names = {path.stem for path in (tmp_path / "always").glob("ckpt-*.index")}
    assert max(int(name.split("-")[1]) for name in names) >= EPOCHS * BATCHES
