"""A training that is broken off goes on as if nothing had happened."""

import pytest

from applications.train.interruptions import Interruption
from applications.train.run import FREE
from tests.applications.train.runs import BATCHES, Training


def finished(folder, **options):
    """A whole run, never broken off."""
    loop = Training(folder, **options)
    assert not loop.restore()
    loop.run()
    return loop


def assert_equal(one, two):
    assert one.history == two.history
    for a, b in zip(one.values(), two.values(), strict=True):
        assert a.dtype == b.dtype and a.tobytes() == b.tobytes()


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
def test_goes_on_bit_by_bit(tmp_path, stops, average):
    whole = finished(tmp_path / "whole", average=average)
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
    assert_equal(loop, whole)


def test_a_stop_at_an_epochs_end_goes_on(tmp_path):
    whole = finished(tmp_path / "whole")

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
    assert_equal(loop, whole)


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
    with pytest.raises(ValueError, match=r"finite, got a run whose .* is not"):
        loop.run()
    again = Training(tmp_path)
    assert again.restore(say=lambda text: None)
    assert len(again.history) <= 1
    assert all((value == value).all() for value in again.values())


def test_flags_that_may_change_change_nothing_of_what_is_learned():
    assert not FREE & {"lr", "seed", "epochs", "batch_size", "dataset", "model"}
