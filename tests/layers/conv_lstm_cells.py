"""A small ConvLSTMCell with random weights, its options, an input and a state."""

import numpy as np

from kfeedback.layers import ConvLSTMCell
from tests import harness

FILTERS = 4
RANDOM = np.random.default_rng(7)
X, H, C = (
    RANDOM.normal(size=(8, 6, 12, channels)).astype("float32")
    for channels in (3, FILTERS, FILTERS)
)
OPTIONS = {
    "plain": {},
    "batch norm": {"batch_norm": True},
    "strides": {"strides": 2},
    "strides, batch norm": {"strides": 2, "batch_norm": True},
    "share of the gates": {"convolve_input": False},
    "share, batch norm": {"convolve_input": False, "batch_norm": True},
}


def make(x_shape=X.shape, **kwargs):
    harness.fresh_names()
    cell = ConvLSTMCell(FILTERS, name="cell", **kwargs)
    cell.build(x_shape)
    return harness.randomize(cell)


def arrays(layer):
    return {w.path: np.asarray(w.numpy(), "float64") for w in layer.weights}


def pair(state):
    return [harness.to_numpy(tensor) for tensor in state]


def assert_close(found, expected):
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(harness.to_numpy(one), other, atol=1e-5)
