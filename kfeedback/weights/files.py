"""One HDF5 file of tensors keyed by the stable paths of a model's variables.

Keras' own `.weights.h5` is keyed by class and order, so two kernels of one shape in
another order load silently into each other; and a load that fails half-way leaves a
mixed model. Here names and shapes must match on both sides before anything is read,
and either all variables are assigned or none.

Every tensor has a checksum of its name, type, shape and values (`_digests.py`), so one
that was put in the place of another is found. All else in the file is under a seal
(`_seal.py`), that is checked before anything is parsed.

A model of one timestep has no use for feedback connections. So the tensors of those,
and only those, may be left out on request, all of them together.
"""

import concurrent.futures
import contextlib
import json
import os
import pathlib
import secrets

import h5py
import numpy as np

from kfeedback import checks, renamed
from kfeedback.weights import (
    _digests,
    _hdf5,
    _keys,
    _model,
    _seal,
    keras_files,
    origins,
    registry,
)

_WORKERS = 4
_OVERHEAD = 2**26  # bytes that a file may have besides 16 for each parameter
LONGEST = 60_000
"""Bytes of an attribute in JSON; HDF5 keeps no longer ones in a header."""

ABOUT = {
    "factory": "name of the factory that makes the model",
    "arguments": "dict of its arguments",
    "preprocessing": "mode of `kfeedback.preprocessing.preprocess_input`, or in words",
    "classes": "their number",
    "class_names": "list of names, in the order of the outputs",
    "paper": "where the network comes from",
    "dataset": "what it was trained on",
    "license": "of these weights",
    "command": "that produced them",
    "commit": "of the code that ran it",
    "score": "what was measured, on what",
    "source": "who made them, where they were published",
}
"""What a file can say about its weights, with what each attribute is."""

_TYPES = {"arguments": dict, "classes": int, "class_names": list}  # others are texts


def check_weights(weights):
    """Raises a ValueError unless `weights` is `None`, a tag, or the path of a file.

    Args:
        weights: what was given as such.
    """
    if weights is not None:
        registry.check_tag(weights)


