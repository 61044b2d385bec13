"""The folder of a run: which run it is, how far it is, and what came of it."""

import contextlib
import csv
import io
import json
import os
import pathlib

from applications.common import machine, runs
from applications.common.locks import lock
from applications.common.settings import as_text
from kfeedback import renamed

FREE = {"output_dir", "config", "verbose", "traceback", "keep"}
FREE |= {"save_minutes", "save_batches", "wait_minutes"}
"""Flags that may differ when a run goes on: they change nothing of what comes out."""


class Run:
    """A folder that one command line trains in, however often it is broken off.

    Args:
        settings: `Settings`, of which `output_dir` is the folder.

    Attributes:
        folder: `pathlib.Path`.
        began: bool, whether an earlier process trained in it.

    Raises:
        ValueError: if another run is in the folder; the error names what differs.
    """

    def __init__(self, settings):
        self.folder = pathlib.Path(settings.output_dir).expanduser()
        self._path = self.folder / "run.json"
        self._about = {"flags": settings.as_flags(), "commit": machine.commit()}
        # What ended before its first checkpoint was no run yet.
        left = [self.folder / name for name in ("checkpoints", "epochs.csv")]
        self.began = any(path.exists() for path in left)
        if self.began:
            runs.read("output_dir", self.folder)  # whether it is one
            self._about = json.loads(self._path.read_text(encoding="utf-8"))
            self._compare(settings)

    def _compare(self, settings):
        """Refuses flags that are not those of the run."""
        stored = renamed.current(self._about["flags"])
        mine, defaults = (
            json.loads(json.dumps(one.as_flags()))
            for one in (settings, type(settings)())
        )
        for name, value in mine.items():
            # A flag that is newer than the run had its default there.
            before = stored.get(name, defaults[name])
            if name not in FREE and before != value:
                raise ValueError(
                    f"--{name} must be {_text(before)}, as in the run that is in "
                    f"{self.folder} already, got {_text(value)}; another --output_dir "
                    "holds another run."
                )

    @contextlib.contextmanager
    def claimed(self):
        """Makes the folder, and keeps other processes from training in it meanwhile.

        Raises:
            ValueError: if one trains there, or nothing can be written.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            claim = (self.folder / ".lock").open("a")
        except OSError as error:
            raise ValueError(
                "--output_dir must be a folder that can be written, got "
                f"{self.folder} ({error.strerror})."
            ) from error
        with claim:
            try:
                lock(claim, wait=False)
            except BlockingIOError as error:
                raise ValueError(
                    "--output_dir must be a folder that no other process trains in, "
                    f"got {self.folder}."
                ) from error
            yield

    def require_policy(self, policy):
        """Notes in what the run computes; refuses another precision when it goes on."""
        before = self._about.setdefault("policy", policy)
        if before != policy:
            raise ValueError(
                f"--mixed_precision must lead to {before}, as where the run in "
                f"{self.folder} began, got {policy} on this machine."
            )

    def require_backend(self, backend):
        """Notes which backend trains; refuses another when the run goes on.

        Another one would not find its checkpoints. Runs of earlier versions name none.
        """
        before = self._about.get("backend", backend)
        if before != backend:
            raise ValueError(
                f"KERAS_BACKEND must be {before}, as where the run in {self.folder} "
                f"began, got {backend}; another --output_dir holds another run."
            )
        if not self.began:
            self._about["backend"] = backend

    @property
    def finished(self):
        """The errors at each timestep of a run that is finished, else `None`."""
        return self._about.get("errors")

    def write(self, **about):
        """Notes what is known of the run, as a whole or not at all."""
        self._about |= about
        self.folder.mkdir(parents=True, exist_ok=True)
        replace(self._path, json.dumps(self._about, indent=1) + "\n")

    def write_history(self, history):
        """Writes `epochs.csv`, a row for each epoch."""
        text = io.StringIO()
        columns = list(dict.fromkeys(name for row in history for name in row))
        writer = csv.DictWriter(text, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(history)
        replace(self.folder / "epochs.csv", text.getvalue())

    def require_checkpoint(self, found):
        """Refuses to begin anew where finished epochs have no checkpoint left."""
        if not found and (self.folder / "epochs.csv").exists():
            raise ValueError(
                f"--output_dir must hold the checkpoints of its run, got {self.folder} "
                "with finished epochs and without any; another folder starts anew."
            )


def _text(value):
    """What a flag had, as its command line would say it."""
    if isinstance(value, str):
        return repr(value)
    return "left out" if value is None else as_text(value)


def replace(path, text):
    """Writes a file so that there is always the old one or the new one, whole."""
    draft = path.with_name(f".{path.name}.draft")
    draft.write_text(text, encoding="utf-8")
    os.replace(draft, path)
