import numpy as np
import pytest

from applications import _clique_figures
from kfeedback.layers import CliqueBlock
from tests import harness


@pytest.mark.parametrize("loops, missing", [(1, 7), (0, 10)])
def test_mean_weights_are_those_of_the_kernels(loops, missing):
    block = CliqueBlock(2, 3, loops=loops, name="block")
    block.build((None, 8, 8, 5))
    harness.randomize(block)
    found = _clique_figures.mean_weights(block)
    assert found.shape == (4, 4)
    assert np.isnan(found).sum() == missing
    kernel = np.asarray(block.kernels[1])  # of layer 2: from the input, 1 and 3
    np.testing.assert_allclose(found[0, 2], np.abs(kernel[:, :, :5]).mean(), rtol=1e-5)
    np.testing.assert_allclose(found[1, 2], np.abs(kernel[:, :, 5:7]).mean(), rtol=1e-5)


def test_strongest_maps():
    features = np.zeros((2, 3, 3, 4))
    features[0, :, :, 2], features[1, 1, 1, 3] = -5, 1
    maps = _clique_figures.strongest_maps(features)
    assert (maps[0] == 5).all()
    assert maps[1, 1, 1] == 1 and maps[1].sum() == 1