def save(model, path, *, compress=False, dtype=None, **about):
    """Writes the weights of a model, under a temporary name that is then renamed.

    Args:
        model: a `keras.Model` whose variables have different paths.
        path: where to; a file of that name is replaced.
        compress: bool, smaller and slower: HDF5's shuffle, deflate and fletcher32.
        dtype: `None` for the variables' own; `"float16"` rounds all floats to it.
        **about: attributes out of `ABOUT`. Factory and arguments are those that the
            model knows if not given.

    Raises:
        TypeError: if `compress` is no bool, `model` no model or `path` no path.
        ValueError: if the model is not built, two variables share a path, one is not
            finite as stored, the folder does not exist, or an attribute is not as in
            `ABOUT`.

    Example:
        >>> model = kfeedback.models.backbones.LeNet()
        >>> save(model, "lenet.h5", compress=True, license="CC0-1.0")
    """
    checks.boolean("compress", compress)
    if dtype not in (None, "float16"):
        raise ValueError(f"dtype must be None or 'float16', got {dtype!r}.")
    attributes = _attributes({**origins.origin(model), **about})
    # Of a link the file is replaced; the link stays.
    path = pathlib.Path(os.path.realpath(checks.path("path", path)))
    if path.is_dir() or not path.parent.is_dir():
        raise ValueError(
            f"path must be a file in a folder that exists, got {str(path)!r}."
        )
    temporary = path.with_name(f".{secrets.token_hex(8)}.tmp")
    variables = _keys.keyed(model)
    _keys.check_stable(model)
    counted = _keys.counted(model)
    feedback = _model.feedback_variables(model)
    try:
        with h5py.File(temporary, "w", userblock_size=_seal.BLOCK) as file:
            extents = []
            for name, value in attributes.items():
                file.attrs[name] = value
            text = json.dumps(counted).encode()
            if len(counted) > 1 and len(text) <= LONGEST:
                file.attrs["counted"] = np.bytes_(text)
            for name, variable in variables.items():
                value = _stored(name, np.asarray(variable.numpy()), dtype)
                filters = {}
                if compress and value.size > 1:
                    filters = {"compression": "gzip", "shuffle": True}
                    filters["fletcher32"] = True
                dataset = file.create_dataset(name, data=value, **filters)
                flag = b"true" if id(variable) in feedback else b"false"
                dataset.attrs["feedback"] = np.bytes_(flag)
                digest = _digests.of(name, value, flag.decode())
                dataset.attrs["xxh128"] = np.bytes_(digest)
                extents.append((dataset.id.get_offset(), dataset.id.get_storage_size()))
        _seal.write(temporary, extents)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def load(
    model, path, *, without_feedback=False, replace_head=False, adapt_channels=False
):
    """Assigns every weight of a model from a file, or none.

    Args:
        model: a `keras.Model`.
        path: a file that `save` wrote; the tag of an entry of `list_weights`; or a
            legacy Keras `.h5` of this very architecture, whose weights have names.
        without_feedback: bool; `True` leaves out the feedback connections of the file,
            for a model of one timestep, which has none.
        replace_head: bool; `True` leaves the head as the model has it, for another
            number of classes: the last layer with weights, and the feedback
            connections that read its output. Only their shapes may differ.
        adapt_channels: bool; `True` lets the convolutions that see the image differ as
            1 and 3 channels do. From 3 to 1 their kernels are summed, so a gray image
            gives what three equal channels gave; from 1 to 3 they are divided by 3 and
            repeated, so an image gives what the mean of its channels gave.

    Raises:
        TypeError: if a flag is no bool or `model` no model.
        ValueError: if the model is not built, the file cannot be had, is damaged, is of
            another network, or its names and shapes are not those of the model, both
            sides listed.

    Example:
        >>> save(kfeedback.models.backbones.LeNet(classes=7), "lenet.h5")
        >>> model = kfeedback.models.backbones.LeNet(classes=3)
        >>> load(model, "lenet.h5", replace_head=True)
    """
    for name, value in (
        ("without_feedback", without_feedback),
        ("replace_head", replace_head),
        ("adapt_channels", adapt_channels),
    ):
        checks.boolean(name, value)
    path = registry.locate(path)
    variables = _keys.keyed(model)
    is_ours = _seal.is_ours(path)
    if is_ours:
        parameters = sum(_size(variable.shape) for variable in variables.values())
        _seal.check_seal(path, 16 * parameters + _OVERHEAD)
    with _opened(path) as file:
        if is_ours:
            tensors = _hdf5.datasets(file, len(variables))
            feedback = {n for n, x in tensors.items() if _is_feedback(x)}
            about = _about(file)
        else:
            named = _keys.as_written(model)
            tensors = keras_files.tensors(file, named, path)
            feedback, about = set(), {}
        names = _keys.renamed_to(tensors, model)
        tensors = {names[name]: item for name, item in tensors.items()}
        feedback = {names[name] for name in feedback}
        origins.check_origin(model, about, path)
        _model.check_names(model, tensors, feedback, path, without_feedback)
        if is_ours:
            _model.check_counted(model, _hdf5.text(file, "counted"), path)
        plan = _model.fit(
            model,
            tensors,
            path,
            replace_head=replace_head,
            adapt_channels=adapt_channels,
        )
        values = _read(tensors, plan, variables, path, is_ours)
    _model.assign(model, values)


def _read(tensors, plan, variables, path, is_ours):
    """Dict of the values to assign, each checked while the next ones are read."""

    def checked(name, value, own, feedback, digest):
        # The checksum is that of the name in the file.
        if is_ours and _digests.of(own, value, feedback) != digest:
            raise ValueError(
                "weights must have tensors as they were written, got "
                f"{name} in {path}, which has another checksum."
            )
        return _model.as_assigned(name, plan[name](value), variables[name], path)

    results = {}
    with concurrent.futures.ThreadPoolExecutor(_WORKERS) as pool:
        # The largest first: there is always something to do while the others are read.
        for name in sorted(plan, key=lambda name: -tensors[name].size):
            item = tensors[name]
            # All of HDF5 is read in this thread: two at once can crash it.
            texts = [_hdf5.text(item, x) for x in ("feedback", "xxh128")]
            own = item.name.removeprefix("/")
            results[name] = pool.submit(checked, name, _hdf5.read(item), own, *texts)
        return {name: result.result() for name, result in results.items()}


