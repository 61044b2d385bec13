"""A model as a file for another runtime: LiteRT, ONNX or OpenVINO."""

import contextlib
import functools
import os
import pathlib
import tempfile

import keras
import numpy as np
import tensorflow as tf

from kfeedback import checks, graph
from kfeedback.classifier import posterior_kind
from kfeedback.early_exit import early_exit
from kfeedback.serving import _endpoints, requests
from kfeedback.serving._export import (
    image_shape,
    is_name_of_tensorflow,
    named_for_tensorflow,
)

_BATCHES = (1, 3)
_TOLERANCE = 1e-4
_LEAST_SAME = 90  # % of the classes that int8 must keep


def export_file(
    model, path, *, calibration=None, exit_threshold=None, from_logits=False
):
    """Writes a model as a file of LiteRT, ONNX or OpenVINO, and checks it.

    The file takes prepared images `(B, H, W, C)`, any B ≥ 1, and gives what the model
    gives. Keras' own export writes it; it gets its name when its own runtime has
    answered as the model does, in float32.

    With `calibration`, an OpenVINO file computes in int8: `nncf` takes the ranges of
    all activations from these images (post-training quantization). The file must give
    the class of the model for 90 % of them; measure its error on images of your own. It
    is useless for images of another scale, which no check here can see.

    With `exit_threshold`, an OpenVINO file stops early, as `kfeedback.early_exit` does:
    its outputs are `predictions`, `(B, classes)`, and `timesteps`, `(B,)`.

    Args:
        model: functional `keras.Model` of one input and one output, in float32.
        path: of the file, which ends in `.tflite` (needs `kfeedback[litert]`), `.onnx`
            (needs `kfeedback[onnx]`) or `.xml` (needs `kfeedback[openvino]`; a `.bin`
            of the same name holds the weights). One that is there is replaced.
        calibration: `None`, or float array `(N, H, W, C)`, some hundred images that are
            prepared as the model takes them, for int8; `.xml` only (needs
            `kfeedback[int8]`).
        exit_threshold: `None`, or number in (0, 1], the posterior at which an image is
            done, for a model that gives the posteriors of all its timesteps; `.xml`
            only, without `calibration`.
        from_logits: bool; `True` with `exit_threshold` for a model that gives logits,
            as in `kfeedback.early_exit`.

    Returns:
        `pathlib.Path` of the file.

    Raises:
        TypeError: if `model` is no Keras model, `path` no path, or `from_logits` no
            bool.
        ValueError: if an argument is not as above, the model cannot be converted, or
            the file answers otherwise than the model, or in int8 for more than one
            image of ten.
        ImportError: if a package is missing.

    Example:

        kfeedback.serving.export_file(model, "model.xml")
        options = {"INFERENCE_PRECISION_HINT": "bf16"}  # faster on AVX512-BF16 and AMX
        run = openvino.Core().compile_model("model.xml", "CPU", options)
        (predictions,) = run(images).values()
    """
    path = checks.path("path", path)
    if path.suffix not in _FORMATS:
        raise ValueError(
            f"path must end in one of {', '.join(_FORMATS)}, got '{path}'."
        )
    if path.is_dir() or not path.parent.is_dir():
        raise ValueError(f"path must be a file in a folder that exists, got '{path}'.")
    shape = image_shape(graph.require_graph(model))
    if calibration is not None:
        calibration = _check_calibration(calibration, path, shape)
        try:
            _answers(model, calibration[:1])
        except Exception as error:  # layers raise whatever they like
            raise ValueError(
                f"calibration must be images that '{model.name}' can take, got ones of "
                f"shape {calibration.shape[1:]}: {checks.reason(error)}."
            ) from error
    name, load = _FORMATS[path.suffix]
    spec = tf.TensorSpec([None, *shape], tf.float32)
    asked = [requests.example(spec, shape, False, n).numpy() for n in _BATCHES]
    if checks.boolean("from_logits", from_logits) and exit_threshold is None:
        raise ValueError("from_logits must be False without exit_threshold, got True.")
    if exit_threshold is None:
        answer = functools.partial(_answers, model)
        write = functools.partial(_export, model, name)
    else:
        _check_exit_threshold(exit_threshold, path, calibration)
        predictor = early_exit(model, exit_threshold, from_logits=from_logits)
        answer = predictor.predict
        write = functools.partial(_export_exit, predictor, spec, from_logits)
    # Before the export: Keras wants a model that was called.
    answers = [answer(images) for images in asked]
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".draft-") as folder:
        draft = pathlib.Path(folder, path.name)
        with _converting(model, f"can be exported as {name}", f"path '{path}'", name):
            write(draft)
            run = load(draft)
        for images, wanted in zip(asked, answers, strict=True):
            _check_answers(model, name, run(images), wanted)
        if calibration is not None:
            can = "nncf can quantize by the images of calibration"
            with _converting(model, can, "calibration", "int8"):
                draft = quantize(draft, pathlib.Path(folder, "int8"), calibration)
            _check_classes(model, load(draft), calibration)
        # The file that is asked for is the last: it refers to the others.
        for file in sorted(draft.parent.iterdir(), key=draft.__eq__):
            os.replace(file, path.with_name(file.name))
    return path


@contextlib.contextmanager
def _converting(model, can, argument, extra):
    """Says in terms of the arguments that a package is missing or has failed."""
    try:
        yield
    except ImportError as error:
        raise ImportError(
            f"{argument} needs pip install kfeedback[{extra}]: {error}"
        ) from error
    except Exception as error:  # converters raise whatever they like
        raise ValueError(
            f"model must be one that {can}, got '{model.name}': "
            f"{type(error).__name__}: {error}"
        ) from error


