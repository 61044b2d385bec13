import json
import math
import pathlib

import keras
import numpy as np
import pytest

from applications.common import command_line, machine, optimization
from applications.common.optimization import (
    MultiplierSGD,
    Training,
    compile_model,
    precision_policy,
)
from applications.train.network import frozen_batch_norms
from applications.train.run import Run
from applications.train.settings import Settings
from kfeedback import CliqueNet, FeedbackConvLSTMNet
from kfeedback.losses import TimestepLoss


def _steps(factor, clip_norm=None):
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
    optimizer = MultiplierSGD(
        0.1, momentum=0.9, multipliers={"b/": factor}, global_clipnorm=clip_norm
    )
    net.compile(optimizer, "mse")
    images = np.random.default_rng(0).normal(size=(8, 3)).astype("float32")
    net.train_on_batch(images, np.ones((8, 2), "float32"))
    after = [keras.ops.convert_to_numpy(v) for v in net.trainable_variables]
    return [new - old for new, old in zip(after, before, strict=True)]


@pytest.mark.parametrize("clip_norm", [None, 0.05])
@pytest.mark.parametrize("factor", [5.0, 0.1])
def test_the_factor_scales_the_steps_of_its_variables_only(factor, clip_norm):
    """Also where the norm of the gradients is clipped, which it is no part of."""
    plain, scaled = _steps(1.0, clip_norm), _steps(factor, clip_norm)
    if clip_norm:
        norm = math.sqrt(sum(np.square(step).sum() for step in plain))
        assert norm == pytest.approx(0.1 * clip_norm, rel=1e-3)
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
    model.layers[1].trainable = False  # what somebody froze is no statistics
    with frozen_batch_norms(model):
        pass
    model.layers[1].trainable = True
    with pytest.raises(ValueError, match=r"--freeze_batch_norm must .* has none"):
        bare = keras.Model(image, keras.layers.Dense(2)(image))
        frozen_batch_norms(bare).__enter__()
    assert changed() == 5 * [True]


@pytest.mark.parametrize(
    "factory, arguments",
    [
        (CliqueNet, {"filters": 4, "layers": 6}),
        (FeedbackConvLSTMNet, {"cells": [[[4, 1]]]}),
    ],
)
def test_batch_norms_inside_other_layers_are_not_half_frozen(factory, arguments):
    network = factory(**arguments)
    with pytest.raises(ValueError, match=r"--freeze_batch_norm .* all of layers Batch"):
        frozen_batch_norms(network).__enter__()
    assert all(layer.trainable for layer in network.layers)


def rates(steps=100, **flags):
    """The learning rate at every step of a run."""
    found = optimization.schedule(Training(lr=0.4, **flags), steps, 0.4)
    if isinstance(found, float):
        return np.full(steps + 1, found)
    again = keras.optimizers.schedules.deserialize(
        keras.optimizers.schedules.serialize(found)
    )
    both = [
        [float(keras.ops.convert_to_numpy(one(step))) for step in range(steps + 1)]
        for one in (found, again)
    ]
    assert both[0] == both[1]
    return np.array(both[0])


def half_cosine(start, end, steps):
    share = np.arange(steps + 1) / steps
    return end + (start - end) * (1 + np.cos(np.pi * share)) / 2


