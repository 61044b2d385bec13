"""Checkpoints of a run, by TensorFlow's own engine or, under JAX, by Orbax.

A checkpoint holds every variable that training changes, and a position: a dict of plain
values that says how far the run is. It is one unit: either all of it is there or none.
"""

import contextlib
import json
import pathlib
import re
import shutil

import keras
import numpy as np
import xxhash

from kfeedback import checks


class Checkpoints:
    """The last few states of a run in a folder.

    Args:
        folder: where they lie; made when the first one is written.
        variables: list of Keras variables, in an order that another process repeats.
        keep: int ≥ 2, how many stay, so that there is a whole one before a damaged one.
        writes: bool, whether this process writes; of several workers only the chief's
            checkpoints are kept.
    """

    def __init__(self, folder, variables, keep=3, writes=True):
        self.folder = pathlib.Path(folder)
        self._variables = variables
        self._keep = checks.integer("keep", keep, least=2)
        self._writes = writes
        self._engine = _engine(self.folder, variables)

    def save(self, position):
        """Writes a checkpoint behind those that are there, and removes the oldest.

        Args:
            position: dict that JSON can hold.

        Raises:
            OSError: with the reason if it cannot be written; those before it are whole.
        """
        if not self._writes:
            return
        numbers = self._engine.numbers()
        number = numbers[-1] + 1 if numbers else 1
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            text = json.dumps({"position": position, "digest": self._digest()})
            self._engine.write(number, text)
        except Exception as error:  # engines raise whatever they like
            with contextlib.suppress(OSError):  # of no use, and in the way of the next
                self._engine.remove(number)
            reason = " ".join(str(error).split())[:300]
            raise OSError(
                f"checkpoint {number} must be written to {self.folder}, got: {reason}"
            ) from error
        for old in self._engine.numbers()[: -self._keep]:
            self._engine.remove(old)

    def restore(self, say=print):
        """Reads the newest checkpoint that is whole into the variables.

        Args:
            say: function of a sentence about one that is damaged.

        Returns:
            the position; `None` if there is no checkpoint.

        Raises:
            ValueError: if there are some and none can be read.
        """
        numbers = self._engine.numbers()
        for number in reversed(numbers):
            try:
                found = json.loads(self._engine.read(number))
                if found["digest"] != self._digest():
                    raise ValueError("its values are not those that were written")
                return found["position"]
            except Exception as error:  # engines raise whatever they like
                reason = " ".join(str(error).split())[:200]
                say(f"checkpoint {number} cannot be read and is left out: {reason}")
        if numbers:
            raise ValueError(
                "--output_dir must hold a checkpoint that can be read, got "
                f"{self.folder} with {len(numbers)}, none of them whole and of this "
                "network; in another folder a run starts anew."
            )
        return None

    def _digest(self):
        """A checksum of all values, whatever the engine has of its own."""
        digest = xxhash.xxh3_128()
        for variable in self._variables:
            value = np.asarray(keras.ops.convert_to_numpy(variable))
            digest.update(np.ascontiguousarray(value).reshape(-1).view("uint8"))
        return digest.hexdigest()


def _engine(folder, variables):
    backend = keras.backend.backend()
    if backend == "tensorflow":
        return _TensorFlow(folder, variables)
    if backend == "jax":
        return _Orbax(folder, variables)
    raise ValueError(
        f"KERAS_BACKEND must be tensorflow or jax for training here, got {backend}."
    )


class _TensorFlow:
    """`tf.train.Checkpoint`, whose files carry CRCs of every tensor."""

    def __init__(self, folder, variables):
        import tensorflow as tf

        if {"[", "\\"} & {*str(folder)}:
            raise ValueError(
                "--output_dir must have no [ and no backslash in its path, as "
                f"TensorFlow finds no checkpoints there, got {folder.parent}."
            )
        self._folder = folder
        self._position = tf.Variable("", dtype=tf.string)
        self._checkpoint = tf.train.Checkpoint(
            position=self._position, variables=[v.value for v in variables]
        )

    def numbers(self):
        """Of all checkpoints of which any file is there."""
        names = [path.name for path in self._folder.glob("ckpt-*")]
        found = [re.fullmatch(r"ckpt-(\d+)\.(index|data-.*)", name) for name in names]
        return sorted({int(match[1]) for match in found if match})

    def write(self, number, position):
        self._position.assign(position)
        for remains in self._folder.glob("ckpt-*temp*"):  # of a process that was ended
            _delete(remains)
        self._checkpoint.write(str(self._folder / f"ckpt-{number}"))

    def read(self, number):
        status = self._checkpoint.read(str(self._folder / f"ckpt-{number}"))
        status.assert_consumed()
        return self._position.numpy().decode()

    def remove(self, number):
        for path in self._folder.glob(f"ckpt-{number}[._]*"):
            _delete(path)


class _Orbax:
    """Orbax, the engine of JAX; a checkpoint is a folder that is renamed when whole."""

    def __init__(self, folder, variables):
        try:
            import orbax.checkpoint
        except ImportError as error:
            raise ImportError(
                f"Checkpoints under JAX need pip install kfeedback[jax]: {error}"
            ) from error
        self._orbax = orbax.checkpoint
        self._folder = folder.absolute()
        self._variables = variables

    def numbers(self):
        """Of all checkpoints; what was broken off has another name."""
        names = [path.name for path in self._folder.glob("*")]
        return sorted(int(name) for name in names if name.isdecimal())

    def write(self, number, position):
        for remains in self._folder.glob("*.orbax-checkpoint-tmp*"):
            _delete(remains)
        values = [keras.ops.convert_to_numpy(v) for v in self._variables]
        with self._checkpointer() as checkpointer:
            checkpointer.save(
                self._folder / str(number),
                args=self._orbax.args.Composite(
                    state=self._orbax.args.StandardSave(values),
                    position=self._orbax.args.JsonSave(position),
                ),
            )

    def read(self, number):
        values = [keras.ops.convert_to_numpy(v) for v in self._variables]
        with self._checkpointer() as checkpointer:
            found = checkpointer.restore(
                self._folder / str(number),
                args=self._orbax.args.Composite(
                    state=self._orbax.args.StandardRestore(values),
                    position=self._orbax.args.JsonRestore(),
                ),
            )
        for variable, value in zip(self._variables, found.state, strict=True):
            variable.assign(value)
        return found.position

    def remove(self, number):
        with contextlib.suppress(FileNotFoundError):
            _delete(self._folder / str(number))

    def _checkpointer(self):
        """One that this process uses alone, whether or not there are others."""
        import jax

        one = jax.process_index()
        options = self._orbax.options.MultiprocessingOptions(
            primary_host=one,
            active_processes={one} if jax.process_count() > 1 else None,
            barrier_sync_key_prefix=f"process{one}",
        )
        handler = self._orbax.CompositeCheckpointHandler(
            composite_options=self._orbax.CompositeOptions(options)
        )
        return self._orbax.Checkpointer(handler, multiprocessing_options=options)


def _delete(path):
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()
