import keras
import numpy as np
import pytest

from applications.common.optimization import MultiplierSGD, Training, compile_model
from applications.train.network import frozen_batch_norms


def _steps(factor):
    """What one training step adds to the kernels of the layers a and b."""
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


@pytest.mark.parametrize("on, count", [("kernels", 2), ("all", 4)])
def test_weight_decay_is_l2_of_the_chosen_weights(on, count):
    image = keras.Input((3,))
    x = keras.layers.Dense(4)(image)
    x = keras.layers.Reshape((1, 5))(keras.layers.Dense(5, activation="softmax")(x))
    model = keras.Model(image, x)
    for variable in model.trainable_variables:
        variable.assign(np.full(variable.shape, 2.0, "float32"))
    compile_model(model, Training(weight_decay_on=on, weight_decay=0.1), steps=1)
    sizes = [np.prod(v.shape) for v in model.trainable_variables]
    expected = 0.1 / 2 * 4 * sum(sorted(sizes)[-count:])
    np.testing.assert_allclose(float(sum(model.losses)), expected, rtol=1e-5)


def test_frozen_batch_norms_keep_what_they_are_and_thaw():
    image = keras.Input((3,))
    norm = keras.layers.BatchNormalization()
    x = keras.layers.Dense(4, use_bias=False)(image)
    x = keras.layers.Reshape((1, 4))(keras.layers.Softmax()(norm(x)))
    model = keras.Model(image, x)
    images = np.random.default_rng(0).normal(3, 2, (8, 3)).astype("float32")

    def changed():
        before = [v.numpy() for v in model.weights]
        compile_model(model, Training(), steps=1)
        model.train_on_batch(images, np.zeros(8, int))
        return [
            np.any(v.numpy() != old)
            for v, old in zip(model.weights, before, strict=True)
        ]

    with frozen_batch_norms(model):
        assert changed() == [True] + 4 * [False]
    assert norm.trainable
    with pytest.raises(ValueError, match=r"--freeze_batch_norm must .* has none"):
        bare = keras.Model(image, keras.layers.Dense(2)(image))
        frozen_batch_norms(bare).__enter__()
    assert changed() == 5 * [True]