def test_schedules():
    ramp = 0.4 * np.arange(20) / 20
    np.testing.assert_allclose(rates(), np.full(101, 0.4))
    np.testing.assert_allclose(rates(schedule="constant", lr_drops=(0.5,)), rates())
    steps = np.repeat([0.4, 0.04, 0.004], [51, 25, 25])
    np.testing.assert_allclose(rates(lr_drops=(0.5, 0.75)), steps, rtol=1e-6)
    found = rates(lr_drops=(0.5, 0.75), warmup=0.2)
    np.testing.assert_allclose(found[:20], ramp, rtol=1e-6)
    np.testing.assert_allclose(found[20:], steps[20:], rtol=1e-6)
    found = rates(schedule="constant", warmup=0.2)
    np.testing.assert_allclose(found, [*ramp, *np.full(81, 0.4)], rtol=1e-6)
    cosine = half_cosine(0.4, 0, 100)
    np.testing.assert_allclose(rates(schedule="cosine"), cosine, atol=1e-6)
    found = rates(schedule="cosine", warmup=0.2)
    np.testing.assert_allclose(found[:20], ramp, atol=1e-6)
    np.testing.assert_allclose(found[20:], half_cosine(0.4, 0, 80), atol=1e-6)
    found = rates(schedule="one_cycle")
    np.testing.assert_allclose(found[:30], np.linspace(0.016, 0.4, 31)[:30], atol=1e-6)
    np.testing.assert_allclose(found[30:], half_cosine(0.4, 1.6e-6, 70), atol=1e-6)


def test_warm_up_shorter_than_a_step_is_none():
    np.testing.assert_allclose(rates(3, warmup=0.1), 0.4)
    assert np.all(np.isfinite(rates(1, schedule="one_cycle")))


def two_timesteps(seed=0):
    """A network `(B, 8, 8, 3) → (B, 2, 10)` with a layer that is called feedback."""
    keras.utils.set_random_seed(seed)
    image = keras.Input((8, 8, 3))
    x = keras.layers.Dense(8, activation="relu", name="first")(
        keras.layers.Flatten()(image)
    )
    x = keras.layers.Dense(20, name="emphasis_feedback")(x)
    x = keras.layers.Reshape((2, 10))(x)
    return keras.Model(image, keras.layers.Softmax(dtype="float32")(x))


def batch():
    rng = np.random.default_rng(0)
    images = rng.normal(size=(16, 8, 8, 3)).astype("float32")
    return images, rng.integers(10, size=16).astype("int32")


def step(model, *data, **flags):
    """What one training step of some flags adds to the weights, joined."""
    flags = {"weight_decay": 0.0, "lr": 0.1, **flags}
    compile_model(model, Training(**flags), 10)
    before = [keras.ops.convert_to_numpy(v) for v in model.trainable_variables]
    model.train_on_batch(*data)
    after = [keras.ops.convert_to_numpy(v) for v in model.trainable_variables]
    return [b - a for a, b in zip(before, after, strict=True)]


