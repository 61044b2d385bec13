"""Several devices under TensorFlow, by its strategies."""

import contextlib
import os

import keras

from applications.train.distribution import workers
from applications.train.distribution.base import Distribution
from kfeedback import graph

_CODES = (1, 2, 15)  # what `agree` is asked: a save is due, SIGINT, SIGTERM


class _Strategy(Distribution):
    """What a strategy of TensorFlow distributes."""

    def __init__(self, strategy):
        self._strategy = strategy
        self.replicas = strategy.num_replicas_in_sync

    def scope(self):
        """The scope of the distribution."""
        return self._strategy.scope()

    @contextlib.contextmanager
    def prepared(self, model):
        """Refuses what fails under a strategy; Keras' batch norms are synchronized."""
        _require_supported(model)
        norms = [
            layer
            for layer in graph.all_layers(model)
            if isinstance(layer, keras.layers.BatchNormalization)
        ]
        before = [layer.synchronized for layer in norms]
        for layer in norms:
            layer.synchronized = self.replicas > 1
        try:
            yield
        finally:  # JAX refuses a saved layer that is synchronized
            for layer, synchronized in zip(norms, before, strict=True):
                layer.synchronized = synchronized

    def _cut(self, batches, weigh):
        """The parts of batches, one for each replica in turn.

        TensorFlow itself would leave the last replicas little or nothing of a batch
        that is not full, and Keras would weigh all parts equally. (What is logged as
        the loss still weighs the parts of that batch by Keras' rule.)

        Args:
            batches: `tf.data.Dataset` of `(x, y)`.
            weigh: whether to give examples the weights with which the mean of the means
                of the parts is that of the batch.
        """
        import tensorflow as tf

        replicas = self.replicas

        def parts(context):
            count = replicas // context.num_input_pipelines
            first = context.input_pipeline_id * count

            def cut(*batch):
                size = tf.shape(batch[0], tf.int64)[0]

                def part(replica):
                    start = replica * size // replicas
                    stop = (replica + 1) * size // replicas
                    found = tuple(tensor[start:stop] for tensor in batch)
                    if not weigh:
                        return found
                    weight = (stop - start) * replicas / size
                    return *found, tf.repeat(tf.cast(weight, tf.float32), stop - start)

                return tf.data.Dataset.range(first, first + count).map(part)

            return batches.flat_map(cut).prefetch(count)

        return self._strategy.distribute_datasets_from_function(parts)


class Mirrored(_Strategy):
    """All devices of this host, by `MirroredStrategy` and `fit`."""

    def __init__(self, settings):
        import tensorflow as tf

        devices = None
        if settings.logical_cpus:
            tf.config.set_logical_device_configuration(
                tf.config.list_physical_devices("CPU")[0],
                [tf.config.LogicalDeviceConfiguration()] * settings.logical_cpus,
            )
            devices = [f"CPU:{n}" for n in range(settings.logical_cpus)]
        super().__init__(tf.distribute.MirroredStrategy(devices))
        self._where = "mirrored on one host"

    def fit(self, model, data, epoch, watch):
        """As that of `Distribution`."""
        steps = {"steps_per_epoch": len(data)}
        super().fit(model, self._cut(data, weigh=True), epoch, watch, **steps)

    def evaluate(self, model, batches, check=lambda: None):
        """As that of `Distribution`."""
        parts = self._cut(batches, weigh=False)
        return super().evaluate(model, parts, check, steps=len(batches))


