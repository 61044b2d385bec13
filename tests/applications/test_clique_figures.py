import numpy as np
import pytest

from applications.common import figures
from applications.evaluate import clique_figures
from kfeedback import CliqueNet, LRNet
from kfeedback.layers import CliqueBlock
from tests import harness


@pytest.mark.parametrize("stages, missing", [(2, 7), (1, 10)])
def test_mean_weights_are_those_of_the_kernels(stages, missing):
    block = CliqueBlock(2, 3, stages=stages, name="block")
    block.build((None, 8, 8, 5))
    harness.randomize(block)
    found = clique_figures.mean_weights(block)
    assert found.shape == (4, 4)
    assert np.isnan(found).sum() == missing
    kernel = np.asarray(block.kernels[1])  # of layer 2: from the input, 1 and 3
    np.testing.assert_allclose(found[0, 2], np.abs(kernel[:, :, :5]).mean(), rtol=1e-5)
    np.testing.assert_allclose(found[1, 2], np.abs(kernel[:, :, 5:7]).mean(), rtol=1e-5)


@pytest.mark.parametrize(
    "make",
    [
        lambda: CliqueNet(filters=[4], layers=[2], input_shape=(8, 8, 3)),
        lambda: CliqueNet(filters=4, layers=6, input_shape=(8, 8, 3), stages=4),
        lambda: LRNet(CliqueNet(filters=4, layers=6, input_shape=(8, 8, 3))),
    ],
    ids=["one block", "four stages", "lrnet"],
)
def test_any_network_with_blocks_is_drawn(make, tmp_path):
    batches = [(harness.random_images((8, 8, 3), 3), np.zeros(3, int))]
    for path in clique_figures.draw_all(make(), tmp_path, batches):
        assert path.stat().st_size > 10_000


def test_strongest_maps():
    features = np.zeros((2, 3, 3, 4))
    features[0, :, :, 2], features[1, 1, 1, 3] = -5, 1
    maps = figures.strongest_maps(features)
    assert (maps[0] == 5).all()
    assert maps[1, 1, 1] == 1 and maps[1].sum() == 1
