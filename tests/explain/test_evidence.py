"""The default rule of feedback: contrast with rivals, and the evidence of a place."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from kfeedback.backend import compile_function
from kfeedback.explain import Explainer, Feedback, saliency
from kfeedback.explain.methods import evidence
from kfeedback.explain.network import Network, target_scores
from tests.explain import common, reference

TARGETS = np.array([0, 2, 3], "int32")


def enlarged(maps, size):
    found = ops.image.resize(maps[..., None].astype("float32"), size)
    return ops.convert_to_numpy(found)[..., 0]


@pytest.mark.parametrize("iterations", [1, 3, 10])
@pytest.mark.parametrize("objective", ["score", "contrast"])
def test_the_default_rule_is_that_of_the_reference(objective, iterations):
    model, weights = common.three_layers()
    images = common.images()
    method = Feedback(iterations, objective=objective)
    assert Feedback().objective == "contrast"
    found = Explainer(model, method, preprocess="scale").saliency(images, TARGETS)
    x = images / 255
    gates = [0.5 * z for z in reference.activations(x, weights)]
    gates = reference.ascend_normalized(
        x, weights, TARGETS, iterations, 0.1, 0.02, gates, objective
    )
    fine = reference.saliency(x, weights, TARGETS, gates, objective)
    fine = reference.blur(np.sqrt(fine), method.smoothing * 9)
    coarse = reference.evidence(x, weights, TARGETS, "contrast")
    expected = fine * reference.blur(enlarged(coarse, (9, 9)), 9 / 16)
    assert expected.max() > 1e-3
    np.testing.assert_allclose(found, expected, atol=1e-5 * expected.max(), rtol=1e-3)


def test_contrast_is_that_of_its_equation():
    rng = np.random.default_rng(0)
    plain = rng.normal(2, 5, (6, 7)).astype("float32")
    gated = rng.normal(2, 5, (6, 7)).astype("float32")
    targets = np.arange(6, dtype="int32")
    expected = []
    for own, scores, k in zip(plain, gated, targets, strict=True):
        odds = np.exp(own / own.std())
        odds[k] = 0
        expected.append(scores[k] - (odds / odds.sum() * scores).sum())
    for scale in (1, 1000):  # p is the same whatever the scores' scale
        found = evidence.contrast(ops.convert_to_tensor(scale * plain), targets)
        np.testing.assert_allclose(found(gated, targets), expected, rtol=1e-4)


def test_contrast_does_not_saturate_however_far_a_class_is_ahead():
    plain = ops.convert_to_tensor([[900.0, 1.0, 2.0, -3.0]])
    targets = ops.convert_to_tensor([0], "int32")
    found = evidence.contrast(plain, targets)
    near = found(ops.convert_to_tensor([[8.0, 0, 0, 0]]), targets)
    far = found(ops.convert_to_tensor([[9.0, 0, 0, 0]]), targets)
    np.testing.assert_allclose(far - near, [1.0], rtol=1e-6)
    np.testing.assert_allclose(found(plain, targets), [900.0], rtol=1e-2)


def test_equal_scores_are_no_reason_to_divide_by_zero():
    targets = ops.convert_to_tensor([0, 1], "int32")
    found = evidence.contrast(ops.ones((2, 4)), targets)
    scores = ops.convert_to_tensor([[3.0, 0, 0, 6], [0, 3, 9, 0]])
    np.testing.assert_allclose(found(scores, targets), [1.0, 0.0], atol=1e-6)


def test_a_box_holds_the_share_of_energy_of_its_method():
    model, _ = common.three_layers()
    images = common.images()
    for method, energy in (
        (Feedback(3), 0.9),
        (Feedback(3, readout="gradient"), 0.95),
        ("gradient", 0.95),
    ):
        explainer = Explainer(model, method, preprocess="scale")
        np.testing.assert_array_equal(
            explainer.localize(images, TARGETS),
            explainer.localize(images, TARGETS, energy=energy),
        )
        assert explainer.method.energy == energy


@pytest.mark.parametrize("shape", [(7, 7), (5, 11), (11, 5)])
def test_blur_is_a_gaussian_of_a_share_of_the_longer_side(shape):
    maps = np.random.default_rng(0).uniform(size=(2, *shape)).astype("float32")
    found = evidence.blur(ops.convert_to_tensor(maps), 0.1)
    np.testing.assert_allclose(found, reference.blur(maps, 0.1 * max(shape)), atol=1e-5)
    np.testing.assert_array_equal(evidence.blur(maps, 0), maps)


def test_evidence_is_the_weighted_sum_of_the_last_maps():
    model, weights = common.three_layers()
    images = (common.images() / 255).astype("float32")
    network = Network(model)

    def function(images, targets):
        return evidence.evidence(network, images, targets, target_scores)

    found = compile_function(model, function)(images, TARGETS)
    expected = enlarged(reference.evidence(images, weights, TARGETS), (9, 9))
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_classes_that_do_not_exclude_one_another_have_no_rivals():
    model, _ = common.three_layers()
    logits = layers.Dense(4, activation="sigmoid", name="several")
    several = keras.Model(model.input, logits(model.layers[-2].output))
    logits.set_weights(model.layers[-1].get_weights())
    images = common.images()
    contrast, score = (
        Explainer(several, Feedback(objective=name), preprocess="scale").saliency(
            images, TARGETS
        )
        for name in ("contrast", "score")
    )
    np.testing.assert_array_equal(contrast, score)
    single = Explainer(model, Feedback(), preprocess="scale").saliency(images, TARGETS)
    assert abs(single - contrast).max() > 1e-3 * contrast.max()


def test_the_papers_own_rule_is_the_gradient_where_gates_stay_open():
    """Bit for bit: one step too short to close a gate."""
    model, _ = common.three_layers()
    images = common.images()
    paper = Feedback(
        1,
        1e-6,
        0.0,
        start="activations",
        normalize=False,
        objective="score",
        readout="gradient",
    )
    found, wanted = (
        Explainer(model, method, preprocess="scale").saliency(images, TARGETS)
        for method in (paper, "gradient")
    )
    np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize(
    ("shape", "sparsity"), [((9, 9), 0.02), ((64, 64), 0.02), ((128, 64), 0.005)]
)
def test_sparsity_falls_with_the_square_of_the_pixels(shape, sparsity):
    images = ops.zeros((1, *shape, 3))
    np.testing.assert_allclose(Feedback().sparsity_for(images), sparsity, rtol=1e-6)
    assert Feedback(sparsity=0.3).sparsity_for(images) == 0.3


def test_without_a_map_of_several_pixels_there_is_no_evidence():
    """The map is then that of the gates alone."""
    x = inputs = keras.Input((6, 6, 2))
    x = keras.layers.Conv2D(4, 6, activation="relu")(x)
    x = keras.layers.Dense(3)(keras.layers.Flatten()(x))
    model, images = keras.Model(inputs, x), common.images(2, (6, 6, 2))
    maps = saliency(model, images, method=Feedback(2, smoothing=0), preprocess="scale")
    gradient = saliency(
        model,
        images,
        method=Feedback(2, readout="gradient"),
        preprocess="scale",
    )
    assert gradient.max() > 0
    np.testing.assert_allclose(maps**2, gradient, rtol=1e-4, atol=1e-7)