class MultiWorker(_Strategy):
    """All devices of several hosts, by `MultiWorkerMirroredStrategy`.

    `fit` of Keras 3 does not work under it (keras#20585); `train_step` does.
    """

    def __init__(self, settings):
        addresses, index = workers.from_tf_config(os.environ.get("TF_CONFIG"))
        import tensorflow as tf

        self._tf = tf
        workers.meet(addresses, index, 60 * settings.wait_minutes)
        try:
            strategy = tf.distribute.MultiWorkerMirroredStrategy()
        except (RuntimeError, tf.errors.OpError) as error:
            raise ValueError(
                "TF_CONFIG must name an address that this worker can listen on, got "
                f"{addresses[index]} ({' '.join(str(error).split())[:200]})."
            ) from error
        super().__init__(strategy)
        self._watch = workers.Watch(addresses, index)
        self._steps = {}
        self.is_chief = index == 0
        self._where = f"worker {index} of {len(addresses)}"
        self._sum = tf.function(
            lambda values: strategy.reduce(
                "SUM", strategy.run(tf.identity, (values,)), axis=None
            )
        )
        self.wait()

    def __exit__(self, kind, error, trace):
        self._watch.stop(error)

    def fit(self, model, data, epoch, watch):
        """As that of `Distribution`."""
        watch.set_model(model)
        model.reset_metrics()
        parts = self._cut(data, weigh=True)
        for batch, logs in enumerate(self._run(model, "train_step", parts)):
            watch.on_train_batch_end(batch, logs)
        watch.on_epoch_end(epoch, self._scores(model))

    def evaluate(self, model, batches, check=lambda: None):
        """As that of `Distribution`."""
        model.reset_metrics()
        parts = self._cut(batches, weigh=False)
        for _ in self._run(model, "test_step", parts):
            check()
        return self._scores(model)

    def agree(self, code):
        """As that of `Distribution`."""
        flags = [float(code == one) for one in _CODES]
        with self._together():
            found = self._sum(self._tf.constant(flags)).numpy()
        return max(
            n for n, is_on in zip((0, *_CODES), (1, *found), strict=True) if is_on
        )

    def _run(self, model, name, parts):
        """Runs a step of a model on parts; yields the mean logs of the replicas."""
        tf, strategy = self._tf, self._strategy
        if (model, name) not in self._steps:
            names = []

            def replica(*batch):
                logs = getattr(model, name)(batch)
                names[:] = logs
                return tf.stack([tf.cast(value, tf.float32) for value in logs.values()])

            @tf.function(input_signature=[parts.element_spec])
            def step(batch):
                values = strategy.run(replica, args=batch)
                return strategy.reduce("MEAN", values, axis=None)

            self._steps[model, name] = step, names
        step, names = self._steps[model, name]
        iterator = iter(parts)
        while True:
            with self._together():
                batch = next(iterator, None)
                if batch is None:
                    return
                values = step(batch).numpy().tolist()
            yield dict(zip(names, values, strict=True))

    def _scores(self, model):
        with self._together():
            return {k: float(v) for k, v in model.get_metrics_result().items()}

    @contextlib.contextmanager
    def _together(self):
        """Ends the process where an operation of all workers fails."""
        errors = self._tf.errors
        try:
            yield
        except (
            errors.UnavailableError,
            errors.AbortedError,
            errors.CancelledError,
            errors.DeadlineExceededError,
            errors.FailedPreconditionError,
        ) as error:
            self._watch.end(" ".join(str(error).split())[:200])


def _require_supported(model):
    """Refuses what in this Keras fails or is another thing under a strategy."""
    scales = isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
    optimizer = getattr(model.optimizer, "inner_optimizer", model.optimizer)
    clips = ("clipnorm", "global_clipnorm", "clipvalue")
    for wrong, what in (
        (scales, "float16, where one replica alone sees whether gradients are finite"),
        (optimizer.gradient_accumulation_steps, "gradient accumulation"),
        (
            any(getattr(optimizer, c) for c in clips),
            "clipped gradients, as each replica would clip its own",
        ),
        (model.steps_per_execution > 1, "several steps an execution"),
        (model.jit_compile, "a compiled step (jit)"),
    ):
        if wrong:
            raise ValueError(
                "--distribution must be none or data_parallel with what Keras cannot "
                f"do under its strategies, got mirrored or multi_worker with {what}."
            )
