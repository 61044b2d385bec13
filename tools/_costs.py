"""What a model costs for every number of timesteps: speed, memory, multiply-adds."""

import concurrent.futures
import dataclasses
import datetime
import inspect
import json
import multiprocessing
import os
import pathlib
import platform
import pydoc
import resource
import statistics
import sys
import time

import keras
import numpy as np

from applications import _app
from applications._multiply_adds import (
    UncountableError,
    count_multiply_adds,
    static_shape,
)
from tools import _timing

MODES = ("inference", "training")
# Forward, gradient of the features and gradient of the kernels cost about the same.
FORWARDS = {"inference": 1, "training": 3}
SPEED = ("images_per_s", "images_per_s_min", "images_per_s_max", "gflops", "share")
COLUMNS = (
    *("date", "commit", "model", "kwargs", "timesteps", "batch_size", "input_shape"),
    *("dtype", "backend", "jit_compile", "repeats", "parameters", "multiply_adds"),
    *(f"{mode}_{name}" for mode in MODES for name in SPEED),
    *("machine_conv_gflops", "multiply_adds_ratio"),
    *(f"{mode}_{name}" for mode in MODES for name in ("time_ratio", "cost")),
    *("build_s", "first_inference_s", "first_training_s", "peak_mb_before"),
    *("peak_mb_inference", "peak_mb_training", "load_average", "versions", "hardware"),
)


@dataclasses.dataclass(frozen=True)
class Settings:
    """What to measure; `timesteps` is `(None,)` for a factory that takes none."""

    model: str
    kwargs: dict = dataclasses.field(default_factory=dict)
    timesteps: tuple = (None,)
    batch_size: int = 32
    input_shape: tuple | None = None
    modes: tuple = MODES
    dtype: str = "float32"
    jit_compile: bool = False
    repeats: int = 5
    seconds: float = 0.5
    fresh_process: bool = True


def find_factory(name):
    """The callable of that dotted name, and its parameters."""
    parameters = None
    try:
        factory = pydoc.locate(name or "")
        if "." in (name or "") and callable(factory):
            parameters = inspect.signature(factory).parameters
    except pydoc.ErrorDuringImport as error:
        raise ValueError(f"--model must be importable, got {name!r}: {error}.") from (
            error
        )
    except ValueError:
        pass  # Some builtins have no signature.
    if parameters is None:
        raise ValueError(
            "--model must be the dotted name of a callable that returns a keras.Model, "
            f"such as keras.applications.ResNet50, got {name!r}."
        )
    return factory, parameters


def build(settings, timesteps):
    """The model; its weights are random unless `kwargs` says otherwise."""
    factory, takes = find_factory(settings.model)
    kwargs = dict(settings.kwargs)
    if "weights" in takes:
        kwargs.setdefault("weights", None)
    if "input_shape" in takes and settings.input_shape:
        kwargs["input_shape"] = settings.input_shape
    if timesteps is not None:
        kwargs["timesteps"] = timesteps
    keras.config.set_dtype_policy(settings.dtype)
    try:
        model = factory(**kwargs)
    except (TypeError, ValueError) as error:
        shape = settings.input_shape
        raise ValueError(
            f"--kwargs must hold arguments that --model={settings.model} takes"
            f"{f' with --input_shape={commas(shape)}' if shape else ''}, got "
            f"{json.dumps(settings.kwargs)}: {error}"
        ) from error
    if not isinstance(model, keras.Model):
        raise ValueError(
            f"--model must name a callable that returns a keras.Model, got "
            f"{settings.model!r}, which returns {type(model).__name__}."
        )
    return model


def _images(model, settings):
    shape = (settings.batch_size, *static_shape(model, settings.input_shape))
    images = np.random.default_rng(0).standard_normal(shape, "float32")
    return keras.ops.convert_to_tensor(images)


def _calls(model, settings):
    """Dict from mode to a call that runs one batch."""
    images, jit = _images(model, settings), settings.jit_compile
    calls = {}
    if "inference" in settings.modes:
        forward = _timing.compiled_forward(model, jit)
        calls["inference"] = lambda: forward(images)
    if "training" in settings.modes:
        calls["training"] = _timing.training_step(model, images, jit)
    return calls


def first_run(settings, timesteps):
    """What one process that does nothing else shows: seconds and peak memory."""
    find_factory(settings.model)
    found = {"peak_mb_before": _peak_mb()}
    start = time.perf_counter()
    model = build(settings, timesteps)
    found["build_s"] = time.perf_counter() - start
    for mode, call in _calls(model, settings).items():
        start = time.perf_counter()
        call()
        found[f"first_{mode}_s"] = time.perf_counter() - start
        call()
        found[f"peak_mb_{mode}"] = _peak_mb()
    return found


