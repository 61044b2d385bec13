"""Exports a trained model for TF Serving, or as a LiteRT or ONNX file.

    python -m applications.export --run=runs/lr_lenet --output_dir=served/lr_lenet
    python -m applications.export --keras_model=mine.keras --preprocessing=torch \
        --class_names=cat,dog --output_dir=served/mine
    python -m applications.export --weights=lenet_mnist_bg_sample \
        --output_dir=served/lenet
    python -m applications.export --run=runs/lr_lenet --format=onnx \
        --output_dir=served/lr_lenet

What a --run was trained with decides preprocessing and class names, also if it was
trained under another backend: its .keras file is loaded under TensorFlow, whatever
KERAS_BACKEND says. See `kfeedback.serving.export` for what a version holds, and
`python -m applications.client` for a way to ask it.
"""

import os

if __name__ == "__main__":
    os.environ["KERAS_BACKEND"] = "tensorflow"  # before Keras is imported

import json
import pathlib

from absl import flags

import kfeedback
from applications import _app, _data
from kfeedback import weights as weights_lib
from kfeedback.models import registry as models
from kfeedback.weights import registry

flags.DEFINE_string("run", None, "Folder that applications.train wrote; or")
flags.DEFINE_string("keras_model", None, "a .keras file; or")
flags.DEFINE_string(
    "weights", None, "a tag of kfeedback.list_weights, or a file of its kind."
)
flags.DEFINE_string(
    "output_dir", None, "Folder of all versions of this model (required)."
)
flags.DEFINE_enum(
    "format", "saved_model", ["saved_model", "litert", "onnx"], "What to write."
)
flags.DEFINE_integer(
    "version", None, "By default one more than the highest.", lower_bound=1
)
flags.DEFINE_integer(
    "keep", None, "Keep so many of the highest versions only.", lower_bound=1
)
flags.DEFINE_list("class_names", [], "A name per class, for --keras_model.")
flags.DEFINE_list(
    "signatures", [], "Besides serving_default; by default all that are possible."
)
flags.DEFINE_integer("top", 5, "How many of the best classes to name.", lower_bound=1)
flags.DEFINE_bool("from_logits", False, "The model gives logits of a softmax.")
_app.define_number(
    "crop_fraction",
    None,
    "Share of an image file's largest central box to take; by default the whole image "
    "is resized, as in training here.",
    above=0,
    most=1,
)
_app.define_number(
    "exit_threshold", 0.9, "Probability at which early_exit stops.", above=0, most=1
)
flags.DEFINE_bool("jit_compile", False, "Compile the model with XLA.")
flags.DEFINE_list(
    "warmup_batches",
    ["1", "8"],
    "Batch sizes of the requests for warming up; empty for none.",
)
FLAGS = flags.FLAGS

_SOURCES = ("run", "keras_model", "weights")
_OF_A_SAVED_MODEL = ("version", "keep", "signatures", "top", "from_logits")
_OF_A_SAVED_MODEL += ("crop_fraction", "exit_threshold", "jit_compile")
_OF_A_SAVED_MODEL += ("warmup_batches", "class_names", "preprocessing")
_SUFFIXES = {"litert": ".tflite", "onnx": ".onnx"}


def main():
    """Loads, exports, prints where it is."""
    output = pathlib.Path(_app.required("output_dir"))
    given = [name for name in _SOURCES if FLAGS[name].value]
    if len(given) != 1:
        raise ValueError(
            f"--{' or --'.join(_SOURCES)} must be given, one of them, got "
            f"{' and '.join(f'--{name}' for name in given) or 'none'}."
        )
    if FLAGS.format != "saved_model":
        _app.refuse(_OF_A_SAVED_MODEL, f"--format={FLAGS.format}")
    model, known = _LOADERS[given[0]]()
    if FLAGS.format != "saved_model":
        path = output / f"{output.resolve().name}{_SUFFIXES[FLAGS.format]}"
        output.mkdir(parents=True, exist_ok=True)
        print(f"wrote {kfeedback.serving.export_file(model, path)}")
        return
    path = kfeedback.serving.export(
        model,
        output,
        FLAGS.version,
        **known,
        signatures=FLAGS.signatures or None,
        top=FLAGS.top,
        from_logits=FLAGS.from_logits,
        crop_fraction=FLAGS.crop_fraction,
        exit_threshold=FLAGS.exit_threshold,
        jit_compile=FLAGS.jit_compile,
        warmup_batches=_warmup_batches(),
        keep=FLAGS.keep,
    )
    print((path / "assets.extra" / "README.md").read_text())
    print(f"wrote {path}")


def load_run():
    """The model of --run, and what is known of it."""
    run = pathlib.Path(FLAGS.run)
    _app.refuse(("preprocessing", "class_names"), "--run")
    _app.take_flags(_app.stored_flags(run))
    names = json.loads((run / "run.json").read_text()).get("class_names")
    mode = FLAGS.preprocessing
    if mode in ("standardize", "gcn_zca"):
        mode = _data.get_preprocess(run, fit=False)
    known = {"preprocessing": mode, "class_names": names or None}
    model = _app.load_model("run", run / "model.keras")
    return model, {**known, "card": weights_lib.card(run / "weights.h5")}


def load_keras_model():
    """The model of --keras_model, and what other flags say of it."""
    known = {"class_names": FLAGS.class_names or None}
    if FLAGS["preprocessing"].present:
        if FLAGS.preprocessing in ("standardize", "gcn_zca"):
            raise ValueError(
                "--preprocessing must be a mode that needs no training data with "
                f"--keras_model, got {FLAGS.preprocessing}."
            )
        known["preprocessing"] = FLAGS.preprocessing
    return _app.load_model("keras_model", FLAGS.keras_model), known


def load_weights():
    """The model of --weights, built and filled, and what its file says of it."""
    _app.refuse(("preprocessing", "class_names"), "--weights")
    path = registry.locate(FLAGS.weights)
    about = weights_lib.describe(path)["about"]
    try:
        model = models.build(about)
    except ValueError as error:
        raise ValueError(
            "--weights must be of a network that a factory of kfeedback makes by "
            f"itself, got {FLAGS.weights!r}: {error}"
        ) from error
    weights_lib.load(model, path)
    known = {
        "preprocessing": about.get("preprocessing"),
        "class_names": about.get("class_names"),
    }
    return model, {**known, "card": weights_lib.card(FLAGS.weights)}


_LOADERS = {
    "run": load_run,
    "keras_model": load_keras_model,
    "weights": load_weights,
}


def _warmup_batches():
    try:
        return [int(text) for text in FLAGS.warmup_batches]
    except ValueError:
        raise ValueError(
            "--warmup_batches must be whole numbers, separated by commas, got "
            f"{','.join(FLAGS.warmup_batches)!r}."
        ) from None


if __name__ == "__main__":
    _app.launch(main)
