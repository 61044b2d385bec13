"""What a run says of its speed."""

import pytest

from applications.train import progress
from tests import harness


class _Clock:
    now = 0.0

    def monotonic(self):
        return self.now


@harness.tensorflow_only
def test_speed_is_that_of_the_batches_alone(monkeypatch):
    """What is validated and saved after the last one takes time, and is no training."""
    import tensorflow as tf

    clock = _Clock()
    monkeypatch.setattr(progress, "time", clock)
    found = progress.Progress(steps=2, epochs=1, batch_size=8, verbose=0)
    found.watched(tf.data.Dataset.range(2))
    found.wait(1.0)
    for clock.now in (2.0, 4.0):
        found.count()
    clock.now = 100.0
    speed = found.epoch([{"epoch": 0}])
    assert speed == pytest.approx({"images_per_s": 4.0, "waiting": 0.25})
