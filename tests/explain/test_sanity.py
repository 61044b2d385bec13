import numpy as np
import pytest
from keras import ops

from kfeedback import explain
from kfeedback.explain.sanity import rank_correlations
from tests.explain import common


class Edges(explain.Method):
    """Draws the edges of the image, whatever the network."""

    def maps(self, network, images, targets, features):
        gray = ops.mean(images, axis=-1)
        step = ops.abs(gray[:, 1:] - gray[:, :-1])
        return ops.pad(step, [(0, 0), (0, 1), (0, 0)])


def test_rank_correlation_by_hand():
    one = np.array([[[3.0, 1.0], [2.0, 1.0]]])  # ranks 4, 1.5, 3, 1.5
    other = np.array([[[9.0, 0.0], [0.0, 5.0]]])  # ranks 4, 1.5, 1.5, 3
    a, b = np.array([1.5, -1, 0.5, -1]), np.array([1.5, -1, -1, 0.5])
    expected = a @ b / np.sqrt((a @ a) * (b @ b))
    np.testing.assert_allclose(rank_correlations(one, other), [expected])
    np.testing.assert_allclose(rank_correlations(one, one**3), [1.0])
    assert rank_correlations(one, one * 0).tolist() == [0.0]


def test_a_gradient_changes_from_the_top_on_and_edges_do_not():
    model, _ = common.three_layers()
    images = common.images(4)
    before = model.get_weights()
    found = {
        name: explain.randomized_layers(explain.Explainer(model, method), images)
        for name, method in (("gradient", "gradient"), ("edges", Edges()))
    }
    for one in found.values():
        assert list(one) == ["predictions", "conv2", "conv1"]
        assert all(rho.shape == (4,) for rho in one.values())
    assert max(rho.mean() for rho in found["gradient"].values()) < 0.7
    assert min(rho.min() for rho in found["edges"].values()) == pytest.approx(1)
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    again = explain.randomized_layers(explain.Explainer(model, "gradient"), images)
    for name, rho in again.items():
        np.testing.assert_array_equal(rho, found["gradient"][name])


def test_it_is_done_layer_by_layer_for_the_class_of_the_trained_network():
    """The first similarities are those of a network whose top alone was shuffled."""
    model, _ = common.three_layers()
    images = common.images(2)
    explainer = explain.Explainer(model, "gradient")
    targets = explainer.predict(images).argmax(-1)
    found = explain.randomized_layers(explainer, images, seed=5)
    maps = explainer.saliency(images, targets)
    rng, top = np.random.default_rng(5), model.get_layer("predictions")
    weights = top.get_weights()
    top.set_weights([rng.permutation(x.ravel()).reshape(x.shape) for x in weights])
    expected = rank_correlations(maps, explainer.saliency(images, targets))
    np.testing.assert_allclose(found["predictions"], expected)


def test_the_weights_come_back_after_an_error():
    class Broken(Edges):
        calls = 0

        def maps(self, network, images, targets, features):
            Broken.calls += 1
            if Broken.calls > 1:
                raise RuntimeError("broken")
            return super().maps(network, images, targets, features)

    model, _ = common.three_layers()
    explainer = explain.Explainer(model, Broken())
    before = model.get_weights()
    explainer._compile = lambda key, function: function  # every call runs the method
    with pytest.raises(RuntimeError, match="broken"):
        explain.randomized_layers(explainer, common.images(2), np.array([0, 1]))
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_models_in_models_and_bad_arguments():
    explainer = explain.Explainer(common.tangled(), "gradient")
    images = common.images(1, (8, 8, 2))
    found = explain.randomized_layers(explainer, images)
    assert "inner_conv" in found and next(iter(found)) == "predictions"
    with pytest.raises(ValueError, match="seed must be an integer ≥ 0"):
        explain.randomized_layers(explainer, images, seed=-1)
    with pytest.raises(ValueError, match=r"targets must be \(N,\), got \(1, 2\)"):
        explain.randomized_layers(explainer, images, [[0, 1]])
    with pytest.raises(TypeError, match=r"explainer must be an .*, got Functional"):
        explain.randomized_layers(common.tangled(), images)
