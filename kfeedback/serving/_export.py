"""A model as a version of a SavedModel for TF Serving."""

import contextlib
import os
import pathlib
import re

import keras
import tensorflow as tf

from kfeedback import checks, graph
from kfeedback.backend import root_scope
from kfeedback.classifier import check_output
from kfeedback.preprocessing import PREPROCESSING_MODES
from kfeedback.serving import _verify, requests, versions
from kfeedback.serving._endpoints import Endpoints

_CONFIG = """\
model_config_list {{
  config {{
    name: "{name}"
    base_path: "/models/{name}"
    model_platform: "tensorflow"
  }}
}}
"""


def export(
    model,
    base_dir,
    version=None,
    *,
    preprocessing=None,
    class_names=None,
    signatures=None,
    top=5,
    from_logits=False,
    crop_fraction=None,
    exit_threshold=0.9,
    jit_compile=False,
    warmup_batches=(1, 8),
    keep=None,
    card=None,
):
    """Writes a model as a version that TF Serving can serve, checked and complete.

        path = kfeedback.serving.export(
            model, "served/lr_lenet", preprocessing="scale", class_names=names
        )

    The SavedModel needs no Keras and no kfeedback. Its signatures, as far as the model
    can have them:

    | signature | input | |
    | --- | --- | --- |
    | `serving_default` | `images`, float32 `(B, H, W, C)` | the prediction |
    | `image_bytes` | `image_bytes`, strings `(B,)` | of JPEG or PNG files of any size |
    | `timesteps` | `images` | the prediction after every look |
    | `early_exit` | `images` | `kfeedback.early_exit`, with `timesteps`, `(B,)` |

    Outputs are `probabilities` `(B, classes)`, and of the best classes `top_classes`,
    int32 `(B, top)`, `top_scores` and, with names, `top_labels`; those of `timesteps`
    have the axis of timesteps behind the batch. A model that has a method
    `serving_endpoints()` brings more: it returns a dict from the name of a signature to
    a function of prepared images that gives a dict of named tensors. What such a model
    gives when called is its probabilities, or a dict with `probabilities` in it, and
    it has an `input_shape`.

    Another rank, size or type, NaN and damaged files are answered with an error, an
    empty batch with empty outputs.

    A version is written under a name that TF Serving ignores, loaded, compared with the
    model and brought to the disk before it gets its name. In its `assets.extra` are the
    model card `README.md` and requests for warming up. Beside the versions lies a
    `model.config` for TF Serving, unless there is one. POSIX systems only.

    Args:
        model: functional `keras.Model` that gives probabilities `(B, classes)` or
            `(B, T, classes)`, or one that brings its endpoints.
        base_dir: the folder of all versions of this model; its name is the model's
            name in TF Serving.
        version: int from 1 to 2⁶³ - 1; by default one more than the highest that is
            there.
        preprocessing: a mode of `kfeedback.preprocessing.preprocess_input`, or a
            function of a batch from 0 to 255: every endpoint then takes images from 0
            to 255. `None`: images as the model takes them, and no `image_bytes`. For a
            `FeedbackCNN` with a `preprocess` of its own `None`, or `"none"`.
        class_names: a name per class.
        signatures: the names of those to write besides `serving_default`; by default
            all that the model can have.
        top: int ≥ 1, how many of the best classes to name; at most all.
        from_logits: bool; `True` for a model that gives logits of a softmax; or, for a
            single class, of a sigmoid. A single class, p, is served as two, 1 − p and
            p.
        crop_fraction: how `image_bytes` gets to the model's size. `None`: the whole
            image, without regard to its aspect, as `kfeedback.datasets.load`; a number
            in (0, 1]: this share of the largest box of the model's aspect, at the
            center, such as 0.875; only where `image_bytes` is written.
        exit_threshold: number in (0, 1], the probability at which `early_exit` stops.
        jit_compile: bool, whether to compile the model with XLA, once for each batch
            size; `early_exit` is not compiled.
        warmup_batches: batch sizes of the requests for warming up, for every endpoint
            one each; `()` for none. Needs `tensorflow-serving-api`.
        keep: `None`, or how many of the highest versions to keep; others are removed.
        card: Markdown that the model card starts with, such as
            `kfeedback.weights.card` gives.

    Returns:
        `pathlib.Path` of the version.

    Raises:
        TypeError: if `model` is no Keras model, `base_dir` no path, or a list is none.
        ValueError: if an argument is not as above, the version is there already, or
            what was written does not do as the model does.

    Example:
        >>> model = kfeedback.load_pretrained("lenet_mnist_bg_sample")
        >>> export(model, "served/lenet", preprocessing="scale")
    """
    shape = image_shape(model)
    _check_posterior(model, checks.boolean("from_logits", from_logits))
    base = _base(base_dir)
    if version is not None:
        versions.check_version(version)
    if keep is not None:
        checks.integer("keep", keep)
    _check_preprocessing(preprocessing, model)
    if crop_fraction is not None:
        crop_fraction = checks.number("crop_fraction", crop_fraction, above=0, most=1)
    checks.number("exit_threshold", exit_threshold, above=0, most=1)
    checks.boolean("jit_compile", jit_compile)
    warmup_batches = requests.check_batches(warmup_batches)
    _check_strings("signatures", signatures)
    _check_strings("class_names", class_names)
    options = {
        "preprocessing": preprocessing,
        "class_names": class_names,
        "top": checks.integer("top", top),
        "from_logits": from_logits,
        "crop_fraction": crop_fraction,
        "exit_threshold": exit_threshold,
    }

    def forward(images):
        with root_scope():
            return model(images, training=False)

    compiled = tf.function(
        forward,
        input_signature=[tf.TensorSpec([None, *shape], tf.float32)],
        jit_compile=jit_compile or None,
        autograph=False,
    )
    classes = _classes(compiled.get_concrete_function().structured_outputs)
    options["top"] = min(top, classes)
    if class_names is not None and len(class_names) != classes:
        raise ValueError(
            f"class_names must be {classes} names, one a class, got {len(class_names)}."
        )
    served = Endpoints(model, shape, compiled, **options).make(signatures)
    has_bytes = any(endpoint.name == "image_bytes" for endpoint in served)
    if crop_fraction is not None and not has_bytes:
        raise ValueError(
            "crop_fraction must be None where no image_bytes is written, got "
            f"{crop_fraction:g}."
        )
    wanted = Endpoints(model, shape, forward, **options).make(signatures)
    with versions.locked(base):
        version = versions.choose(base, version)
        with versions.written(base, version) as folder:
            _write(model, served, folder)
            pixels = preprocessing is not None
            outputs = _verify.verify(folder, wanted, shape, pixels)
            extra = folder / "assets.extra"
            extra.mkdir()
            text = _card(card, base.name, version, served, outputs, pixels)
            (extra / "README.md").write_text(text, encoding="utf-8")
            if warmup_batches:
                path = extra / requests.WARMUP_FILE
                requests.write(path, base.name, served, shape, pixels, warmup_batches)
        if not (base / "model.config").exists():
            versions.write_file(base / "model.config", _CONFIG.format(name=base.name))
        if keep is not None:
            versions.prune(base, keep, version)
    return base / str(version)


