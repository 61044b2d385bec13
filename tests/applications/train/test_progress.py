"""What a run says of its speed."""

import re
import time

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


@harness.tensorflow_only
def test_batches_that_come_late_count_as_waiting(capsys):
    import tensorflow as tf

    def slowly():
        for step in range(3):
            time.sleep(0.1)
            yield step

    spec = tf.TensorSpec([], tf.int64)
    batches = tf.data.Dataset.from_generator(slowly, output_signature=spec)
    batches = batches.apply(tf.data.experimental.assert_cardinality(3))
    found = progress.Progress(steps=3, epochs=4, batch_size=8, verbose=2)
    steps = []
    for step in found.watched(batches):
        steps.append(int(step))
        found.count()
    speed = found.epoch([{"epoch": 0, "loss": 0.5, "loss_t1": 0.25}])
    assert steps == [0, 1, 2] and speed["waiting"] > 0.5
    line = capsys.readouterr().out
    assert re.match(r"epoch 1/4: loss 0\.5000; \d+\.\d images/s, ", line)
    assert re.search(r" % of the time waiting for input, \d:\d\d:\d\d left\n$", line)
