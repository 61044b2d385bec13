"""Compiled calls of a model, this machine's own speed, and timing side by side."""

import math
import pathlib
import resource
import statistics
import sys
import time
import warnings

import keras
import numpy as np

from applications.common.machine import accelerators
from kfeedback.backend import compile_function

# Channels and images of the convolutions that show what the machine can do.
CONVOLUTIONS = ((128, 16), (128, 32), (256, 16))


def compiled(function, model, jit_compile=False):
    """A compiled function of tensors that returns when its result is there.

    Args:
        function: uses the layers of `model`.
        model: `keras.Model`.
        jit_compile: bool, XLA on TensorFlow; JAX always has it.
    """
    run = compile_function(model, function)
    if keras.backend.backend() == "jax":
        import jax

        return lambda *tensors: jax.block_until_ready(run(*tensors))
    if jit_compile:
        import tensorflow as tf

        run = tf.function(run, jit_compile=True)
    # Not keras.ops.convert_to_numpy, which cannot read bfloat16.
    return lambda *tensors: keras.tree.map_structure(lambda x: x.numpy(), run(*tensors))


def compiled_forward(model, jit_compile=False):
    """`images -> outputs` of `model`, compiled, for inference."""
    return compiled(lambda x: model(x, training=False), model, jit_compile)


def training_step(model, images, jit_compile=False):
    """A function that runs the train function of `fit` on one batch in memory."""
    shape = getattr(model, "output_shape", None)
    if not isinstance(shape, tuple) or not all(isinstance(n, int) for n in shape[1:]):
        raise ValueError(
            "--mode must be inference for a model without exactly one output of known "
            f"shape, got '{model.name}' with output {shape}."
        )
    model.compile(
        optimizer=keras.optimizers.SGD(1e-3, momentum=0.9),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        jit_compile=keras.backend.backend() == "jax" or jit_compile,
    )
    labels = np.random.default_rng(1).integers(
        shape[-1], size=(len(images), *shape[1:-1])
    )
    labels = keras.ops.convert_to_tensor(labels, "int32")

    def step():
        with warnings.catch_warnings():
            # Keras takes the logits before a softmax in either case, and warns.
            warnings.filterwarnings("ignore", message=".*received `from_logits=True`")
            model.train_on_batch(images, labels)

    return step


def machine_conv_gflops(dtype="float32", repeats=5, seconds=0.5):
    """GFLOP/s of plain 3×3 convolutions, the best median over a few sizes.

    Args:
        dtype: `"float32"` or `"mixed_bfloat16"`, whose convolutions are bfloat16.
        repeats: how often each size is timed.
        seconds: the least duration of one such repeat.
    """
    calls, work = convolutions(dtype)
    times = time_interleaved(calls, repeats, seconds)
    return max(work[n] / statistics.median(times[n]) for n in calls) / 1e9


def convolutions(dtype):
    """Calls of four 3×3 convolutions in a row at 32 px, and their operations.

    Returns:
        two dicts with the same keys; on an accelerator the batches are 16 times larger.
    """
    dtype = keras.dtype_policies.get(dtype).compute_dtype
    scale = 16 if accelerators() else 1
    calls, work = {}, {}
    for channels, batch in CONVOLUTIONS:
        batch *= scale
        rng = np.random.default_rng(0)
        x = rng.standard_normal((batch, 32, 32, channels), "float32")
        kernel = rng.standard_normal((3, 3, channels, channels), "float32")
        kernel /= math.sqrt(9 * channels)
        x, kernel = (keras.ops.convert_to_tensor(value, dtype) for value in (x, kernel))
        run = compiled(_four_convolutions, keras.Sequential())
        name = ("convolution", channels, batch)
        calls[name] = lambda run=run, x=x, kernel=kernel: run(x, kernel)
        work[name] = 4 * 2 * batch * 32 * 32 * 9 * channels**2
    return calls, work


def _four_convolutions(x, kernel):
    for _ in range(4):
        x = keras.ops.conv(x, kernel, padding="same")
    return keras.ops.sum(x)


def time_interleaved(calls, repeats, seconds, progress=lambda line: None):
    """Seconds a call takes: for every name in `calls` a list, one number a repeat.

    Every repeat runs all calls one after the other, so that a machine that slows
    down slows all of them. Three calls each for warming up are not counted.
    """
    loops = {}
    for name, call in calls.items():
        progress(f"warming up {' '.join(map(str, name))}")
        call()
        warm = min(_time(call, 1) for _ in range(2))
        loops[name] = max(1, math.ceil(seconds / warm))
    times = {name: [] for name in calls}
    for repeat in range(repeats):
        progress(f"timing, repeat {repeat + 1} of {repeats}")
        for name, call in calls.items():
            times[name].append(_time(call, loops[name]))
    return times


def _time(call, loops):
    start = time.perf_counter()
    for _ in range(loops):
        call()
    return (time.perf_counter() - start) / loops


def peak_mb():
    """The most memory that was resident; not what lies on an accelerator."""
    status = pathlib.Path("/proc/self/status")
    if status.exists():
        # Where there is one, since ru_maxrss of a child starts at its parent's.
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
