"""One HDF5 file of tensors keyed by the stable paths of a model's variables.

Keras' own `.weights.h5` is keyed by class and order, so two kernels of one shape in
another order load silently into each other; and a load that fails half-way leaves a
mixed model. Here names and shapes must match on both sides before anything is read,
and either all variables are assigned or none.

HDF5's checksums cover the values, not the fields that say where and how to read them:
a flipped bit there can load other values or hang the reader. So the file's first block,
which HDF5 leaves to its users, holds the SHA-256 of all the rest, and nothing is parsed
before that is right.

A model of one timestep has no use for feedback connections. So the tensors of those,
and only those, may be left out on request, all of them together.
"""

import hashlib
import os
import pathlib

import h5py
import keras
import numpy as np

FORMAT = "kfeedback.weights"
VERSION = 1
_BLOCK = 512  # bytes, the least that HDF5 leaves to its users


def check(weights):
    """Raises a ValueError unless `weights` is `None` or the path of a file."""
    if weights is None:
        return
    is_path = isinstance(weights, str | os.PathLike)
    if not is_path or not pathlib.Path(weights).is_file():
        raise ValueError(
            "weights must be None or the path of a file written by "
            f"kfeedback.weights.save, got {weights!r}, which is no such file."
        )


def save(model, path):
    """Writes the weights of a model, under a temporary name that is then renamed.

    Args:
        model: a `keras.Model` whose variables have different paths.
        path: where to; a file of that name is replaced.

    Raises:
        ValueError: if two variables share a path, one is not finite, or the folder
            does not exist.
    """
    path = pathlib.Path(path)
    if path.is_dir() or not path.parent.is_dir():
        raise ValueError(
            f"path must be a file in a folder that exists, got {str(path)!r}."
        )
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    feedback = _feedback_variables(model)
    try:
        with h5py.File(temporary, "w", userblock_size=_BLOCK) as file:
            for name, variable in _variables(model).items():
                value = np.asarray(variable.numpy())
                if value.dtype.kind == "V":  # bfloat16, of which HDF5 knows nothing
                    value = value.astype("float32")
                if not np.isfinite(value).all():
                    raise ValueError(f"model must have finite weights, got {name}.")
                dataset = file.create_dataset(name, data=value)
                dataset.attrs["feedback"] = id(variable) in feedback
        with open(temporary, "r+b") as file:
            seal = _seal(file)
            file.seek(0)
            file.write(seal)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def load(model, path, *, without_feedback=False):
    """Assigns every weight of a model from a file, or none.

    Args:
        model: a `keras.Model`.
        path: a file that `save` wrote.
        without_feedback: bool; `True` leaves out the feedback connections of the file,
            for a model of one timestep, which has none.

    Raises:
        ValueError: if the file is none of ours, is damaged, or its names and shapes
            are not those of the model, both sides listed.
    """
    check(path)
    variables = _variables(model)
    try:
        _check_seal(path)
        with h5py.File(path, "r") as file:
            stored = _datasets(file)
            _compare(model, variables, stored, path, without_feedback)
            values = {name: stored[name][...] for name in variables}
    except (OSError, RuntimeError, KeyError, TypeError) as error:
        reason = str(error).rstrip(".")
        raise ValueError(f"weights must be readable, got {path}: {reason}.") from error
    for name, value in values.items():
        if not np.isfinite(value).all():
            raise ValueError(f"weights must be finite, got {name} in {path}.")
    for name, variable in variables.items():
        variable.assign(values[name])
    for layer in model.layers:
        if isinstance(layer, keras.layers.Normalization):
            layer.finalize_state()  # it keeps what follows from its weights


def holds_feedback(path):
    """Whether a file of `save` has tensors of feedback connections.

    Raises:
        ValueError: if the file is none of ours or is damaged.
    """
    check(path)
    _check_seal(path)
    with h5py.File(path, "r") as file:
        stored = _datasets(file).values()
        return any(dataset.attrs.get("feedback", False) for dataset in stored)


