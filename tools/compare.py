r"""Compares policies, engines and other implementations of one network, in one run.

    python -m tools.compare --model=cliquenet_s0 --batch_size=16 \
        --engines=keras,openvino,onnx --peer=../clique.py --csv=compare.csv

Times inference and training in float32 and bfloat16 in turn, so that a machine that
slows down slows all. `keras` is the model in the present backend, `xla` the same,
compiled by XLA; the other engines are its exported files. All but `keras` only infer.
`openvino_int8` computes in int8 where it can, and in the precision elsewhere. --peer is
a Python file whose `make()` gives a `torch.nn.Module` of `(B, C, H, W)`; bfloat16 is
torch's autocast. The share is that of what plain convolutions reach in the same
precision in the same run.
"""

import dataclasses
import functools
import pathlib
import runpy
import statistics

import keras
import numpy as np

from applications.common import machine
from applications.common.command_line import launch
from applications.common.multiply_adds import count_multiply_adds
from applications.common.rows import align, append_rows, check_columns
from applications.common.settings import as_text, field
from tools import timing
from tools.costs import FORWARDS, Timed
from tools.engines import ENGINES, PRECISIONS, in_precision
from tools.factories import find_factory

COLUMNS = ("mode", "precision", "engine", "images_per_s", "best_images_per_s", "share")
COLUMNS += ("to_peer", "model", "kwargs", "batch_size", "backend", "repeats")
COLUMNS += ("hardware",)


@dataclasses.dataclass(frozen=True)
class Settings(Timed):
    """The flags of tools.compare."""

    precisions: tuple[str, ...] = field(
        tuple(PRECISIONS), "In which to compute.", choices=tuple(PRECISIONS)
    )
    engines: tuple[str, ...] = field(
        ("keras",), "What computes.", choices=tuple(ENGINES)
    )
    peer: str | None = field(None, "A file whose `make()` gives a torch.nn.Module.")

    def check(self):
        """Refuses a peer that is no file."""
        super().check()
        if self.peer and not pathlib.Path(self.peer).is_file():
            raise ValueError(f"--peer must be a file, got {self.peer!r}.")


def main(settings):
    """Measures and prints."""
    check_columns(settings.csv, COLUMNS, "csv")
    calls, work = {}, None
    for precision in settings.precisions:
        model = build(settings, precision)
        work = work or count_multiply_adds(model)
        images = np.random.default_rng(0).standard_normal(
            (settings.batch_size, *model.input_shape[1:]), "float32"
        )
        for mode, engine, call in _calls(settings, model, images, precision):
            calls[mode, precision, engine] = call
    if not calls:
        raise ValueError(
            "--engines must be some that compute in --mode and --precisions, got "
            f"{', '.join(settings.engines)}."
        )
    times, reached = _times(calls, settings)
    rows = _rows(settings, times, reached, work)
    cells = [[*rows[0]][:7], *([str(v) for v in row.values()][:7] for row in rows)]
    print(f"{machine.hardware()}, {settings.model}, batch {settings.batch_size}")
    print("\n".join(align(cells)))
    append_rows(settings.csv, rows, "csv")


def build(settings, precision):
    """The model that computes in a precision."""
    factory = find_factory(settings.model)[0]
    return in_precision(precision, factory, **settings.kwargs)


def _calls(settings, model, images, precision):
    """`(mode, engine, call)` of everything that computes in a precision."""
    if "training" in settings.mode and "keras" in settings.engines:
        tensor = keras.ops.convert_to_tensor(images)
        yield "training", "keras", timing.training_step(model, tensor)
    for engine in settings.engines if "inference" in settings.mode else ():
        run = ENGINES[engine](functools.partial(build, settings), precision, images)
        if run:
            yield "inference", engine, lambda run=run: run(images)
    if settings.peer:
        for mode in settings.mode:
            yield mode, "peer", _peer_call(settings, mode, images, precision)


def _peer_call(settings, mode, images, precision):
    """A call of the other implementation."""
    import torch

    network = runpy.run_path(settings.peer)["make"]()
    images = torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))
    cast = torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16")
    if mode == "inference":
        network.eval()

        def infer():
            with torch.no_grad(), cast:
                network(images)

        return infer
    network.train()
    optimizer = torch.optim.SGD(network.parameters(), 1e-3, momentum=0.9)
    labels = torch.zeros(len(images), dtype=torch.long)
    loss = torch.nn.CrossEntropyLoss()

    def step():
        optimizer.zero_grad()
        with cast:
            outputs = network(images)
            outputs = outputs if isinstance(outputs, list | tuple) else [outputs]
            total = sum(loss(output, labels) for output in outputs)
        total.backward()
        optimizer.step()

    return step


def _times(calls, settings):
    """Seconds of each call, one a repeat, and what plain convolutions reach.

    Returns:
        a dict from the keys of `calls` to lists, and one from precisions to operations
        a second.
    """
    plain, work = {}, {}
    for precision in settings.precisions:
        found, operations = timing.convolutions(PRECISIONS[precision])
        plain |= {(precision, *name): call for name, call in found.items()}
        work |= {(precision, *name): one for name, one in operations.items()}
    times = timing.time_interleaved(calls | plain, settings.repeats, settings.seconds)
    reached = {
        precision: max(
            work[name] / statistics.median(times[name])
            for name in plain
            if name[0] == precision
        )
        for precision in settings.precisions
    }
    return {name: times[name] for name in calls}, reached


def _rows(settings, times, reached, work):
    """A dict for each thing that was timed."""
    rows = []
    for (mode, precision, engine), seconds in times.items():
        speed = settings.batch_size / statistics.median(seconds)
        operations = 2 * FORWARDS[mode] * work * speed
        peer = times.get((mode, precision, "peer"))
        row = {
            "mode": mode,
            "precision": precision,
            "engine": engine,
            "images_per_s": f"{speed:.2f}",
            "best_images_per_s": f"{settings.batch_size / min(seconds):.2f}",
            "share": f"{operations / reached[precision]:.3f}",
            "to_peer": "",
        }
        if peer:
            pairs = zip(peer, seconds, strict=True)
            row["to_peer"] = f"{statistics.median(a / b for a, b in pairs):.2f}"
        row |= {
            "model": settings.model,
            "kwargs": as_text(settings.kwargs),
            "batch_size": settings.batch_size,
            "backend": keras.backend.backend(),
            "repeats": settings.repeats,
            "hardware": machine.hardware(),
        }
        rows.append(row)
    return sorted(rows, key=lambda row: (row["mode"], row["precision"]))


if __name__ == "__main__":
    launch(main, Settings)
