import json
import os
import pathlib
import subprocess
import sys

import keras
import numpy as np
import pytest

from kfeedback.layers import SameAveragePooling2D
from tests import harness
from tests.layer_checks import LAYER_CHECKS, check_layer

REPOSITORY = pathlib.Path(__file__).parents[2]
X = np.random.default_rng(5).normal(0, 1, (8, 6, 7, 2)).astype("float32")
CASES = [
    (sides, size, stride)
    for sides in ((4, 4), (5, 6), (7, 13), (2, 1))
    for size, stride in ((3, 2), (2, 2), (3, 1), (2, 3), (5, 3))
]


def images(sides):
    return np.random.default_rng(0).normal(0, 1, (2, *sides, 3)).astype("float32")


def by_hand(x, size, stride):
    """The mean of the pixels in each window, place by place."""
    starts = []
    for n in x.shape[1:3]:
        places = -(-n // stride)
        over = max((places - 1) * stride + size - n, 0)
        starts.append([place * stride - over // 2 for place in range(places)])
    rows = [
        [
            x[:, max(i, 0) : i + size, max(j, 0) : j + size].mean((1, 2))
            for j in starts[1]
        ]
        for i in starts[0]
    ]
    return np.stack([np.stack(row, axis=1) for row in rows], axis=1)


@pytest.mark.parametrize("check", LAYER_CHECKS)
def test_harness(check):
    check_layer(
        lambda **kwargs: SameAveragePooling2D(name="pool", **kwargs),
        [X],
        checks=[check],
    )


@pytest.mark.parametrize("sides, size, stride", CASES)
def test_equals_the_reference(sides, size, stride):
    x = images(sides)
    result = harness.to_numpy(SameAveragePooling2D(size, stride)(x))
    np.testing.assert_allclose(result, by_hand(x, size, stride), rtol=0, atol=1e-6)


CODE = """
import json, sys
import keras
from kfeedback.layers import SameAveragePooling2D
from tests.layers.test_same_average_pooling import CASES, images

layers = [(SameAveragePooling2D(size, stride), images(x)) for x, size, stride in CASES]
first = SameAveragePooling2D(data_format="channels_first")
layers.append((first, images((4, 5)).transpose(0, 3, 1, 2)))
found = [layer(keras.ops.convert_to_tensor(x)) for layer, x in layers]
json.dump([keras.ops.convert_to_numpy(x).tolist() for x in found], sys.stdout)
"""


def test_torch_gives_the_same():
    pytest.importorskip("torch")
    result = subprocess.run(
        [sys.executable, "-c", CODE],
        env={**os.environ, "KERAS_BACKEND": "torch"},
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    *found, first = map(np.array, json.loads(result.stdout))
    for one, (sides, size, stride) in zip(found, CASES, strict=True):
        expected = by_hand(images(sides), size, stride)
        np.testing.assert_allclose(one, expected, rtol=0, atol=1e-6)
    expected = by_hand(images((4, 5)), 3, 2).transpose(0, 3, 1, 2)
    np.testing.assert_allclose(first, expected, rtol=0, atol=1e-6)


def test_is_that_of_keras():
    other = keras.layers.AveragePooling2D(3, 2, padding="same")
    if keras.backend.backend() != "torch":
        harness.assert_bit_equal(
            *(harness.to_numpy(x(X)) for x in (SameAveragePooling2D(), other)), "pool"
        )
    config = SameAveragePooling2D().get_config()
    assert config["padding"] == "same" and config["strides"] == (2, 2)


def test_refuses_another_padding():
    with pytest.raises(ValueError) as caught:
        SameAveragePooling2D(padding="valid")
    harness.assert_one_sentence(caught.value, "padding")