def _seal(file):
    """What the first block of the opened file should hold."""
    file.seek(_BLOCK)
    digest = hashlib.file_digest(file, "sha256").hexdigest()
    return f"{FORMAT} {VERSION} sha256 {digest}\n".encode().ljust(_BLOCK, b"\0")


def _check_seal(path):
    with open(path, "rb") as file:
        block = file.read(_BLOCK)
        words = block.split(b"\n")[0].decode("ascii", "replace").split(" ")
        if words[0] != FORMAT or len(words) < 2:
            raise ValueError(f"weights must be a {FORMAT} file, got {path}.")
        if words[1] != str(VERSION):
            raise ValueError(
                f"weights must be of format version {VERSION}, got {words[1]!r} in "
                f"{path}."
            )
        if block != _seal(file):
            raise ValueError(
                f"weights must be undamaged, got {path}, which has another SHA-256 "
                "than when it was written."
            )


def _variables(model):
    """Dict from a stable key to each variable.

    The key is the name of the model's layer and the variable's path from there on: the
    path itself begins with the model in which the layer was first built, which a
    network that is taken apart or reloaded no longer has.
    """
    variables = {}
    in_layers = list(_keyed(model))
    known = {id(variable) for _, variable in in_layers}
    own = [(v.path, v) for v in model.weights if id(v) not in known]
    for key, variable in in_layers + own:
        if variables.setdefault(key, variable) is not variable:
            raise ValueError(
                f"model must have different variable paths, got {key} twice."
            )
    return variables


def _keyed(model):
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            for key, variable in _keyed(layer):
                yield f"{layer.name}/{key}", variable
            continue
        for variable in layer.weights:
            yield (
                f"{layer.name}/{variable.path.removeprefix(f'{layer.path}/')}",
                variable,
            )


def _feedback_variables(model):
    """The ids of the variables of feedback connections, at any depth."""
    return {
        id(variable)
        for layer in model._flatten_layers()
        if getattr(layer, "is_feedback_connection", False)
        for variable in layer.weights
    }


def _datasets(file):
    """Hard-linked numeric data sets only; nothing that leads out of the file."""
    found = {}

    def walk(group, prefix):
        for key in group:
            name = prefix + key
            if not isinstance(group.get(key, getlink=True), h5py.HardLink):
                raise ValueError(f"weights must hold no links, got {name}.")
            item = group[key]
            if isinstance(item, h5py.Group):
                walk(item, name + "/")
                continue
            # Chunks could carry filters, which are plugins that run code.
            if item.is_virtual or item.external or item.chunks:
                raise ValueError(f"weights must hold plain tensors, got {name}.")
            found[name] = item

    walk(file, "")
    return found


def _compare(model, variables, stored, path, without_feedback):
    missing = sorted(variables.keys() - stored.keys())
    extra = sorted(stored.keys() - variables.keys())
    feedback = {name for name in stored if stored[name].attrs.get("feedback", False)}
    if without_feedback and set(extra) == feedback:
        extra = []
    if missing or extra:
        hint = ""
        if extra and set(extra) == feedback:
            hint = " (the feedback, which without_feedback=True leaves out)"
        raise ValueError(
            f"weights in {path} do not fit model '{model.name}': missing from the file "
            f"are {missing or 'none'}, unknown to the model are {extra or 'none'}"
            f"{hint}."
        )
    for name, variable in variables.items():
        kind = "f" if "float" in variable.dtype else np.dtype(variable.dtype).kind
        if stored[name].dtype.kind != kind:
            raise ValueError(
                f"weights in {path} do not fit model '{model.name}': {name} is "
                f"{stored[name].dtype} in the file and {variable.dtype} in the model."
            )
        if stored[name].shape != tuple(variable.shape):
            raise ValueError(
                f"weights in {path} do not fit model '{model.name}': {name} has shape "
                f"{stored[name].shape} in the file and {tuple(variable.shape)} in the "
                "model."
            )
