"""What a model costs for every number of timesteps: speed, memory, multiply-adds."""

import concurrent.futures
import dataclasses
import multiprocessing
import os
import platform
import statistics
import sys
import time
from collections.abc import Mapping

import keras
import numpy as np

from applications.common import machine
from applications.common.multiply_adds import (
    UncountableError,
    count_multiply_adds,
    static_shape,
)
from applications.common.settings import Settings as Base
from applications.common.settings import as_text, field
from tools import timing
from tools.factories import find_factory

MODES = ("inference", "training")
# Forward, gradient of the features and gradient of the kernels cost about the same.
FORWARDS = {"inference": 1, "training": 3}
SPEED = ("images_per_s", "images_per_s_min", "images_per_s_max", "gflops", "share")
COLUMNS = (
    *("model", "kwargs", "timesteps", "batch_size", "input_shape"),
    *("dtype", "backend", "jit_compile", "repeats", "parameters", "multiply_adds"),
    *(f"{mode}_{name}" for mode in MODES for name in SPEED),
    *("machine_conv_gflops", "multiply_adds_ratio"),
    *(f"{mode}_{name}" for mode in MODES for name in ("time_ratio", "cost")),
    *("build_s", "first_inference_s", "first_training_s", "peak_mb_before"),
    *("peak_mb_inference", "peak_mb_training", "load_average", "versions", "hardware"),
)


@dataclasses.dataclass(frozen=True)
class Measured(Base):
    """Of tools that measure a model."""

    model: str | None = field(
        None,
        "A family of kfeedback, or the dotted name of a model factory.",
        required=True,
    )
    kwargs: Mapping = field(dict, "Its arguments.")
    batch_size: int = field(32, "Images.", least=1)
    mode: tuple[str, ...] = field(MODES, "What to time.", choices=MODES)
    csv: str | None = field(None, "File that gets the rows.")


@dataclasses.dataclass(frozen=True)
class Timed(Measured):
    """Of tools that time a model."""

    repeats: int = field(5, "Timings of each.", least=1)
    seconds: float = field(0.5, "Least duration of one timing.", above=0, below=3600)


@dataclasses.dataclass(frozen=True)
class Settings(Timed):
    """What to measure."""

    timesteps: tuple[int, ...] = field(
        (),
        "Values of T, for a factory with an argument timesteps; 1 by default.",
        least=1,
    )
    input_shape: tuple[int, ...] = field(
        (), "H,W,C of an image; the model's own by default.", least=1, different=False
    )
    dtype: str = field(
        "float32", "Dtype policy.", choices=("float32", "mixed_bfloat16")
    )
    jit_compile: bool = field(False, "XLA; JAX always has it.")
    fresh_process: bool = field(
        True, "Run each T once in a process of its own, for memory and first run."
    )

    @property
    def counts(self):
        """The values of T; `(None,)` for a factory that takes none."""
        takes = find_factory(self.model)[1]
        return self.timesteps or ((1,) if "timesteps" in takes else (None,))

    def check(self):
        """Refuses arguments that the factory does not take."""
        backend = keras.backend.backend()
        if backend not in ("tensorflow", "jax"):
            raise ValueError(f"KERAS_BACKEND must be tensorflow or jax, got {backend}.")
        super().check()
        for name in ("timesteps", "input_shape"):
            if name in self.kwargs:
                raise ValueError(
                    f"--kwargs must leave {name} to --{name}, got "
                    f"{as_text(self.kwargs)}."
                )
        _, takes = find_factory(self.model)
        unknown = {*self.kwargs} - {*takes}
        if unknown and not any(p.kind is p.VAR_KEYWORD for p in takes.values()):
            raise ValueError(
                f"--kwargs must hold arguments that --model={self.model} takes, which "
                f"are {', '.join(takes)}, got {', '.join(sorted(unknown))}."
            )
        if "timesteps" not in takes and self.timesteps:
            raise ValueError(
                f"--timesteps must be left out for {self.model}, which takes no "
                f"timesteps, got {as_text(self.timesteps)}."
            )


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
            f"{f' with --input_shape={as_text(shape)}' if shape else ''}, got "
            f"{as_text(settings.kwargs)}: {error}"
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
    if "inference" in settings.mode:
        forward = timing.compiled_forward(model, jit)
        calls["inference"] = lambda: forward(images)
    if "training" in settings.mode:
        calls["training"] = timing.training_step(model, images, jit)
    return calls


def first_run(settings, timesteps):
    """What one process that does nothing else shows: seconds and peak memory."""
    find_factory(settings.model)
    found = {"peak_mb_before": timing.peak_mb()}
    start = time.perf_counter()
    model = build(settings, timesteps)
    found["build_s"] = time.perf_counter() - start
    for mode, call in _calls(model, settings).items():
        start = time.perf_counter()
        call()
        found[f"first_{mode}_s"] = time.perf_counter() - start
        call()
        found[f"peak_mb_{mode}"] = timing.peak_mb()
    return found


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
        return _measured(settings, progress)
    finally:
        keras.config.set_dtype_policy(policy)


def _measured(settings, progress):
    first = {}
    for steps in settings.counts if settings.fresh_process else ():
        progress(f"{_label(steps)}: first run, in a process of its own")
        first[steps] = _in_fresh_process(settings, steps)
    load = os.getloadavg()[0]

    calls, work = timing.convolutions(settings.dtype)
    plain = list(calls)
    rows = []
    for steps in settings.counts:
        progress(f"{_label(steps)}: building, counting multiply-adds")
        model = build(settings, steps)
        try:
            count = count_multiply_adds(model, settings.input_shape)
        except UncountableError as error:
            progress(f"{_label(steps)}: {error}")
            count = ""
        row = {"timesteps": "" if steps is None else steps}
        row |= {"parameters": model.count_params(), "multiply_adds": count}
        row["input_shape"] = as_text(static_shape(model, settings.input_shape))
        rows.append(row | first.get(steps, {}))
        for mode, call in _calls(model, settings).items():
            calls[mode, _label(steps)] = call

    times = timing.time_interleaved(calls, settings.repeats, settings.seconds, progress)
    gflops = max(work[n] / statistics.median(times[n]) for n in plain) / 1e9
    common = _common_columns(settings)
    common |= {"machine_conv_gflops": gflops, "load_average": load}
    one = rows[settings.counts.index(1)] if 1 in settings.counts else {}
    for row, steps in zip(rows, settings.counts, strict=True):
        if one.get("multiply_adds") and row["multiply_adds"]:
            row["multiply_adds_ratio"] = row["multiply_adds"] / one["multiply_adds"]
        for mode in settings.mode:
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
        "model": settings.model,
        "kwargs": as_text(settings.kwargs),
        "batch_size": settings.batch_size,
        "dtype": settings.dtype,
        "backend": backend,
        "jit_compile": backend == "jax" or settings.jit_compile,
        "repeats": settings.repeats,
        "versions": f"keras {keras.__version__}, {backend} {version}, "
        f"Python {platform.python_version()}",
        "hardware": machine.hardware(),
    }
