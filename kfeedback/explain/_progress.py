"""A progress bar for work that turns out to be long."""

import time

import keras

from kfeedback import checks

_SILENT_SECONDS = 5  # work that takes longer gets a bar


class Progress:
    """A progress bar over images, from the moment on that the work is a long one."""

    def __init__(self, count, verbose):
        if verbose != "auto":
            checks.boolean("verbose", verbose)
        self._count, self._verbose = count, verbose
        self._start, self._bar = time.monotonic(), None

    def update(self, done):
        late = time.monotonic() - self._start > _SILENT_SECONDS and done < self._count
        if self._bar is None and (self._verbose is True or (self._verbose and late)):
            self._bar = keras.utils.Progbar(self._count, unit_name="image")
        if self._bar is not None:
            self._bar.update(done)
