"""What computes a network here: TensorFlow, or the runtime of an exported file."""

import functools
import pathlib
import tempfile

import keras

import kfeedback
from kfeedback.serving import _files
from tools import timing


def _keras(build, precision, images, *, jit_compile=False):
    forward = timing.compiled_forward(build(precision), jit_compile)
    tensor = keras.ops.convert_to_tensor(images)
    return lambda images: forward(tensor)


def _openvino(build, precision, images, *, int8=False):
    import openvino

    hint = {"float32": "f32", "bfloat16": "bf16"}[precision]
    options = {"INFERENCE_PRECISION_HINT": hint, "PERFORMANCE_HINT": "LATENCY"}
    with tempfile.TemporaryDirectory() as folder:
        path = _exported(build, pathlib.Path(folder, "model.xml"))
        if int8:
            path = _files.quantize(path, pathlib.Path(folder, "int8"), images)
        return openvino.Core().compile_model(str(path), "CPU", options)


def _runtime(suffix, load, build, precision, images):
    if precision != "float32":
        return None  # on a processor these have no bfloat16
    with tempfile.TemporaryDirectory() as folder:
        return load(_exported(build, pathlib.Path(folder, f"model{suffix}")))


def _exported(build, path):
    return kfeedback.serving.export_file(build("float32"), path)


ENGINES = {
    "keras": _keras,
    "xla": functools.partial(_keras, jit_compile=True),
    "openvino": _openvino,
    "openvino_int8": functools.partial(_openvino, int8=True),
    "onnx": functools.partial(_runtime, ".onnx", _files.load_onnx),
    "litert": functools.partial(_runtime, ".tflite", _files.load_litert),
}
"""Functions of `(build, precision, images)`; `build(precision)` makes the network. They
give a function of images, or `None` where an engine lacks the precision."""
