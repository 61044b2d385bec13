import keras
import numpy as np
import pytest
from keras import ops

from kfeedback.layers import StackTimesteps
from tests import harness

RANDOM = np.random.default_rng(6)
PASSES = [RANDOM.normal(size=(8, 4)).astype("float32") for _ in range(3)]


def test_stacks_behind_the_batch():
    np.testing.assert_array_equal(
        ops.convert_to_numpy(StackTimesteps()(PASSES)), np.stack(PASSES, axis=1)
    )


def test_output_shape():
    shapes = [(None, 7, 7, 5)] * 2
    assert StackTimesteps().compute_output_shape(shapes) == (None, 2, 7, 7, 5)


@pytest.mark.parametrize("policy", harness.POLICIES)
def test_keeps_the_dtype_it_is_given(policy):
    harness.fresh_names(policy)
    stacked = StackTimesteps(dtype="float32")(PASSES)
    assert keras.backend.standardize_dtype(stacked.dtype) == "float32"
