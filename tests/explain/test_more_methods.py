"""Methods that users of saliency packages expect, against NumPy."""

import math

import keras
import numpy as np
import pytest
from keras import ops

from kfeedback import explain
from tests.explain import common, reference
from tests.reference.operations import relu, softmax

TARGETS = np.array([0, 2, 3], "int32")
ONES = [np.ones(1)] * 2


@pytest.fixture(scope="module")
def net():
    return common.three_layers()


def found(model, method):
    images = common.images()
    return explain.saliency(model, images, TARGETS, method=method, preprocess="scale")


def enlarged(maps):
    large = ops.image.resize(maps[..., None].astype("float32"), (9, 9))
    return ops.convert_to_numpy(large)[..., 0]


def scores(x, weights):
    return reference.forward(x, weights, ONES)[1][np.arange(3), TARGETS]


def posteriors(x, weights):
    return softmax(reference.forward(x, weights, ONES)[1])[np.arange(3), TARGETS]


def gradient(x, weights):
    return reference.backward(x, weights, ONES, TARGETS)[2]


def grad_cam_plus_plus(a, g):
    alpha, total = np.zeros(g.shape), a.sum(axis=(1, 2))
    for place in np.ndindex(g.shape):
        sample, _, _, channel = place
        below = 2 * g[place] ** 2 + g[place] ** 3 * total[sample, channel]
        alpha[place] = g[place] ** 2 / below if below > 0 else 0
    weight = (alpha * relu(g)).sum(axis=(1, 2), keepdims=True)
    return (weight * a).sum(axis=-1)


CAMS = {
    "grad_cam_plus_plus": grad_cam_plus_plus,
    "layer_cam": lambda a, g: (a * relu(g)).sum(axis=-1),
    "hires_cam": lambda a, g: (a * g).sum(axis=-1),
}


@pytest.mark.parametrize("name", CAMS)
def test_cams_are_sums_of_the_last_maps(net, name):
    model, weights = net
    outputs, reached, _ = reference.backward(
        common.images() / 255, weights, ONES, TARGETS
    )
    expected = enlarged(relu(CAMS[name](outputs[-1], reached[-1])))
    assert expected.max() > 0.01
    np.testing.assert_allclose(found(model, name), expected, atol=1e-5)


def test_score_cam_weighs_channels_by_what_they_leave(net):
    model, weights = net
    x = common.images() / 255
    maps = reference.forward(x, weights, ONES)[0][-1]
    left = []
    for channel in np.moveaxis(maps, -1, 0):
        large = enlarged(channel).astype("float64")
        low = large.min(axis=(1, 2), keepdims=True)
        spread = large.max(axis=(1, 2), keepdims=True) - low
        share = (large - low) / np.where(spread > 0, spread, 1)
        left.append(scores(x * share[..., None], weights))
    weight = softmax(np.stack(left, axis=1))
    expected = enlarged(relu((maps * weight[:, None, None]).sum(axis=-1)))
    np.testing.assert_allclose(found(model, "score_cam"), expected, atol=1e-5)


def test_gradient_times_input(net):
    model, weights = net
    x = common.images() / 255
    expected = abs((x * gradient(x, weights)).sum(axis=-1))
    np.testing.assert_allclose(found(model, "gradient_input"), expected, atol=1e-5)


def test_center_is_a_gaussian_whatever_the_image():
    images = common.images(2, (9, 7, 2))
    model = keras.Sequential(
        [
            keras.Input((9, 7, 2)),
            keras.layers.Conv2D(4, 3, padding="same"),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(3, activation="softmax"),
        ]
    )
    maps = explain.saliency(model, images, [0, 2], method=explain.Center(0.25))
    down, right = np.arange(9) / 9 - 4 / 9, np.arange(7) / 7 - 3 / 7
    expected = np.exp(-(down[:, None] ** 2 + right**2) / (2 * 0.25**2))
    np.testing.assert_allclose(maps, [expected] * 2, atol=1e-6)
    with pytest.raises(ValueError, match="spread must be a number > 0"):
        explain.Center(0)


def test_integrated_gradients_add_up_to_the_rise_of_the_score(net):
    model, weights = net
    x, blank = common.images() / 255, 0.25
    method = explain.IntegratedGradients(64, blank)
    way = [blank + (m + 0.5) / 64 * (x - blank) for m in range(64)]
    parts = (x - blank) * np.mean([gradient(one, weights) for one in way], axis=0)
    expected = abs(parts.sum(axis=-1))
    np.testing.assert_allclose(found(model, method), expected, atol=1e-5)
    rise = scores(x, weights) - scores(np.full(x.shape, blank), weights)
    np.testing.assert_allclose(parts.sum(axis=(1, 2, 3)), rise, atol=0.02)