def test_gradients_are_clipped_together():
    free = step(two_timesteps(), *batch())
    norm = math.sqrt(sum(np.sum(np.square(part)) for part in free))
    bound = 0.1 * 0.5
    assert norm > bound
    clipped = step(two_timesteps(), *batch(), clip_norm=0.5)
    for a, b in zip(free, clipped, strict=True):
        np.testing.assert_allclose(b, a * bound / norm, rtol=1e-4, atol=1e-7)
    for flags in ({"optimizer": "adam"}, {"nesterov": True}):
        model = two_timesteps()
        step(model, *batch(), clip_norm=0.5, **flags)
        assert model.optimizer.global_clipnorm == 0.5


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_fit_ends_with_the_moving_average_of_the_weights(optimizer):
    model, (images, labels) = two_timesteps(), batch()
    first = model.get_weights()[0]
    seen = []

    class Look(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            seen.append(model.get_weights()[0])

    settings = Training(ema=0.75, optimizer=optimizer, lr=0.05, weight_decay=0.0)
    compile_model(model, settings, 2)
    model.fit(
        images, labels, batch_size=8, shuffle=False, verbose=0, callbacks=[Look()]
    )
    # Keras begins with the weights after the first step.
    found = model.get_weights()[0]
    np.testing.assert_allclose(found, 0.75 * seen[0] + 0.25 * seen[1], atol=1e-6)
    assert np.abs(found - seen[1]).max() > 1e-4
    assert np.abs(0.75 * (first - seen[0])).max() > 1e-4  # which it would differ by


def test_smoothed_and_mixed_labels_go_through_the_loss_of_timesteps():
    model, (images, labels) = two_timesteps(), batch()
    plain = Training(weight_decay=0.0)
    compile_model(model, plain, 1)
    sparse = model.evaluate(images, labels, verbose=0, return_dict=True)
    posteriors = model.predict(images, verbose=0)
    log = np.log(posteriors)

    smoothed = Training(weight_decay=0.0, label_smoothing=0.2)
    compile_model(model, smoothed, 1)
    soft = 0.8 * np.eye(10)[labels] + 0.02
    expected = -np.einsum("bc,btc->", soft, log) / 16
    for given in (labels, np.eye(10, dtype="float32")[labels]):
        found = model.evaluate(images, given, verbose=0, return_dict=True)
        np.testing.assert_allclose(found.pop("loss"), expected, rtol=1e-5)
        losses = [found.pop("loss_t1"), found.pop("loss_t2")]
        np.testing.assert_allclose(sum(losses), expected, rtol=1e-5)
        assert found == {k: v for k, v in sparse.items() if "loss" not in k}

    mixing = Training(weight_decay=0.0, augment={"mixup": 0.2})
    compile_model(model, mixing, 1)
    found = model.evaluate(images, labels, verbose=0)[0]
    np.testing.assert_allclose(found, sparse["loss"], rtol=1e-5)
    mixed = 0.3 * np.eye(10)[labels] + 0.7 * np.eye(10)[labels[::-1]]
    found = model.evaluate(images, mixed.astype("float32"), verbose=0)[0]
    expected = -np.einsum("bc,btc->", mixed, log) / 16
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    loss = TimestepLoss("categorical_crossentropy")
    np.testing.assert_allclose(float(loss(mixed, posteriors)), expected, rtol=1e-5)


def test_labels_of_several_classes_are_smoothed():
    model, (images, _) = two_timesteps(), batch()
    labels = np.random.default_rng(1).integers(2, size=(16, 10))
    compile_model(model, Training(label_smoothing=0.2, weight_decay=0.0), 1, True)
    soft, found = 0.8 * labels + 0.1, model.predict(images, verbose=0)
    soft = soft[:, None]
    cross = -(soft * np.log(found) + (1 - soft) * np.log(1 - found)).mean((0, 2))
    loss = model.evaluate(images, labels, verbose=0)[0]
    np.testing.assert_allclose(loss, cross.sum(), rtol=1e-4)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
@pytest.mark.parametrize(
    "jit", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["", "jit"]
)
def test_multipliers_under_every_precision(policy, jit):
    """Also through the optimizer that scales the loss, and with all else on."""
    flags = {"clip_norm": 100.0, "ema": 0.9, "schedule": "cosine", "jit": jit}
    expected = step(two_timesteps(), *batch())
    keras.config.set_dtype_policy(policy)
    try:
        plain = step(two_timesteps(), *batch(), **flags)
        scaled = step(two_timesteps(), *batch(), feedback_lr_mult=3.0, **flags)
        model = two_timesteps()
        compile_model(model, Training(), 1)
    finally:
        keras.config.set_dtype_policy("float32")
    scales = isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
    assert scales == (policy == "mixed_float16")
    for k, (one, other, exact) in enumerate(zip(plain, scaled, expected, strict=True)):
        assert one.dtype == np.float32
        np.testing.assert_allclose(one, exact, rtol=0.1, atol=2e-3)
        factor = 3 if k >= 2 else 1
        np.testing.assert_allclose(other, factor * one, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(
    ("text", "has"),
    [
        ("flags : fpu amx_bf16", True),
        ("avx512_bf16 x", True),
        ("fpu avx512_fp16", False),
    ],
)
def test_auto_is_bfloat16_where_the_processor_has_it(monkeypatch, text, has):
    monkeypatch.setattr(pathlib.Path, "read_text", lambda path: text)
    monkeypatch.setattr(pathlib.Path, "exists", lambda path: True)
    if not machine.accelerators():
        assert machine.has_bfloat16() == has
    monkeypatch.setattr(machine, "has_bfloat16", lambda: has)
    expected = "mixed_bfloat16" if has else "float32"
    assert precision_policy("auto") == expected
    assert precision_policy("bfloat16") == "mixed_bfloat16"
    assert precision_policy("float16") == "mixed_float16"
    assert precision_policy("none") == precision_policy(None) == "float32"


@pytest.mark.parametrize(("old", "new"), [(True, "bfloat16"), (False, "none")])
def test_runs_and_configs_of_earlier_versions_are_read(tmp_path, old, new):
    (tmp_path / "old.toml").write_text(f"mixed_precision = {str(old).lower()}\n")
    config = f"--config={tmp_path / 'old.toml'}"
    settings = parse(config, f"--output_dir={tmp_path}")
    assert settings.mixed_precision == new
    flags = settings.as_flags() | {"mixed_precision": old}
    (tmp_path / "run.json").write_text(json.dumps({"flags": flags}))
    (tmp_path / "checkpoints").mkdir()
    assert Run(settings).finished is None  # it goes on: nothing differs
    with pytest.raises(ValueError, match=r"--lr must be 0\.01, as in the run"):
        Run(parse(config, f"--output_dir={tmp_path}", "--lr=0.02"))


def parse(*arguments):
    return command_line.parse(Settings, ["--output_dir=x", *arguments])


REFUSED = {
    "--schedule=linear": "--schedule must be one of constant, steps, cosine, one_cycle",
    "--schedule=steps": "--lr_drops must be given with --schedule=steps, got none.",
    "--schedule=cosine --lr_drops=0.5": "--lr_drops must be left out with --schedule=c",
    "--schedule=one_cycle --warmup=0": "--warmup must be > 0 with --schedule=one_cycle",
    "--warmup=1": "--warmup must be a number ≥ 0 and < 1, got '1'.",
    "--ema=1": "--ema must be a number ≥ 0 and < 1, got '1'.",
    "--clip_norm=0": "--clip_norm must be a number > 0, got '0'.",
    "--label_smoothing=1": "--label_smoothing must be a number ≥ 0 and < 1, got '1'.",
    "--mixed_precision=int8": "--mixed_precision must be one of none, bfloat16, float1",
    "--jit --distribution=mirrored": "--jit must be left out with --distribution=mirro",
    "--shift_fill=zero": "--shift_fill must be left out with --shift=0, which has no u",
    "--shift_fill=wrap": "--shift_fill must be one of edge, zero, got 'wrap'.",
    "--random_crop=0.5": "--random_crop must be a least and a greatest share such ",
    "--random_crop=1,0.5": "--random_crop must be a least and a greatest share such ",
    "--random_crop=0,1": "--random_crop must be numbers > 0 and ≤ 1, separated by com",
    "--center_crop=2": "--center_crop must be a number > 0 and ≤ 1, got '2'.",
    '--augment={"mixop":1}': "names in --augment must be one of color_jitter, ",
    '--augment={"mixup":2}': "--augment['mixup'] must be a number > 0 and ≤ 1, got 2.",
    "--augment=mixup": "--augment must be a JSON object, got 'mixup'.",
}


@pytest.mark.parametrize("flags", REFUSED)
def test_bad_recipes_are_one_sentence(flags):
    with pytest.raises(ValueError) as caught:
        parse(*flags.split())
    assert str(caught.value).startswith(REFUSED[flags])
    assert "\n" not in str(caught.value)


def test_recipes_that_are_fine():
    parse("--schedule=cosine", "--warmup=0.05", "--ema=0.999", "--clip_norm=1")
    parse("--random_crop=0.08,1", "--image_size=112", "--center_crop=0.875")
    # A flag of the command line stands against one of a config.
    found = parse("--config=lr_lenet_mnist_bg", "--schedule=cosine")
    assert found.schedule == "cosine" and found.lr_drops == (0.5, 0.75)
    assert parse("--config=lr_lenet_mnist_bg").schedule == "steps"
