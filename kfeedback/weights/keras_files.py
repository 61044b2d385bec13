"""Weights files of others: which kinds there are, and those of Keras with names."""

import re

from kfeedback.weights import _hdf5

_KINDS = (
    (b"version https://git-lfs", "a Git LFS pointer to a file that was not fetched"),
    (b"PK\x03\x04", "a zip archive, such as .npz, .pt or .keras"),
    (b"\x93NUMPY", "a NumPy array"),
    (b"\x80", "a pickle"),
)


def kind(start):
    """In words, what a file is that starts with these bytes; it is not opened."""
    if not start:
        return "empty"
    if start.lstrip()[:1] == b"<":
        return "an HTML or XML page"
    for magic, name in _KINDS:
        if start.startswith(magic):
            return name
    return "of no kind that is known"


def tensors(file, variables, path):
    """The data sets of a legacy Keras `.h5`, by the keys of the model's variables.

    It keeps the tensors of a layer in a group of the layer's name, each under the path
    of its variable, of which more or less stands before the layer's name:
    `conv1/conv1/kernel:0`, `conv1/kernel`, `block/net/block/conv1/kernel`. The key of a
    variable begins with its layer, so what follows the layer's last mention must be
    what follows it in the key.

    Args:
        file: an opened `h5py.File`.
        variables: dict by the keys of `kfeedback.weights._keys.as_written`.
        path: of the file.

    Raises:
        ValueError: if the file's names are no names but an order.
    """
    if "_layer_checkpoint_dependencies" in file or "layers" in file:
        raise ValueError(
            f"weights must name their layers, got {path}, a Keras .weights.h5, which "
            "keeps only an order (if it is of this very architecture, load it with "
            "model.load_weights and write it again with kfeedback.weights.save)."
        )
    # A whole model has its weights in a group.
    is_model = "model_weights" in file
    stored = _hdf5.datasets(file, len(variables))
    if is_model:
        start = "model_weights/"
        stored = {
            name.removeprefix(start): item
            for name, item in stored.items()
            if name.startswith(start)
        }
    found = {}
    for name, item in stored.items():
        key = _key(name, variables)
        if key in found:
            raise ValueError(
                f"weights must name each tensor once, got {key} twice in {path}."
            )
        found[key] = item
    return found


def _key(name, variables):
    """The key of the variable that a stored name means; the name if there is none."""
    plain = re.sub(r":\d+$", "", name)
    for key in variables:
        layer, rest = key.split("/", 1) if "/" in key else ("", key)
        if not plain.startswith(f"{layer}/"):
            continue
        inner = plain[len(layer) + 1 :]
        if rest in (inner, *_after(inner, layer)):
            return key
        old = re.sub(r"_1$", "", inner.rsplit("/", 1)[-1].removeprefix(f"{layer}_"))
        if rest == _OLD.get(old):
            return key
    return plain


def _after(path, layer):
    """What follows each mention of a layer in a path."""
    parts = path.split("/")
    return ["/".join(parts[n + 1 :]) for n, part in enumerate(parts) if part == layer]


# As Keras 1 named the weights of layer `conv1`, `conv1/conv1_W_1:0`, and Keras 2 that
# of a `DepthwiseConv2D`. (What Keras 1 called running_std is a variance.)
_OLD = {
    "W": "kernel",
    "alphas": "alpha",
    "b": "bias",
    "beta": "beta",
    "depthwise_kernel": "kernel",
    "gamma": "gamma",
    "running_mean": "moving_mean",
    "running_std": "moving_variance",
}
