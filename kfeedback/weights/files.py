"""One HDF5 file of tensors keyed by the stable paths of a model's variables.

Keras' own `.weights.h5` is keyed by class and order, so two kernels of one shape in
another order load silently into each other; and a load that fails half-way leaves a
mixed model. Here names and shapes must match on both sides before anything is read,
every tensor carries a checksum, and either all variables are assigned or none.

A model of one timestep has no use for feedback connections. So the tensors of those,
and only those, may be in a file and not in the model, all of them together.
"""

import os
import pathlib

import h5py
import numpy as np

FORMAT = "kfeedback.weights"
VERSION = 1


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
        ValueError: if two variables share a path or one is not finite.
    """
    path = pathlib.Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    feedback = _feedback_paths(model)
    try:
        with h5py.File(temporary, "w") as file:
            file.attrs["format"] = FORMAT
            file.attrs["version"] = VERSION
            for name, variable in _variables(model).items():
                value = np.asarray(variable.numpy(), dtype=variable.dtype)
                if not np.isfinite(value).all():
                    raise ValueError(f"model must have finite weights, got {name}.")
                # HDF5 filters need chunks, and chunks need at least one axis.
                dataset = file.create_dataset(
                    name, data=value.reshape(value.shape or (1,)), fletcher32=True
                )
                dataset.attrs["shape"] = np.asarray(value.shape, dtype="int64")
                dataset.attrs["feedback"] = name in feedback
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def load(model, path):
    """Assigns every weight of a model from a file, or none.

    Args:
        model: a `keras.Model`.
        path: a file that `save` wrote.

    Raises:
        ValueError: if the file is none of ours, is damaged, or its names and shapes
            are not those of the model, both sides listed.
    """
    check(path)
    variables = _variables(model)
    try:
        with h5py.File(path, "r") as file:
            if file.attrs.get("format") != FORMAT:
                raise ValueError(f"weights must be a {FORMAT} file, got {path}.")
            if file.attrs.get("version") != VERSION:
                raise ValueError(
                    f"weights must be of format version {VERSION}, got "
                    f"{file.attrs.get('version')} in {path}."
                )
            stored = _datasets(file)
            _compare(model, variables, stored, path)
            values = {
                name: stored[name][...].reshape(tuple(variable.shape))
                for name, variable in variables.items()
            }
    except OSError as error:
        raise ValueError(f"weights cannot be read from {path}: {error}.") from error
    for name, value in values.items():
        if not np.isfinite(value).all():
            raise ValueError(f"weights must be finite, got {name} in {path}.")
    for name, variable in variables.items():
        variable.assign(values[name])


def _variables(model):
    variables = {}
    for variable in model.weights:
        if variable.path in variables:
            raise ValueError(
                f"model must have different variable paths, got {variable.path} twice."
            )
        variables[variable.path] = variable
    return variables


def _feedback_paths(model):
    return {
        weight.path
        for layer in model.layers
        if getattr(layer, "is_feedback_connection", False)
        for weight in layer.weights
    }


def _datasets(file):
    """Hard-linked float data sets only; nothing that leads out of the file."""
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
            if item.is_virtual or item.external or not item.fletcher32:
                raise ValueError(f"weights must hold checked tensors, got {name}.")
            if item.dtype.kind != "f":
                raise ValueError(f"weights must be floats, got {item.dtype} in {name}.")
            found[name] = item

    walk(file, "")
    return found


def _compare(model, variables, stored, path):
    missing = sorted(variables.keys() - stored.keys())
    extra = sorted(stored.keys() - variables.keys())
    feedback = {name for name in stored if stored[name].attrs.get("feedback", False)}
    if extra and set(extra) == feedback:
        extra = []  # a model of one timestep
    if missing or extra:
        raise ValueError(
            f"weights in {path} do not fit model '{model.name}': missing from the file "
            f"are {missing or 'none'}, unknown to the model are {extra or 'none'}."
        )
    for name, variable in variables.items():
        shape = tuple(stored[name].attrs.get("shape", stored[name].shape))
        same_size = stored[name].size == int(np.prod(variable.shape))
        if shape != tuple(variable.shape) or not same_size:
            raise ValueError(
                f"weights in {path} do not fit model '{model.name}': {name} has shape "
                f"{tuple(int(n) for n in shape)} in the file and "
                f"{tuple(variable.shape)} in the model."
            )
