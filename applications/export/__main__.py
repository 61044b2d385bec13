r"""Exports a trained model for TF Serving, or as a LiteRT, ONNX or OpenVINO file.

    python -m applications.export --run=runs/lr_lenet --output_dir=served/lr_lenet
    python -m applications.export --keras_model=mine.keras --preprocessing=torch \
        --class_names=cat,dog --output_dir=served/mine
    python -m applications.export --weights=lenet_mnist_bg_sample \
        --output_dir=served/lenet
    python -m applications.export --run=runs/lr_lenet --format=openvino \
        --output_dir=served/lr_lenet

What a --run was trained with decides preprocessing, crop and class names, also if it
was trained under another backend: its .keras file is loaded under TensorFlow, whatever
KERAS_BACKEND says. See `kfeedback.serving.export` for what a version holds, and
`python -m applications.client` for a way to ask it.
"""

import os

if __name__ == "__main__":
    os.environ["KERAS_BACKEND"] = "tensorflow"  # before Keras is imported

import contextlib
import pathlib

import numpy as np

import kfeedback
from applications.common.command_line import launch
from applications.export.settings import Settings
from applications.export.sources import load

_SUFFIXES = {"litert": ".tflite", "onnx": ".onnx", "openvino": ".xml"}


def main(settings):
    """Loads, exports, prints where it is."""
    output = pathlib.Path(settings.output_dir)
    images = _images(settings.calibration) if settings.calibration else None
    model, known = load(settings)
    if settings.format != "saved_model":
        path = output / f"{output.resolve().name}{_SUFFIXES[settings.format]}"
        with _folder(output):
            kfeedback.serving.export_file(
                model,
                path,
                calibration=images,
                exit_threshold=settings.exit_threshold,
                from_logits=settings.from_logits,
            )
        print(f"wrote {path}")
        return
    if settings.exit_threshold is not None:
        known["exit_threshold"] = settings.exit_threshold
    if settings.crop_fraction is not None:
        known["crop_fraction"] = settings.crop_fraction
    path = kfeedback.serving.export(
        model,
        output,
        settings.version,
        **known,
        signatures=list(settings.signatures) or None,
        top=settings.top,
        from_logits=settings.from_logits,
        jit_compile=settings.jit_compile,
        warmup_batches=list(settings.warmup_batches),
        keep=settings.keep,
    )
    print((path / "assets.extra" / "README.md").read_text(encoding="utf-8"))
    print(f"wrote {path}")


@contextlib.contextmanager
def _folder(path):
    """A folder for what is written inside; what is new of it and empty goes again."""
    new = [one for one in (path, *path.parents) if not one.exists()]
    path.mkdir(parents=True, exist_ok=True)
    try:
        yield
    finally:
        for one in new:
            if not any(one.iterdir()):
                one.rmdir()


def _images(path):
    try:
        with open(path, "rb") as file:
            return np.lib.format.read_array(file, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise ValueError(
            f"--calibration must be a .npy file, got {path!r}: {error}"
        ) from error


if __name__ == "__main__":
    launch(main, Settings)
