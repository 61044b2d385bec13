"""One device, and what all distributions can do."""

import contextlib

import keras


class Distribution:
    """One device.

    Attributes:
        replicas: int, how many share each batch.
        is_chief: bool, whether this process writes and speaks for all.
    """

    replicas, is_chief, _where = 1, True, "one device"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        """Lets the other workers go."""

    def scope(self):
        """A context in which the network is built and compiled."""
        return contextlib.nullcontext()

    def describe(self, batch_size, lr):
        """One line: who trains, on what of each batch, at which rate."""
        share = batch_size / self.replicas
        each = f"{share:g}" if share.is_integer() else f"about {share:.1f}"
        return (
            f"{self._where}: {self.replicas} replica{'s' * (self.replicas > 1)}; "
            f"global batch {batch_size}, {each} a replica; learning rate {lr:g}, that "
            "of the global batch; every batch is cut into one part a replica"
        )

    @contextlib.contextmanager
    def prepared(self, model):
        """A context in which a compiled model trains on these devices."""
        yield

    def fit(self, model, data, epoch, watch, **arguments):
        """Trains for one epoch.

        Args:
            model: compiled.
            data: batches, those of the whole run, as `fit` takes them.
            epoch: its number.
            watch: `keras.callbacks.Callback`.
            **arguments: more of `keras.Model.fit`.
        """
        model.fit(
            data,
            initial_epoch=epoch,
            epochs=epoch + 1,
            verbose=0,
            shuffle=False,  # the data shuffle themselves, by (seed, epoch)
            callbacks=[watch],
            **arguments,
        )

    def evaluate(self, model, batches, check=lambda: None, **arguments):
        """Dict of scores on batches; `check` is called after each and may end it."""

        class Check(keras.callbacks.Callback):
            def on_test_batch_end(self, batch, logs=None):
                check()

        return model.evaluate(
            batches, return_dict=True, verbose=0, callbacks=[Check()], **arguments
        )

    def agree(self, code):
        """The greatest code of all workers, which all call this at the same moment.

        Args:
            code: 0; 1 for what is so for this worker, such as that a checkpoint is
                due; or the number of a signal, 2 or 15.
        """
        return code

    def wait(self):
        """Waits until all workers are here."""
        self.agree(0)

    @contextlib.contextmanager
    def chief_first(self):
        """A context that the chief has left before the others enter."""
        if not self.is_chief:
            self.wait()
        yield
        if self.is_chief:
            self.wait()
