"""The model to export, and what is known of it, from each of its sources."""

import pathlib

from applications.common import data, published, runs
from applications.common.models import load_model
from kfeedback import weights


def load(settings):
    """The model that the settings name.

    Returns:
        `(model, known)`: a `keras.Model`, and a dict of arguments of
        `kfeedback.serving.export`.
    """
    return _LOADERS[settings.source](settings)


def _load_run(settings):
    folder = pathlib.Path(settings.run)
    run = runs.read("run", folder)
    mode = run["flags"].get("preprocessing", "scale")
    if mode in data.FITTED:
        mode = data.get_preprocess(mode, folder)
    model = load_model("run", folder / "model.keras")
    known = {"preprocessing": mode, "class_names": run["class_names"] or None}
    # Of files alone; images that are decoded are of the model's size already.
    has_files = model.input_shape[-1] in (1, 3)
    if has_files and "image_bytes" in (settings.signatures or ["image_bytes"]):
        known["crop_fraction"] = run["flags"].get("center_crop")
    return model, {**known, "card": weights.card(folder / "weights.h5")}


def _load_keras_model(settings):
    known = {"class_names": list(settings.class_names) or None}
    if settings.preprocessing:
        known["preprocessing"] = settings.preprocessing
    return load_model("keras_model", settings.keras_model), known


def _load_weights(settings):
    found = published.find("weights", settings.weights)
    known = {name: found.about.get(name) for name in ("preprocessing", "class_names")}
    model = found.load(all_looks=settings.serves_looks)
    return model, {**known, "card": weights.card(settings.weights)}


_LOADERS = {
    "run": _load_run,
    "keras_model": _load_keras_model,
    "weights": _load_weights,
}
