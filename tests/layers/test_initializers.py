import itertools

import keras
import numpy as np
import pytest

from kfeedback.layers import ConvLSTMGates
from kfeedback.layers.initializers import with_seed_offset

SEEDS = {
    "none": lambda: None,
    "a number": lambda: 3,
    "a generator": lambda: keras.random.SeedGenerator(3),
}


@pytest.mark.parametrize("seed", SEEDS.values(), ids=SEEDS)
def test_every_number_draws_other_values(seed):
    initializer = keras.initializers.HeNormal(seed=seed())
    draws = [np.asarray(with_seed_offset(initializer, n)((4, 4))) for n in range(3)]
    for one, other in itertools.combinations(draws, 2):
        assert np.abs(one - other).max() > 0.1


def test_functions_stay_what_they_are():
    def ones(shape, dtype=None):
        return keras.ops.ones(shape, dtype)

    assert with_seed_offset(ones, 2) is ones
    gates = ConvLSTMGates(2, kernel_initializer=ones)
    gates.build((None, 4, 4, 5))
    assert all(np.all(w.numpy() == 1) for w in gates.weights if "kernel" in w.path)