def describe(path):
    """What a file of `save` holds, from its headers.

    Args:
        path: of the file, or a tag.

    Returns:
        dict of `path`, `version` of the format, `bytes`, `parameters`, `about` (its
        attributes, see `ABOUT`) and `tensors`, a dict from each name to its `shape`,
        `dtype`, `feedback` and `xxh128`.

    Raises:
        ValueError: if the file is none of ours or is damaged.

    Example:
        >>> save(kfeedback.models.backbones.LeNet(), "lenet.h5")
        >>> describe("lenet.h5")["parameters"]
        431080
    """
    path = registry.locate(path)
    _seal.check_seal(path)
    with _opened(path) as file:
        tensors = {
            name: {
                "shape": item.shape,
                "dtype": item.dtype.name,
                "feedback": _is_feedback(item),
                "xxh128": _hdf5.text(item, "xxh128"),
            }
            for name, item in sorted(_hdf5.datasets(file).items())
        }
        about = _about(file)
    return {
        "path": str(path),
        "version": _seal.VERSION,
        "bytes": path.stat().st_size,
        "parameters": sum(_size(x["shape"]) for x in tensors.values()),
        "about": about,
        "tensors": tensors,
    }


def holds_feedback(path):
    """Whether a file of `save`, or a tag, has tensors of feedback connections.

    Raises:
        ValueError: if the file cannot be had or is damaged.
    """
    path = registry.locate(path)
    if not _seal.is_ours(path):
        return False
    _seal.check_seal(path)
    with _opened(path) as file:
        return any(_is_feedback(item) for item in _hdf5.datasets(file).values())


@contextlib.contextmanager
def _opened(path):
    """An HDF5 file; what it raises where it is not as it should be says the path."""
    try:
        with h5py.File(path, "r") as file:
            yield file
    except _hdf5.ERRORS as error:
        reason = checks.reason(error)
        raise ValueError(f"weights must be readable, got {path}: {reason}.") from error


def _size(shape):
    return int(np.prod(shape, dtype="int64"))


def _stored(name, value, dtype):
    """A variable's value as the file holds it."""
    if value.dtype.kind == "V":  # bfloat16, of which HDF5 knows nothing
        value = value.astype("float32")
    if dtype and value.dtype.kind == "f":
        with np.errstate(over="ignore"):
            value = value.astype(dtype)
    if not _model.is_finite(value):
        kind = f" in {dtype}" if dtype else ""
        raise ValueError(f"model must have weights finite{kind}, got {name}.")
    return value


def _attributes(about):
    """Attributes as the texts that are stored."""
    texts = {}
    for name, value in about.items():
        if name not in ABOUT or not _is_valid(name, value):
            known = ", ".join(f"{n} ({_TYPES.get(n, str).__name__})" for n in ABOUT)
            raise ValueError(f"about must be some of {known}, got {name}={value!r}.")
        try:
            texts[name] = np.bytes_(json.dumps(value).encode())
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"about must hold what JSON can, got {name}={value!r}."
            ) from error
        if len(texts[name]) > LONGEST:
            raise ValueError(
                f"about must have values of at most {LONGEST} characters, got {name} "
                f"with {len(texts[name])}."
            )
    return {name: texts[name] for name in ABOUT if name in texts}


def _is_valid(name, value):
    kind = _TYPES.get(name, str)
    return isinstance(value, kind) and not isinstance(value, bool)


def _about(file):
    about = {}
    for name in [*ABOUT, *renamed.KEYS]:
        if name not in file.attrs:
            continue
        text = _hdf5.text(file, name)
        try:
            found = renamed.current({name: json.loads(text)})
        except json.JSONDecodeError:
            found = {name: None}
        if not all(_is_valid(*item) for item in found.items()):
            raise ValueError(
                f"weights must have attributes as in ABOUT, in JSON, got {name} = "
                f"{text[:80]} in {file.filename}."
            )
        about |= found
    return about


def _is_feedback(item):
    return _hdf5.text(item, "feedback") == "true"
