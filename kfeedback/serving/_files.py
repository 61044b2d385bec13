"""A model as one file for another runtime: LiteRT or ONNX."""

import os
import pathlib
import tempfile

import numpy as np
import tensorflow as tf

from kfeedback import graph
from kfeedback.serving import requests
from kfeedback.serving._export import image_shape

_BATCHES = (1, 3)
_TOLERANCE = 1e-4


def export_file(model, path):
    """Writes a model as a LiteRT or ONNX file, by Keras' own export, and checks it.

    The file takes prepared images `(B, H, W, C)`, any B, and gives what the model
    gives. It gets its name when its own runtime has answered as the model does.

    Args:
        model: functional `keras.Model` of one input and one output, in float32.
        path: of the file, which ends in `.tflite` (needs `kfeedback[litert]`) or
            `.onnx` (needs `kfeedback[onnx]`); one that is there is replaced.

    Returns:
        `pathlib.Path` of the file.

    Raises:
        TypeError: if `model` is no Keras model.
        ValueError: if an argument is not as above, Keras cannot convert the model, or
            the file answers otherwise than the model.
        ImportError: if a package is missing.
    """
    path = pathlib.Path(path).expanduser()
    if path.suffix not in _FORMATS:
        raise ValueError(f"path must end in {' or '.join(_FORMATS)}, got '{path}'.")
    shape = image_shape(graph.require_graph(model))
    name, load = _FORMATS[path.suffix]
    spec = tf.TensorSpec([None, *shape], tf.float32)
    asked = [requests.example(spec, shape, False, n).numpy() for n in _BATCHES]
    # Before the export: Keras wants a model that was called.
    answers = [np.asarray(model(images, training=False)) for images in asked]
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".draft-") as folder:
        draft = pathlib.Path(folder, path.name)
        try:
            model.export(str(draft), format=name, verbose=False)
            run = load(draft)
        except ImportError as error:
            raise ImportError(
                f"path '{path}' needs pip install kfeedback[{name}]: {error}"
            ) from error
        except Exception as error:  # converters raise whatever they like
            raise ValueError(
                f"model must be one that Keras can export as {name}, got "
                f"'{model.name}': {type(error).__name__}: {error}"
            ) from error
        for images, wanted in zip(asked, answers, strict=True):
            difference = float(np.abs(run(images) - wanted).max())
            if not difference <= _TOLERANCE * max(1.0, float(np.abs(wanted).max())):
                raise ValueError(
                    f"model must give as {name} what it gives in Keras, got "
                    f"'{model.name}', whose outputs differ by {difference:.1e}."
                )
        os.replace(draft, path)
    return path


def load_litert(path):
    """The function of images that a LiteRT file is, in its own runtime."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(path))
    (image,), (output,) = (
        interpreter.get_input_details(),
        interpreter.get_output_details(),
    )

    def run(images):
        interpreter.resize_tensor_input(image["index"], images.shape)
        interpreter.allocate_tensors()
        interpreter.set_tensor(image["index"], images)
        interpreter.invoke()
        return interpreter.get_tensor(output["index"])

    return run


def load_onnx(path):
    """The function of images that an ONNX file is, in its own runtime."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path))
    (image,) = session.get_inputs()
    return lambda images: session.run(None, {image.name: images})[0]


_FORMATS = {".tflite": ("litert", load_litert), ".onnx": ("onnx", load_onnx)}
