"""What a run says while it runs: speed, waiting for input, and the time left."""

import datetime
import sys
import time

import keras


class Progress:
    """A bar for each epoch, and a line at its end.

    Args:
        steps: batches of an epoch.
        epochs: of the whole run.
        batch_size: images of a batch.
        verbose: 0 says nothing, 1 draws bars on a terminal, 2 writes a line for each
            epoch alone.
    """

    def __init__(self, steps, epochs, batch_size, verbose):
        self._steps, self._epochs = steps, epochs
        self._batch_size, self._verbose = batch_size, verbose
        self._has_bar = verbose == 1 and sys.stdout.isatty()
        self._bar, self._bar_epoch = None, None
        self._start, self._done = None, 0  # of this process
        self._epoch_start, self._epoch_done, self._waited = None, 0, 0.0
        self._counted = None  # when the last batch was

    def watched(self, batches):
        """The same batches, for which the time that one waits for them is measured."""
        self._epoch_start, self._epoch_done = time.monotonic(), 0
        self._waited = 0.0
        if self._start is None:
            self._start = self._epoch_start
        if keras.backend.backend() == "tensorflow":
            return self._watched_dataset(batches)
        return _Watched(batches, self)

    def _watched_dataset(self, batches):
        import tensorflow as tf

        steps = len(batches)
        asked = [0.0]

        def ask():
            for step in range(steps):
                asked[0] = time.monotonic()
                yield step

        def get():
            for step in range(steps):
                self.wait(time.monotonic() - asked[0])
                yield step

        spec = tf.TensorSpec([], tf.int64)
        before, after = (
            tf.data.Dataset.from_generator(generator, output_signature=spec)
            for generator in (ask, get)
        )
        # In this order: the time between the two is that of the batch.
        zipped = tf.data.Dataset.zip(before, batches, after)
        found = zipped.map(lambda _, batch, __: batch)
        found = found.apply(tf.data.experimental.assert_cardinality(steps))
        return found.with_options(batches.options())

    def wait(self, seconds):
        """Adds time that was spent waiting for input."""
        self._waited += seconds

    def batch(self, epoch, batch, logs):
        """What is known after a batch, counted from 1 in its epoch."""
        if not self._has_bar:
            return
        if self._bar_epoch != epoch:
            print(f"Epoch {epoch + 1}/{self._epochs}", flush=True)
            self._bar, self._bar_epoch = keras.utils.Progbar(self._steps), epoch
            self._bar.stateful_metrics = {*logs, "images_per_s"}
        values = [(name, float(value)) for name, value in _shown(logs)]
        speed = self._epoch_done * self._batch_size / self._seconds()
        self._bar.update(batch, [*values, ("images_per_s", round(speed, 1))])

    def count(self):
        """Counts a batch."""
        self._done += 1
        self._epoch_done += 1
        self._counted = time.monotonic()

    def epoch(self, history):
        """Says what came of the last epoch of a history; gives its speed and waiting.

        Returns:
            dict of `images_per_s` and `waiting`, a share; empty without a batch.
        """
        if not self._epoch_done:
            return {}
        seconds = self._seconds()
        speed = self._epoch_done * self._batch_size / seconds
        waiting = min(1.0, self._waited / seconds)
        row = history[-1]
        left = (self._epochs - row["epoch"] - 1) * self._steps
        took = time.monotonic() - self._start
        left = datetime.timedelta(seconds=round(took / self._done * left))
        if self._verbose:
            scores = [f"{k} {v:.4f}" for k, v in _shown(row)]
            line = f"epoch {row['epoch'] + 1}/{self._epochs}: {', '.join(scores)}; "
            line += f"{speed:.1f} images/s, {100 * waiting:.1f} % of the time waiting "
            start = "\n" if self._has_bar else ""
            print(f"{start}{line}for input, {left} left", flush=True)
        return {"images_per_s": speed, "waiting": waiting}

    def _seconds(self):
        """Of the epoch up to its last batch: no validation, no checkpoint after it."""
        return max(self._counted - self._epoch_start, 1e-9)


def _shown(logs):
    """What is worth a line; the losses of timesteps stand in `epochs.csv`."""
    return [
        (name, value)
        for name, value in logs.items()
        if name != "epoch" and "loss_t" not in name
    ]


class _Watched(keras.utils.PyDataset):
    """Batches that note how long each took."""

    def __init__(self, batches, progress):
        super().__init__()
        self._batches, self._progress = batches, progress

    def __len__(self):
        return len(self._batches)

    def __getitem__(self, index):
        start = time.monotonic()
        batch = self._batches[index]
        self._progress.wait(time.monotonic() - start)
        return batch
