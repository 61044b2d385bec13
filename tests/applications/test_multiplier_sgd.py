import keras
import numpy as np
import pytest


def _steps(factor):
    """What one training step adds to the kernels of the layers a and b."""
    from applications._optimization import MultiplierSGD

    keras.utils.set_random_seed(0)
    net = keras.Sequential(
        [
            keras.Input((3,)),
            keras.layers.Dense(4, activation="tanh", name="a"),
            keras.layers.Dense(2, name="b"),
        ]
    )
    before = [keras.ops.convert_to_numpy(v) for v in net.trainable_variables]
    optimizer = MultiplierSGD(0.1, momentum=0.9, multipliers={"b/": factor})
    net.compile(optimizer, "mse")
    images = np.random.default_rng(0).normal(size=(8, 3)).astype("float32")
    net.train_on_batch(images, np.ones((8, 2), "float32"))
    after = [keras.ops.convert_to_numpy(v) for v in net.trainable_variables]
    return [new - old for new, old in zip(after, before, strict=True)]


@pytest.mark.parametrize("factor", [5.0, 0.1])
def test_the_factor_scales_the_steps_of_its_variables_only(factor):
    plain, scaled = _steps(1.0), _steps(factor)
    for index, expected in enumerate([1, 1, factor, factor]):
        assert np.any(plain[index])
        np.testing.assert_allclose(
            scaled[index], expected * plain[index], rtol=1e-3, atol=1e-6
        )
