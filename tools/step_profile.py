r"""Where the time of a step goes: convolutions, batch norms, and what lies between.

    python -m tools.step_profile --model=cliquenet_s0 --batch_size=8 --mode=training

TensorFlow alone. Its profiler notes every operation of a compiled call; times are
summed by kind, in float32 and bfloat16. Operations run side by side, so a kind's
milliseconds are those of all threads that start operations, its share is of their sum.
"""

import collections
import dataclasses
import glob
import tempfile

import keras
import numpy as np

from applications.common import machine
from applications.common.command_line import launch
from applications.common.rows import align, append_rows, check_columns
from applications.common.settings import as_text, field
from tools import timing
from tools.compare import PRECISIONS, build
from tools.costs import Measured

# Of an operation's type the first of these names that it holds says its kind.
KINDS = {
    "convolutions, forward": ("Conv2D", "Conv2dNative"),
    "convolutions, gradient of inputs": ("BackpropInput",),
    "convolutions, gradient of kernels": ("BackpropFilter",),
    "batch norms": ("FusedBatchNorm",),
    "matrix products": ("MatMul", "Einsum"),
    "casts": ("Cast",),
    "copies": ("Concat", "Split", "Slice", "Pad", "Transpose", "Tile", "Pack"),
    "sums": ("Sum", "Mean", "AddN", "BiasAddGrad", "Pool", "SquaredDifference"),
    "element by element": (
        *("Mul", "AddV2", "Sub", "Sigmoid", "Tanh", "Relu", "Div", "Select", "Rsqrt"),
        *("Max", "Min", "Square", "Neg", "Exp", "Softmax", "BiasAdd", "Greater"),
    ),
}
OTHER = "other operations"
COLUMNS = ("mode", "precision", "kind", "ms", "share", "model", "kwargs", "batch_size")
COLUMNS += ("steps", "hardware")


@dataclasses.dataclass(frozen=True)
class Settings(Measured):
    """The flags of tools.step_profile."""

    precisions: tuple[str, ...] = field(
        tuple(PRECISIONS), "In which to compute.", choices=tuple(PRECISIONS)
    )
    steps: int = field(5, "Calls that are profiled.", least=1)

    def check(self):
        """Refuses another backend."""
        super().check()
        if keras.backend.backend() != "tensorflow":
            raise ValueError(
                "KERAS_BACKEND must be tensorflow for its profiler, got "
                f"{keras.backend.backend()}."
            )


def kind(operation):
    """The kind of an operation's type, the one with the longest name in it."""
    found = [
        (len(x), kind) for kind, own in KINDS.items() for x in own if x in operation
    ]
    return max(found)[1] if found else OTHER


def profile(call, steps):
    """Milliseconds a call by the type of operation, summed over threads.

    Args:
        call: a function without arguments that runs TensorFlow's operations.
        steps: int, calls; one more before them is not counted.
    """
    import tensorflow as tf
    from tensorflow.tsl.profiler.protobuf import xplane_pb2

    call()
    with tempfile.TemporaryDirectory() as folder:
        with tf.profiler.experimental.Profile(folder):
            for _ in range(steps):
                call()
        (path,) = glob.glob(f"{folder}/plugins/profile/*/*.xplane.pb")
        with open(path, "rb") as file:
            space = xplane_pb2.XSpace.FromString(file.read())
    found = collections.Counter()
    for plane in space.planes:
        for line in plane.lines:
            for event in line.events:
                # "name:Type"; what has no type is no operation, nor is a function.
                name = plane.event_metadata[event.metadata_id].name
                operation = name.rpartition(":")[2].strip()
                if ":" in name and "::" not in name and operation[:2] != "__":
                    found[operation] += event.duration_ps / 1e9 / steps
    return found


def main(settings):
    """Measures and prints."""
    check_columns(settings.csv, COLUMNS, "csv")
    rows = []
    for precision in settings.precisions:
        model = build(settings, precision)
        images = np.random.default_rng(0).standard_normal(
            (settings.batch_size, *model.input_shape[1:]), "float32"
        )
        for mode in settings.mode:
            call = _call(mode, model, keras.ops.convert_to_tensor(images))
            rows += _rows(settings, mode, precision, profile(call, settings.steps))
    shown = [[*rows[0]][:5], *([str(v) for v in row.values()][:5] for row in rows)]
    print(f"{machine.hardware()}, {settings.model}, batch {settings.batch_size}")
    print("\n".join(align(shown)))
    append_rows(settings.csv, rows, "csv")


def _call(mode, model, images):
    if mode == "training":
        return timing.training_step(model, images)
    forward = timing.compiled_forward(model)
    return lambda: forward(images)


def _rows(settings, mode, precision, times):
    """A dict for each kind, the longest first."""
    kinds = collections.Counter()
    for operation, milliseconds in times.items():
        kinds[kind(operation)] += milliseconds
    total = sum(kinds.values())
    return [
        {
            "mode": mode,
            "precision": precision,
            "kind": name,
            "ms": f"{milliseconds:.1f}",
            "share": f"{milliseconds / total:.3f}",
            "model": settings.model,
            "kwargs": as_text(settings.kwargs),
            "batch_size": settings.batch_size,
            "steps": settings.steps,
            "hardware": machine.hardware(),
        }
        for name, milliseconds in kinds.most_common()
    ]


if __name__ == "__main__":
    launch(main, Settings)
