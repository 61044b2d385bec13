"""Several devices under JAX, by `keras.distribution`."""

import contextlib
import os
import re

import keras
import numpy as np

from applications.train.distribution import workers
from applications.train.distribution.base import Distribution

_HEARTBEAT_SECONDS = 20  # without one from a process, before all others end

_STATUS = "UNKNOWN|UNAVAILABLE|INTERNAL|ABORTED|CANCELLED|DEADLINE_EXCEEDED"


class _Layout(keras.distribution.DataParallel):
    """Each device gets its part of a batch, or all of it if `whole`."""

    whole = False

    def get_data_layout(self, data_shape):
        """The layout of a batch."""
        if not self.whole:
            return super().get_data_layout(data_shape)
        axes = [None] * len(data_shape)
        return keras.distribution.TensorLayout(axes, self.device_mesh)


class DataParallel(Distribution):
    """All devices of all processes, by `keras.distribution` under JAX.

    Which processes there are say the variables that `keras.distribution.initialize`
    reads.
    """

    def __init__(self, settings):
        import jax

        address, count, index = workers.from_keras_variables(os.environ)
        if settings.logical_cpus:
            jax.config.update("jax_num_cpu_devices", settings.logical_cpus)
        self._count, self._index, self._watch = count, index, None
        if count > 1:
            self._connect(jax, address, 60 * settings.wait_minutes)
        self._layout = _Layout(auto_shard_dataset=False)
        self.replicas = self._layout.device_mesh.devices.size
        self.is_chief = index == 0
        self._where = f"process {index} of {count}"

    def _connect(self, jax, address, wait_seconds):
        """Meets the other processes, those on CPUs by gloo, JAX' own choice."""
        try:
            jax.distributed.initialize(
                address,
                self._count,
                self._index,
                initialization_timeout=int(wait_seconds),
                heartbeat_timeout_seconds=_HEARTBEAT_SECONDS,
            )
        except RuntimeError as error:
            raise ValueError(
                "KERAS_DISTRIBUTION_JOB_ADDRESSES must lead to the first of the "
                f"processes, all started, got {address} "
                f"({' '.join(str(error).split())[:200]})."
            ) from error
        # Only the first has an address; of the others JAX' heartbeat tells.
        self._watch = workers.Watch([address], self._index)

    def __exit__(self, kind, error, trace):
        if self._watch is not None:
            self._watch.stop(error)

    def scope(self):
        """The scope of the distribution."""
        return self._layout.scope()

    def prepared(self, model):
        """The scope again: here `fit` looks at it."""
        return self._layout.scope()

    def fit(self, model, data, epoch, watch):
        """As that of `Distribution`."""
        if not self._is_even(data):
            raise ValueError(
                "--batch_size must be one of which every batch of --train_split, also "
                f"the last, can be cut into {self.replicas} equal parts with "
                f"--distribution=data_parallel, got {len(data[0][0])} with a last "
                f"batch of {len(data[len(data) - 1][0])}."
            )
        with self._together():
            super().fit(model, self._part(data), epoch, watch)

    def evaluate(self, model, batches, check=lambda: None):
        """As that of `Distribution`."""
        self._layout.whole = not self._is_even(batches)
        part = batches if self._layout.whole else self._part(batches)
        try:
            with self._together():
                return super().evaluate(model, part, check)
        finally:
            self._layout.whole = False

    def agree(self, code):
        """As that of `Distribution`."""
        if self._count == 1:
            return code
        from jax.experimental import multihost_utils

        with self._together():
            return int(multihost_utils.process_allgather(np.int32(code)).max())

    def _is_even(self, batches):
        ends = (0, len(batches) - 1)
        return all(len(batches[n][0]) % self.replicas == 0 for n in ends)

    def _part(self, batches):
        return _Part(batches, self._index, self._count) if self._count > 1 else batches

    @contextlib.contextmanager
    def _together(self):
        """Ends the process where an operation of all processes fails."""
        import jax

        try:
            yield
        except (jax.errors.JaxRuntimeError, ValueError) as error:
            # Some reach us as a ValueError that begins with the name of its status.
            lost = re.match(_STATUS, str(error))
            if self._watch is None or not lost:
                raise
            self._watch.end(" ".join(str(error).split())[:200])


class _Part(keras.utils.PyDataset):
    """The part of a process of every batch."""

    def __init__(self, batches, index, count):
        super().__init__()
        self._batches, self._index, self._count = batches, index, count

    def __len__(self):
        return len(self._batches)

    def __getitem__(self, number):
        batch = self._batches[number]
        size = len(batch[0]) // self._count
        return tuple(a[self._index * size : (self._index + 1) * size] for a in batch)
