"""AlexNet and GoogLeNet; what they share with other backbones is in test_backbones.py.

Their outputs are compared with those of OpenCV in tests/tools/test_convert_caffe.py.
"""

import numpy as np
import pytest

from kfeedback import CRCN, LRNet
from kfeedback.layers import LocalResponseNormalization
from kfeedback.models import registry
from kfeedback.models.backbones import AlexNet, GoogLeNet
from tests import harness
from tests.harness import tensorflow_only
from tests.model_checks import FEEDFORWARD_CHECKS, check_model

# (factory, the images' shape); AlexNet's last feature map has more than one place.
NETWORKS = {"alexnet": (AlexNet, (71, 71, 3)), "googlenet": (GoogLeNet, (64, 64, 3))}
QUICK = {
    "alexnet": ("forward", "gradients of all timesteps", "without top", "second call"),
    "googlenet": ("forward",),
}
# A second for each GoogLeNet that is built, and more for its first call.
EITHER = ["alexnet", pytest.param("googlenet", marks=pytest.mark.slow)]


def thin(name, **kwargs):
    factory, shape = NETWORKS[name]
    return factory(**{"width": 1 / 16, "input_shape": shape, "classes": 4, **kwargs})


@pytest.mark.parametrize(
    "name, check",
    [
        pytest.param(
            name,
            check,
            marks=[tensorflow_only] if check in quick else [pytest.mark.slow],
        )
        for name, quick in QUICK.items()
        for check in FEEDFORWARD_CHECKS
    ],
)
def test_harness(name, check):
    check_model(
        lambda **kwargs: thin(name, **kwargs),
        harness.random_images(NETWORKS[name][1]),
        timesteps=False,
        checks=[check],
    )


@tensorflow_only
def test_sizes_of_the_maps_are_those_of_caffe():
    sides = {
        AlexNet: {"conv1": 55, "pool1": 27, "pool2": 13, "conv5": 13, "pool5": 6},
        GoogLeNet: {
            "conv1_7x7": 112,
            "pool1": 56,
            "pool2": 28,
            "inception_3b_output": 28,
            "inception_4e_output": 14,
            "inception_5b_output": 7,
        },
    }
    for factory, wanted in sides.items():
        model = factory(width=1 / 16)
        found = {name: model.get_layer(name).output.shape[1:3] for name in wanted}
        assert found == {name: (side, side) for name, side in wanted.items()}


@tensorflow_only
def test_pool_first_only_moves_the_normalization():
    names = [
        [x.name for x in thin("alexnet", pool_first=first).layers]
        for first in (False, True)
    ]
    assert sorted(names[0][1:]) == sorted(names[1][1:])
    for number in ("1", "2"):
        orders = [
            [n for n in one if n in (f"norm{number}", f"pool{number}")] for one in names
        ]
        assert orders[0] == orders[1][::-1] == [f"norm{number}", f"pool{number}"]


@tensorflow_only
@pytest.mark.parametrize("name", EITHER)
def test_unknown_sides_without_a_top(name):
    images = harness.random_images((75, 90, 3), 2)
    models = []
    for sides in ((None, None), (75, 90)):
        harness.fresh_names()
        model = thin(name, include_top=False, input_shape=(*sides, 3))
        models.append(harness.randomize(model))
    assert models[0].output.shape[1:3] == (None, None)
    results = [harness.to_numpy(model(images)) for model in models]
    np.testing.assert_allclose(*results, rtol=1e-4, atol=1e-5)


@tensorflow_only
def test_alexnet_without_a_known_size_is_refused():
    with pytest.raises(ValueError) as caught:
        AlexNet(width=1 / 16, input_shape=(None, 227, 3))
    harness.assert_one_sentence(caught.value, "input_shape")


@tensorflow_only
def test_pixels_of_caffe_in_half_precision():
    """Activations are in the hundreds, their squares beyond float16."""
    rng = np.random.default_rng(0)
    images = rng.uniform(-128, 128, (2, 71, 71, 3)).astype("float32")
    results = []
    for policy in ("float32", "mixed_float16"):
        harness.fresh_names(policy)
        model = harness.randomize(thin("alexnet", include_top=False))
        assert isinstance(model.get_layer("norm1"), LocalResponseNormalization)
        results.append(harness.to_numpy(model(images)))
    scale = results[0].max()
    assert scale > 1
    np.testing.assert_allclose(results[1], results[0], atol=0.02 * scale)


@tensorflow_only
@pytest.mark.parametrize("name", EITHER)
def test_lrnet(name):
    backbone = harness.randomize(thin(name))
    images = harness.random_images(NETWORKS[name][1], 2)
    model = LRNet(backbone, timesteps=2, return_sequences=True)
    emphasized = [x.name for x in model.layers if x.name.endswith("_emphasis")]
    assert len(emphasized) == {"alexnet": 5, "googlenet": 20}[name]
    result = harness.to_numpy(model(images))
    expected = harness.to_numpy(backbone(images))
    for step in (0, 1):
        harness.assert_bit_equal(result[:, step], expected, f"step {step}")
    harness.randomize(model, seed=3)
    result = harness.to_numpy(model(images))
    assert np.abs(result[:, 1] - result[:, 0]).max() > 1e-4


LOOPS = {
    "alexnet": [("conv5", "conv3")],
    "googlenet": [
        ("inception_4b_3x3", "inception_3b_3x3"),
        ("inception_5a_output", "inception_4c_output"),
    ],
}


@tensorflow_only
@pytest.mark.parametrize("name", EITHER)
def test_crcn(name):
    backbone = harness.randomize(thin(name))
    images = harness.random_images(NETWORKS[name][1], 2)
    model = CRCN(backbone, loops=LOOPS[name], timesteps=2, return_sequences=True)
    result = harness.to_numpy(model(images))
    expected = harness.to_numpy(backbone(images))
    harness.assert_bit_equal(result[:, 1], expected, "a fresh CRCN")
    harness.randomize(model, seed=3)
    result = harness.to_numpy(model(images))
    assert np.abs(result[:, 1] - result[:, 0]).max() > 1e-5


@tensorflow_only
@pytest.mark.parametrize(
    "name, loops",
    [
        ("alexnet", (1, 2)),
        ("googlenet", (1,)),
        ("alexnet", [("conv2", "conv3")]),
    ],
    ids=str,
)
def test_crcn_refuses(name, loops):
    with pytest.raises(ValueError) as caught:
        CRCN(NETWORKS[name][0](width=1 / 32), loops=loops)
    harness.assert_one_sentence(caught.value, "loops")


@tensorflow_only
def test_by_name():
    model = LRNet("googlenet", input_shape=(32, 32, 3), classes=3, timesteps=1)
    assert model.output.shape == (None, 3)
    assert model.count_params() == GoogLeNet(classes=3).count_params()
    assert {"alexnet", "googlenet"} <= set(registry.backbones())