def _base(base_dir):
    base = pathlib.Path(os.path.abspath(checks.path("base_dir", base_dir)))
    # TensorFlow finds no files behind a backslash or [, configs have quotes.
    wrong = sorted(set('[\\"\n').intersection(str(base)))
    if wrong or not base.name:
        raise ValueError(
            "base_dir must have a name, and no [, backslash, quote or line break in "
            f"its path, got {str(base_dir)!r}."
        )
    return base


def image_shape(model):
    """`(H, W, C)` of a model that takes images, H and W may be `None`.

    Raises:
        TypeError, ValueError: as `export`, about `model`.
    """
    if not hasattr(model, "serving_endpoints"):
        graph.require_graph(model)
    shape = tuple(getattr(model, "input_shape", None) or ())
    if len(shape) != 4 or shape[3] is None:
        raise ValueError(
            f"model must take images (B, H, W, C), got '{model.name}' with input "
            f"{shape or 'of unknown shape'}."
        )
    return shape[1:]


def _check_posterior(model, from_logits):
    if hasattr(model, "serving_endpoints"):
        if from_logits:
            raise ValueError(
                "from_logits must be False for a model that brings its endpoints, got "
                f"True for '{model.name}'."
            )
        return
    check_output(model, from_logits=from_logits, takes=("softmax", "sigmoid"))