def _peak_mb():
    """The most memory that was resident; not what lies on an accelerator."""
    status = pathlib.Path("/proc/self/status")
    if status.exists():
        # Where there is one, since ru_maxrss of a child starts at its parent's.
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def _in_fresh_process(settings, timesteps):
    context = multiprocessing.get_context("spawn")
    try:
        with concurrent.futures.ProcessPoolExecutor(1, context) as pool:
            return pool.submit(first_run, settings, timesteps).result()
    except concurrent.futures.BrokenExecutor as error:
        raise ValueError(
            f"--batch_size must leave the model within the memory, got "
            f"{settings.batch_size}: the process that measures the memory died."
        ) from error


def measure(settings, progress=lambda line: None):
    """Measures a model for every T.

    Args:
        settings: a `Settings`.
        progress: called with a line of text before everything that takes time.

    Returns:
        a list with one dict for every T, keys as in the CSV; a number that was not
        measured is `""`.
    """
    policy = keras.config.dtype_policy()
    try:
        return _measure(settings, progress)
    finally:
        keras.config.set_dtype_policy(policy)


def _measure(settings, progress):
    first = {}
    for steps in settings.timesteps if settings.fresh_process else ():
        progress(f"{_label(steps)}: first run, in a process of its own")
        first[steps] = _in_fresh_process(settings, steps)
    load = os.getloadavg()[0]

    calls, work = _timing.convolutions(settings.dtype)
    machine = list(calls)
    rows = []
    for steps in settings.timesteps:
        progress(f"{_label(steps)}: building, counting multiply-adds")
        model = build(settings, steps)
        try:
            count = count_multiply_adds(model, settings.input_shape)
        except UncountableError as error:
            progress(f"{_label(steps)}: {error}")
            count = ""
        row = {"timesteps": "" if steps is None else steps}
        row |= {"parameters": model.count_params(), "multiply_adds": count}
        row["input_shape"] = commas(static_shape(model, settings.input_shape))
        rows.append(row | first.get(steps, {}))
        for mode, call in _calls(model, settings).items():
            calls[mode, _label(steps)] = call

    times = _timing.time_interleaved(
        calls, settings.repeats, settings.seconds, progress
    )
    gflops = max(work[n] / statistics.median(times[n]) for n in machine) / 1e9
    common = _common_columns(settings)
    common |= {"machine_conv_gflops": gflops, "load_average": load}
    one = rows[settings.timesteps.index(1)] if 1 in settings.timesteps else {}
    for row, steps in zip(rows, settings.timesteps, strict=True):
        if one.get("multiply_adds") and row["multiply_adds"]:
            row["multiply_adds_ratio"] = row["multiply_adds"] / one["multiply_adds"]
        for mode in settings.modes:
            mine, base = times[mode, _label(steps)], times.get((mode, _label(1)))
            row |= _speed_columns(mode, settings.batch_size, row, mine, base, gflops)
    return [{name: (common | row).get(name, "") for name in COLUMNS} for row in rows]


def _label(timesteps):
    return "the model" if timesteps is None else f"T={timesteps}"


def _speed_columns(mode, batch_size, row, seconds, seconds_of_one, machine_gflops):
    """What the seconds of every repeat say, also against those of T = 1."""
    speed = batch_size / statistics.median(seconds)
    values = [speed, batch_size / max(seconds), batch_size / min(seconds)]
    if row["multiply_adds"]:
        gflops = 2 * FORWARDS[mode] * row["multiply_adds"] * speed / 1e9
        values += [gflops, gflops / machine_gflops]
    found = {
        f"{mode}_{name}": value for name, value in zip(SPEED, values, strict=False)
    }
    if seconds_of_one:
        # Repeat by repeat, since the two ran one after the other.
        pairs = zip(seconds, seconds_of_one, strict=True)
        ratio = statistics.median(mine / one for mine, one in pairs)
        found[f"{mode}_time_ratio"] = ratio
        if row.get("multiply_adds_ratio"):
            found[f"{mode}_cost"] = ratio / row["multiply_adds_ratio"]
    return found


def _common_columns(settings):
    backend = keras.backend.backend()
    version = sys.modules[backend].__version__
    return {
        "date": datetime.date.today().isoformat(),
        "commit": _app.commit(),
        "model": settings.model,
        "kwargs": json.dumps(settings.kwargs),
        "batch_size": settings.batch_size,
        "dtype": settings.dtype,
        "backend": backend,
        "jit_compile": backend == "jax" or settings.jit_compile,
        "repeats": settings.repeats,
        "versions": f"keras {keras.__version__}, {backend} {version}, "
        f"Python {platform.python_version()}",
        "hardware": _app.hardware(),
    }


def commas(values):
    """The values as the flags take them."""
    return ",".join(map(str, values))