def test_smooth_grad_is_the_mean_over_noise(net):
    model, weights = net
    x = common.images() / 255
    noise = np.random.default_rng(5).standard_normal((4, 9, 9, 2), dtype="float32")
    spread = np.ptp(x, axis=(1, 2, 3), keepdims=True)
    noisy = [x + 0.2 * spread * one for one in noise]
    plain = np.mean([abs(gradient(one, weights)).max(axis=-1) for one in noisy], axis=0)
    method = explain.SmoothGrad(samples=4, noise=0.2, seed=5)
    np.testing.assert_allclose(found(model, method), plain, atol=1e-5)
    around = explain.SmoothGrad(explain.HiResCAM(), samples=4, noise=0.2, seed=5)
    cams = []
    for one in noisy:
        outputs, reached, _ = reference.backward(one, weights, ONES, TARGETS)
        cams.append(enlarged(relu((outputs[-1] * reached[-1]).sum(axis=-1))))
    np.testing.assert_allclose(found(model, around), np.mean(cams, axis=0), atol=1e-5)


def test_smooth_grad_runs_the_loop_of_feedback(net):
    method = explain.SmoothGrad("feedback", samples=2)
    assert found(net[0], method).max() > 0


def test_occlusion_is_the_fall_of_the_posterior(net):
    model, weights = net
    x = common.images() / 255
    side, step = 4, 2  # 0.45 of 9 pixels, and half of it
    fall, count = np.zeros((3, 9, 9)), np.zeros((9, 9))
    for top in range(-1, 9 - 1, step):
        for left in range(-1, 9 - 1, step):
            square = np.zeros((9, 9), bool)
            square[max(0, top) : top + side, max(0, left) : left + side] = True
            covered = np.where(square[None, :, :, None], 0.5, x)
            drop = posteriors(x, weights) - posteriors(covered, weights)
            fall += drop[:, None, None] * square
            count += square
    method = explain.Occlusion(window=0.45, stride=0.5, baseline=0.5)
    assert count.min() > 0
    np.testing.assert_allclose(found(model, method), relu(fall / count), atol=1e-5)


def test_rise_is_the_mean_of_masks_by_what_they_leave(net):
    model, weights = net
    x = common.images() / 255
    random = np.random.default_rng(3)
    grids = (random.uniform(size=(20, 4, 4, 1)) < 0.4).astype("float32")
    starts = random.integers(0, [3, 3], (20, 2))
    expected = 0
    for grid, (top, left) in zip(grids, starts, strict=True):
        large = ops.convert_to_numpy(ops.image.resize(grid[None], (12, 12)))[0]
        mask = large[top : top + 9, left : left + 9]
        expected += posteriors(x * mask, weights)[:, None, None] * mask[..., 0]
    method = explain.RISE(masks=20, grid=3, share=0.4, seed=3)
    np.testing.assert_allclose(
        found(model, method), expected / (20 * 0.4), rtol=1e-4, atol=1e-6
    )


def test_smooth_grad_cuts_boxes_as_its_method_does():
    for method in (explain.Feedback(), explain.Feedback(readout="gradient"), "rise"):
        expected = explain.get_method(method).energy
        assert explain.SmoothGrad(method).energy == expected


def test_a_baseline_is_one_finite_number():
    for method in (explain.IntegratedGradients, explain.Occlusion):
        for value in (np.zeros(3), math.inf, math.nan):
            with pytest.raises(ValueError, match="baseline must be a number that is f"):
                method(baseline=value)


@pytest.mark.parametrize(
    ("window", "stride"), [(0.1, 1), (0.3, 0.9), (0.5, 1), (0.75, 0.8), (1, 0.01)]
)
def test_squares_of_every_size_and_step_cover_all_pixels(net, window, stride):
    model, _ = net
    explainer = explain.Explainer(model, explain.Occlusion(window, stride))
    maps = explainer.saliency(np.ones((1, 9, 9, 2)), [0])
    assert np.isfinite(maps).all()


def test_a_square_as_large_as_the_image_hides_all_of_it(net):
    model, images = net[0], common.images(2)
    explainer = explain.Explainer(model, explain.Occlusion(1, 1), preprocess="scale")
    own, none = (explainer.predict(x)[:, 0] for x in (images, images * 0))
    fall = np.maximum(own - none, 0)[:, None, None]
    found = explainer.saliency(images, [0, 0])
    np.testing.assert_allclose(found, fall * np.ones((1, 9, 9)), atol=1e-6)