def _check_preprocessing(value, model):
    if not (value is None or callable(value) or value in PREPROCESSING_MODES):
        raise ValueError(
            "preprocessing must be None, a function or one of "
            f"{', '.join(PREPROCESSING_MODES)}, got {value!r}."
        )
    explainer = getattr(model, "explainer", None)  # of a FeedbackCNN
    nothing = (None, "none")
    if value not in nothing and getattr(explainer, "preprocess", None) not in nothing:
        raise ValueError(
            "preprocessing must be None or 'none' for a model that prepares images "
            f"itself, as '{model.name}' does, got {value!r}."
        )


def _classes(outputs):
    if isinstance(outputs, dict):
        if "probabilities" not in outputs:
            raise ValueError(
                "model must give probabilities, got a dict with "
                f"{', '.join(sorted(outputs))}."
            )
        outputs = outputs["probabilities"]
    return max(2, outputs.shape[-1])  # a single one stands for two


def _check_strings(name, value):
    listed = value is None or isinstance(value, (list, tuple))
    if not (listed and all(isinstance(text, str) for text in value or ())):
        raise TypeError(f"{name} must be None or a list of str, got {value!r}.")


def _write(model, endpoints, folder):
    archive = keras.export.ExportArchive()
    archive.track(model)
    for endpoint in endpoints:
        archive.add_endpoint(
            endpoint.name, endpoint.function, input_signature=[endpoint.spec]
        )
    with named_for_tensorflow(model):
        archive.write_out(str(folder), verbose=False)


def is_name_of_tensorflow(name):
    """Whether TensorFlow takes a name at the root, as it does not `_conv`."""
    return re.match(r"[A-Za-z0-9.]", name) is not None


@contextlib.contextmanager
def named_for_tensorflow(model):
    """TensorFlow writes no variable such as `_conv/kernel`, which Keras takes."""
    variables = [variable.value for variable in model.variables]
    names = [variable._handle_name for variable in variables]
    try:
        for variable, name in zip(variables, names, strict=True):
            if not is_name_of_tensorflow(name):
                variable._handle_name = f"network/{name}"
        yield
    finally:
        for variable, name in zip(variables, names, strict=True):
            variable._handle_name = name


def _card(card, name, version, endpoints, outputs, pixels):
    """The model card: what is known, then the endpoints."""
    lines = [card.strip() if card else f"# {name}", "", f"## Version {version}", ""]
    scale = "from 0 to 255" if pixels else "as the model takes them"
    lines += [f"Images are {scale}.", ""]
    lines += ["| signature | input | outputs | |", "| --- | --- | --- | --- |"]
    for endpoint in endpoints:
        named = ", ".join(f"`{output}`" for output in sorted(outputs[endpoint.name]))
        spec = endpoint.spec
        given = f"`{spec.name}` {spec.dtype.name} {_text(spec.shape)}"
        lines.append(f"| `{endpoint.name}` | {given} | {named} | {endpoint.about} |")
    return "\n".join(lines) + "\n"


def _text(shape):
    return "(" + ", ".join("B" if n is None else str(n) for n in shape) + ")"