def _answers(model, images):
    """The one output of a model, which may stand in a list or dict, as a list."""
    (answer,) = keras.tree.flatten(model(images, training=False))
    return [np.asarray(answer)]


def _check_answers(model, name, found, wanted):
    for x, y in zip(found, wanted, strict=True):
        difference = float(np.abs(x - y).max())
        if not difference <= _TOLERANCE * max(1.0, float(np.abs(y).max())):
            raise ValueError(
                f"model must give as {name} what it gives in Keras, got "
                f"'{model.name}', whose outputs differ by {difference:.1e}."
            )


def _check_exit_threshold(threshold, path, calibration):
    checks.number("exit_threshold", threshold, above=0, most=1)
    if path.suffix != ".xml":
        raise ValueError(
            f"exit_threshold must be None for a file that is no .xml, got '{path}'."
        )
    if calibration is not None:
        raise ValueError(
            "calibration must be None where exit_threshold is given, got images."
        )


def _export(model, name, path):
    image, more = model.inputs[0], {}
    if not is_name_of_tensorflow(image.name):
        spec = keras.InputSpec(image.dtype, image.shape, name="images")
        more["input_signature"] = [spec]
    with named_for_tensorflow(model):
        model.export(str(path), format=name, verbose=False, **more)
    if name == "openvino":
        _drop_loose_ends(path)


def _export_exit(predictor, spec, from_logits, path):
    """Writes an OpenVINO file that stops early."""
    import openvino

    def predict(images):
        return _endpoints.run_parts(
            predictor.parts, images, predictor.threshold, from_logits
        )

    network = openvino.convert_model(tf.function(predict).get_concrete_function(spec))
    names = "predictions", "timesteps"
    for output, known_as in zip(network.outputs, names, strict=True):
        output.get_tensor().set_names({known_as})
    openvino.save_model(network, str(path), compress_to_fp16=False)


def _drop_loose_ends(path):
    """Removes all outputs but the first: Keras' export makes some of maps' sizes."""
    import openvino

    core = openvino.Core()
    # Read from memory, so that the files can be written over.
    weights = path.with_suffix(".bin").read_bytes()
    network = core.read_model(path.read_bytes(), weights)
    for result in network.get_results()[1:]:
        network.remove_result(result)
    openvino.save_model(network, str(path), compress_to_fp16=False)


def quantize(path, folder, images):
    """Writes an OpenVINO file that computes in int8, by the ranges of images.

    Returns:
        the path of the new file, in the folder, which is made.
    """
    import nncf
    import openvino
    import rich

    data = nncf.Dataset([image[None] for image in images])
    network = openvino.Core().read_model(str(path))
    console = rich.get_console()  # where nncf shows its progress
    quiet, console.quiet = console.quiet, True
    try:
        network = nncf.quantize(network, data, subset_size=len(images))
    finally:
        console.quiet = quiet
    folder.mkdir()
    openvino.save_model(network, str(folder / path.name), compress_to_fp16=False)
    return folder / path.name


def _check_calibration(images, path, shape):
    if path.suffix != ".xml":
        raise ValueError(
            f"calibration must be None for a file that is no .xml, got '{path}'."
        )
    found = getattr(images, "shape", None)
    fits = found is not None and checks.fits(found, (None, *shape))
    if not fits or 0 in found:
        got = type(images).__name__ if found is None else f"one of shape {found}"
        wanted = ", ".join(map(str, ("N", *shape)))
        raise ValueError(f"calibration must be an array ({wanted}), got {got}.")
    images = np.asarray(images)
    if images.dtype.kind != "f":  # pixels from 0 to 255, most of the time
        raise ValueError(
            "calibration must be floats, images that are prepared as the model takes "
            f"them, got {images.dtype}."
        )
    return checks.finite("calibration", images.astype("float32"))


def _check_classes(model, run, images):
    same, bound = [], None
    if model.outputs[0].shape[-1] == 1:  # of one class: a posterior, or a logit
        bound = 0.5 if posterior_kind(model) else 0.0
    for image in images:
        (wanted,), (found,) = _answers(model, image[None]), run(image[None])
        same.append(np.mean(_classes(found, bound) == _classes(wanted, bound)))
    kept = int(100 * np.mean(same))  # rounded down: 89.9 % is not enough
    if kept < _LEAST_SAME:
        raise ValueError(
            f"model must keep its classes in int8 for {_LEAST_SAME} % of the images of "
            f"calibration, got '{model.name}', which keeps {kept} %."
        )


def _classes(answers, bound):
    return answers.argmax(-1) if bound is None else answers > bound


def load_litert(path):
    """A LiteRT file in its own runtime, as a function of images; it gives a list."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(path), num_threads=os.cpu_count())
    (image,), (output,) = (
        interpreter.get_input_details(),
        interpreter.get_output_details(),
    )

    shape = None

    def run(images):
        nonlocal shape
        if images.shape != shape:
            interpreter.resize_tensor_input(image["index"], images.shape)
            interpreter.allocate_tensors()
            shape = images.shape
        interpreter.set_tensor(image["index"], images)
        interpreter.invoke()
        return [interpreter.get_tensor(output["index"])]

    return run


def load_onnx(path):
    """An ONNX file in its own runtime, as a function of images; it gives a list."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path))
    (image,), (_,) = session.get_inputs(), session.get_outputs()
    return lambda images: session.run(None, {image.name: images})


def load_openvino(path):
    """An OpenVINO file in float32, as a function of images; it gives a list."""
    import openvino

    options = {"INFERENCE_PRECISION_HINT": "f32"}
    compiled = openvino.Core().compile_model(str(path), "CPU", options)
    return lambda images: list(compiled(images).values())


_FORMATS = {
    ".tflite": ("litert", load_litert),
    ".onnx": ("onnx", load_onnx),
    ".xml": ("openvino", load_openvino),
}
