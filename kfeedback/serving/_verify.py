"""Whether a SavedModel on the disk does what the model does."""

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from kfeedback.serving import requests

_BATCHES = (1, 3)

# What runs Python, and what `saved_model_cli scan` denies: what leaves the graph.
_FORBIDDEN = ("PyFunc", "PyFuncStateless", "EagerPyFunc")
_FORBIDDEN += ("ReadFile", "WriteFile", "PrintV2")


def verify(folder, endpoints, shape, pixels):
    """Loads a SavedModel and compares every endpoint with the model's.

    Args:
        folder: that of the SavedModel.
        endpoints: list of `Endpoint`, what the model itself answers.
        shape: `(H, W, C)` of the model's images.
        pixels: bool, whether images are from 0 to 255.

    Returns:
        dict from the name of each endpoint to the names of its outputs.

    Raises:
        ValueError: if they differ, or the graph runs Python.
    """
    _check_operations(folder)
    loaded = tf.saved_model.load(str(folder))
    outputs = {}
    for endpoint in endpoints:
        serve = loaded.signatures[endpoint.name]
        # A graph rounds otherwise than single operations, which iterations amplify.
        answer = tf.function(endpoint.function, autograph=False).get_concrete_function(
            endpoint.spec
        )
        for batch in _BATCHES:
            request = requests.example(endpoint.spec, shape, pixels, batch)
            found = serve(**{endpoint.spec.name: request})
            _compare(endpoint.name, found, answer(request))
        outputs[endpoint.name] = sorted(found)
    return outputs


def _check_operations(folder):
    saved = saved_model_pb2.SavedModel()
    saved.ParseFromString((folder / "saved_model.pb").read_bytes())
    for meta_graph in saved.meta_graphs:
        library = meta_graph.graph_def.library.function
        nodes = [node for function in library for node in function.node_def]
        used = {node.op for node in (*meta_graph.graph_def.node, *nodes)}
        found = sorted(used.intersection(_FORBIDDEN))
        if found:
            raise ValueError(
                "model must be made of TensorFlow operations alone that neither read "
                f"nor write, got {', '.join(found)} in its graph."
            )


def _compare(name, found, wanted):
    if sorted(found) != sorted(wanted):
        raise ValueError(
            f"model must answer {name} with {', '.join(sorted(wanted))}, got "
            f"{', '.join(sorted(found))} from what was written."
        )
    for key, value in wanted.items():
        one, two = found[key].numpy(), tf.convert_to_tensor(value).numpy()
        same = one.shape == two.shape and one.dtype == two.dtype
        difference = 0.0
        # Classes may change places where their scores are equal but for rounding.
        if same and np.issubdtype(one.dtype, np.floating) and one.size:
            difference = float(np.max(np.abs(one - two)))
            same = difference <= 1e-4 * max(1.0, float(np.abs(two).max()))
        if not same:
            raise ValueError(
                f"model must give the same {key} of {name} when loaded again, got "
                f"{one.dtype}{one.shape} for {two.dtype}{two.shape}, which differ by "
                f"{difference:.1e}."
            )
