"""What computes a network here: TensorFlow, or the runtime of an exported file."""

import functools
import os
import pathlib
import tempfile

import keras
import numpy as np

import kfeedback
from tools import timing

PRECISIONS = {"float32": "float32", "bfloat16": "mixed_bfloat16"}


def in_precision(precision, build, *arguments, **options):
    """What a function builds where Keras computes in a precision."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(PRECISIONS[precision])
    try:
        return build(*arguments, **options)
    finally:
        keras.config.set_dtype_policy(before)


def _keras(build, precision, images, *, jit_compile=False):
    forward = timing.compiled_forward(build(precision), jit_compile)
    return lambda images: forward(keras.ops.convert_to_tensor(images))


def _openvino(build, precision, images, *, int8=False):
    import openvino

    core = openvino.Core()
    with tempfile.TemporaryDirectory() as folder:
        path = _exported(build, pathlib.Path(folder, "model.xml"))
        if int8:
            from kfeedback.serving import files  # it imports TensorFlow

            path = files.quantize(path, pathlib.Path(folder, "int8"), images)
        network = core.read_model(
            path.read_bytes(), path.with_suffix(".bin").read_bytes()
        )
    compiled = {}

    def run(images):
        # A known shape and a stream a core make OpenVINO 1.2 to 1.4 times as fast.
        shape, cores = images.shape, os.cpu_count()
        streams = cores if len(images) % cores == 0 else 1
        if shape not in compiled:
            network.reshape([len(images) // streams, *shape[1:]])
            compiled[shape] = _requests(core, network, precision, streams)
        parts = np.split(images, streams)
        for request, part in zip(compiled[shape], parts, strict=True):
            request.start_async({0: part})
        for request in compiled[shape]:
            request.wait()
        answers = [request.get_output_tensor().data for request in compiled[shape]]
        return np.concatenate(answers)

    return run


def _requests(core, network, precision, streams):
    options = {
        "INFERENCE_PRECISION_HINT": {"float32": "f32", "bfloat16": "bf16"}[precision],
        "NUM_STREAMS": streams,
        "INFERENCE_NUM_THREADS": os.cpu_count(),
    }
    compiled = core.compile_model(network, "CPU", options)
    return [compiled.create_infer_request() for _ in range(streams)]


def _runtime(suffix, build, precision, images):
    if precision != "float32":
        return None  # on a processor these have no bfloat16
    from kfeedback.serving import files  # it imports TensorFlow

    load = {".onnx": files.load_onnx, ".tflite": files.load_litert}[suffix]
    with tempfile.TemporaryDirectory() as folder:
        run = load(_exported(build, pathlib.Path(folder, f"model{suffix}")))
    return lambda images: run(images)[0]


def _exported(build, path):
    return kfeedback.serving.export_file(build("float32"), path)


ENGINES = {
    "keras": _keras,
    "xla": functools.partial(_keras, jit_compile=True),
    "openvino": _openvino,
    "openvino_int8": functools.partial(_openvino, int8=True),
    "onnx": functools.partial(_runtime, ".onnx"),
    "litert": functools.partial(_runtime, ".tflite"),
}
"""Functions of `(build, precision, images)` that give a function of a batch of images,
or `None` where an engine lacks the precision. `build(precision)` makes the network, and
int8 takes its ranges from the images."""
