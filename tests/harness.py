"""What every layer and every model of the package must satisfy, written once.

A model family tests itself in one call, and a failure names the check:

    @pytest.mark.parametrize("check", harness.MODEL_CHECKS)
    def test_harness(check):
        images = harness.random_images((16, 16, 1))
        harness.check_model(LRNetOfMine, images, checks=[check])

All of it runs under the TensorFlow and the JAX backend.
"""

import atexit
import dataclasses
import json
import pathlib
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Callable

import keras
import numpy as np
import pytest
from keras import ops

from kfeedback import weights as weights_lib
from kfeedback.losses import TimestepLoss
from tests import fresh_process

# A batch of 8 and 8 single images are matrix products of other shapes, so sums run in
# another order: float32 probabilities differ in their last bits, never by more.
BATCH_RTOL, BATCH_ATOL = 2e-5, 2e-6

# JAX compiles each operation for each shape; what takes it long runs elsewhere.
tensorflow_only = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="slow on other backends"
)

POLICIES = ("float32", "mixed_bfloat16", "mixed_float16")


# --- Tools ---------------------------------------------------------------------------


def fresh_names(policy="float32"):
    """Forgets the names that Keras has given, as a new process would."""
    keras.backend.clear_session(free_memory=False)  # this resets the policy, too
    keras.config.set_dtype_policy(policy)


def random_images(shape, count=8, seed=0):
    """`count` images with pixels in [-1, 1]."""
    uniform = np.random.default_rng(seed).uniform
    return uniform(-1, 1, (count, *shape)).astype("float32")


def to_numpy(value):
    """A float32 array of a tensor of any float dtype."""
    return ops.convert_to_numpy(ops.cast(value, "float32"))


def randomize(layer, seed=0):
    """Gives every float weight a random value that depends on its path and the seed.

    So weights that start at zero take part, and models that share paths share
    values. Variances stay positive and scales stay near 1, to keep signals alive.
    """
    for variable in layer.weights:
        if "float" not in variable.dtype:
            continue
        random = np.random.default_rng([seed, zlib.crc32(variable.path.encode())])
        shape = tuple(variable.shape)
        name = variable.path.rsplit("/", 1)[-1]
        if "variance" in name:
            value = random.uniform(0.5, 1.5, shape)
        elif name == "gamma":
            value = random.uniform(0.7, 1.3, shape)
        elif len(shape) > 1:
            # The last axis of a depthwise kernel is no sum's result.
            inputs = np.prod(shape[:-1] if shape[-1] > 1 else shape[:-2])
            value = random.normal(0, np.sqrt(2 / inputs), shape)
        else:
            value = random.normal(0, 0.1, shape)
        variable.assign(value.astype("float32"))
    for one in layer._flatten_layers():
        if isinstance(one, keras.layers.Normalization):
            one.finalize_state()  # it keeps what follows from its weights
    return layer


def settle(model, images):
    """Sets the statistics of every batch norm to those of `images`.

    In a deep network with random statistics signals fade or explode, and then every
    image gives one prediction, which hides faults.
    """
    norms = [
        layer
        for layer in model._flatten_layers()
        if isinstance(layer, keras.layers.BatchNormalization)
    ]
    momenta = [layer.momentum for layer in norms]
    for layer in norms:
        layer.momentum = 0.0
    model(ops.convert_to_tensor(images), training=True)
    for layer, momentum in zip(norms, momenta, strict=True):
        layer.momentum = momentum
    return model


def gradients(layer, inputs, objective, training=None):
    """Gradients of `objective(layer(*inputs))`, as float32 arrays.

    Returns:
        `(by_path, for_inputs)`: a dict from the path of each trainable weight, and a
        list with one array for each input. `None` stands for no gradient at all.
    """
    inputs = [ops.convert_to_tensor(x) for x in inputs]
    if not layer.built:
        layer(*inputs)
    variables = layer.trainable_variables
    kwargs = {} if training is None else {"training": training}
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape() as tape:
            tape.watch(inputs)
            value = objective(layer(*inputs, **kwargs))
        found = tape.gradient(value, [v.value for v in variables] + inputs)
    else:
        import jax

        def function(trainable, inputs):
            fixed = [v.value for v in layer.non_trainable_variables]
            outputs, _ = layer.stateless_call(trainable, fixed, *inputs, **kwargs)
            return objective(outputs)

        values = [v.value for v in variables]
        for_weights, for_inputs = jax.grad(function, (0, 1))(values, inputs)
        found = [*for_weights, *for_inputs]
    arrays = [None if g is None else to_numpy(g) for g in found]
    paths = [v.path for v in variables]
    assert len(set(paths)) == len(paths), f"weights share a path: {paths}"
    return dict(zip(paths, arrays, strict=False)), arrays[len(paths) :]


def assert_all_flow(found, what):
    """Asserts that every gradient is there, finite and not zero everywhere."""
    assert found, f"{what}: nothing to train"
    missing = [name for name, g in found.items() if g is None]
    assert not missing, f"{what}: no gradient for {missing}"
    wild = [name for name, g in found.items() if not np.isfinite(g).all()]
    assert not wild, f"{what}: gradient is not finite for {wild}"
    zero = [name for name, g in found.items() if not np.any(g)]
    assert not zero, f"{what}: gradient is zero for {zero}"


def assert_bit_equal(actual, expected, what):
    """Asserts equal shapes and bits."""
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.shape == expected.shape, f"{what}: {actual.shape}, {expected.shape}"
    difference = np.abs(actual.astype("float64") - expected.astype("float64"))
    assert np.array_equal(actual, expected), f"{what}: differ by {difference.max()}"


def assert_one_sentence(error, argument):
    """Asserts that an error is one sentence that starts with the argument's name."""
    text = str(error)
    assert "\n" not in text, text
    assert text.startswith(argument), f"does not start with {argument!r}: {text}"
    assert text.endswith("."), f"is no sentence: {text}"
    assert "got" in text or "do not fit" in text, f"does not say what it got: {text}"
    # A point followed by a space ends a sentence.
    assert ". " not in text, f"is more than one sentence: {text}"


class _FreshProcess:
    """One other Python process that reloads models, started when first needed."""

    def __init__(self):
        self.process = None

    def predict(self, model, arrays):
        """What a saved copy of `model` gives there for `arrays`."""
        with tempfile.TemporaryDirectory() as folder:
            folder = pathlib.Path(folder)
            request = {
                "model": str(folder / "model.keras"),
                "inputs": str(folder / "inputs.npz"),
                "outputs": str(folder / "outputs.npz"),
            }
            model.save(request["model"])
            named = {f"input_{i:03}": array for i, array in enumerate(arrays)}
            np.savez(request["inputs"], **named)
            reply = self._ask(request)
            assert reply["ok"], f"a fresh process cannot load it:\n{reply['error']}"
            with np.load(request["outputs"]) as file:
                return file["arr_0"]

    def _ask(self, request):
        if self.process is None:
            # It inherits KERAS_BACKEND and the working directory with the package.
            self.process = subprocess.Popen(
                [sys.executable, "-m", fresh_process.__name__],
                cwd=pathlib.Path(__file__).parents[1],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            atexit.register(self.stop)
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        for line in self.process.stdout:
            if line.startswith(fresh_process.PREFIX):
                return json.loads(line.removeprefix(fresh_process.PREFIX))
        raise AssertionError("the fresh process died; its error is on stderr")

    def stop(self):
        self.process.stdin.close()
        self.process.wait(timeout=30)


in_fresh_process = _FreshProcess()


def _run(checks, wanted, case):
    """Runs the wanted checks; an error says which one it was."""
    for name in checks if wanted is None else wanted:
        try:
            checks[name](case)
        except Exception as error:
            error.add_note(f"harness check: {name}")
            raise


# --- Layers --------------------------------------------------------------------------


@dataclasses.dataclass
class _LayerCase:
    factory: Callable
    inputs: tuple
    output_dtype: str | None

    def make(self, seed=0, **kwargs):
        layer = self.factory(**kwargs)
        self(layer)
        return randomize(layer, seed)

    def __call__(self, layer):
        return layer(*(ops.convert_to_tensor(x) for x in self.inputs))

    def symbolic(self, batch=None):
        return [keras.Input(x.shape[1:], batch_size=batch) for x in self.inputs]

    def expected_dtype(self, layer):
        return self.output_dtype or layer.compute_dtype


def _layer_config_round_trip(case):
    layer = case.make(seed=1)
    config = keras.saving.serialize_keras_object(layer)
    twin = keras.saving.deserialize_keras_object(json.loads(json.dumps(config)))
    assert type(twin) is type(layer)
    assert twin.get_config() == layer.get_config()
    case(twin)
    assert [w.path for w in twin.weights] == [w.path for w in layer.weights]
    twin.set_weights(layer.get_weights())
    assert_bit_equal(to_numpy(case(twin)), to_numpy(case(layer)), "a copy by config")


def _layer_shape_and_dtype(case):
    for policy in POLICIES:
        layer = case.make(dtype=policy)
        real = case(layer)
        dtype = keras.backend.standardize_dtype(real.dtype)
        assert dtype == case.expected_dtype(layer), policy
        for batch in (len(case.inputs[0]), None):
            symbolic = layer(*case.symbolic(batch))
            assert tuple(symbolic.shape) == (batch, *real.shape[1:]), policy
            assert keras.backend.standardize_dtype(symbolic.dtype) == dtype, policy
        shape = layer.compute_output_shape(*(x.shape for x in case.inputs))
        assert tuple(shape) == tuple(real.shape)


def _layer_policies(case):
    reference = to_numpy(case(case.make(dtype="float32")))
    assert np.isfinite(reference).all()
    for policy in POLICIES[1:]:
        layer = case.make(dtype=policy)
        assert {w.dtype for w in layer.weights} <= {"float32"}
        result = to_numpy(case(layer))
        # 8 bits of mantissa, through a few roundings.
        error = np.abs(result - reference).max()
        assert error <= 0.05 * np.abs(reference).max(), f"{policy} is off by {error}"


def _layer_gradients(case):
    for policy in POLICIES:
        layer = case.make(dtype=policy)
        random = np.random.default_rng(2)
        weights = random.normal(size=case(layer).shape).astype("float32")

        def objective(outputs, weights=weights):
            return ops.sum(ops.cast(outputs, "float32") * weights)

        by_path, for_inputs = gradients(layer, case.inputs, objective)
        assert len(by_path) == len(layer.trainable_weights)
        inputs = {f"input {i}": g for i, g in enumerate(for_inputs)}
        assert_all_flow({**by_path, **inputs}, policy)


def _layer_saving(case):
    inputs = case.symbolic()
    layer = case.factory()
    model = keras.Model(inputs, layer(*inputs))
    randomize(layer)
    expected = to_numpy(model(list(case.inputs)))
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "model.keras"
        model.save(path)
        again = keras.models.load_model(path)
    assert_bit_equal(to_numpy(again(list(case.inputs))), expected, "a reloaded model")


def _layer_batch(case):
    layer = case.make()
    whole = to_numpy(case(layer))
    assert_bit_equal(to_numpy(case(layer)), whole, "a second call")
    for i in range(len(whole)):
        single = to_numpy(layer(*(x[i : i + 1] for x in case.inputs)))
        np.testing.assert_allclose(
            single, whole[i : i + 1], rtol=BATCH_RTOL, atol=BATCH_ATOL
        )


_LAYER_CHECKS = {
    "config round trip": _layer_config_round_trip,
    "shape and dtype": _layer_shape_and_dtype,
    "dtype policies": _layer_policies,
    "gradients": _layer_gradients,
    "saving": _layer_saving,
    "batch": _layer_batch,
}
LAYER_CHECKS = tuple(_LAYER_CHECKS)


def check_layer(layer_factory, inputs, *, output_dtype=None, checks=None):
    """Checks a layer.

    Args:
        layer_factory: makes the layer; takes the arguments of `keras.layers.Layer`,
            and names the layer, so that two have weights of one path.
        inputs: arrays for its call, each with the batch first.
        output_dtype: of the result under every policy; the compute dtype by default.
        checks: names out of `LAYER_CHECKS`; all by default.
    """
    inputs = tuple(np.asarray(x, "float32") for x in inputs)
    _run(_LAYER_CHECKS, checks, _LayerCase(layer_factory, inputs, output_dtype))


# --- Models --------------------------------------------------------------------------


@dataclasses.dataclass
class _ModelCase:
    factory: Callable
    images: np.ndarray
    loss: str | Callable
    top: bool
    timesteps: bool

    def make(self, timesteps, sequences=True, **kwargs):
        if self.timesteps:
            kwargs |= {"timesteps": timesteps, "return_sequences": sequences}
        return self.factory(**kwargs)

    def build(self, timesteps, sequences=True, seed=0, **kwargs):
        fresh_names()
        return randomize(self.make(timesteps, sequences, **kwargs), seed)

    def sequence(self, predictions):
        """`(B, T, classes)`, also of a model without timesteps, whose T is 1."""
        return predictions if self.timesteps else predictions[:, None]

    def predict(self, model, images=None):
        images = self.images if images is None else images
        return to_numpy(model(ops.convert_to_tensor(images), training=False))


def _model_forward(case):
    for steps in (1, 2, 3) if case.timesteps else (1,):
        model = case.build(steps)
        result = case.predict(model)
        assert result.shape == (len(case.images), *model.output.shape[1:])
        result = case.sequence(result)
        assert result.shape[1] == steps
        assert np.isfinite(result).all()
        # Another image, another prediction; else the checks below see nothing.
        assert np.ptp(result, axis=0).max() > 1e-4, "all images give one prediction"
    moved = np.abs(np.diff(result, axis=1)).max(axis=(0, 2))
    assert (moved > 1e-5).all(), f"feedback changes nothing: {moved} at each step"


def _model_last_prediction(case):
    model = case.build(3, sequences=False)
    expected = case.predict(case.build(3))[:, -1]
    assert model.output.shape[1:] == expected.shape[1:]
    assert_bit_equal(case.predict(model), expected, "return_sequences=False")


def _model_gradients(case, last_only=False):
    loss = TimestepLoss(case.loss)
    for steps in (2, 3) if case.timesteps else (1,):
        model = case.build(steps)
        labels = np.arange(len(case.images)) % model.output.shape[-1]

        def objective(predictions, labels=labels, steps=steps):
            first = steps - 1 if last_only else 0
            return loss(labels, case.sequence(predictions)[:, first:])

        by_path, for_images = gradients(model, [case.images], objective, training=False)
        assert len(by_path) == len(model.trainable_weights)
        assert_all_flow({**by_path, "images": for_images[0]}, f"timesteps={steps}")


def _model_gradients_last(case):
    _model_gradients(case, last_only=True)


def _model_steps(case):
    whole = case.predict(case.build(3))
    for steps in (1, 2):
        part = case.predict(case.build(steps))
        assert_bit_equal(part, whole[:, :steps], f"timesteps={steps}")


def _model_batch(case):
    model = case.build(3)
    whole = case.predict(model)
    assert len(whole) == 8, "give the harness 8 images"
    singles = [case.predict(model, case.images[i : i + 1]) for i in range(8)]
    np.testing.assert_allclose(
        np.concatenate(singles), whole, rtol=BATCH_RTOL, atol=BATCH_ATOL
    )


def _model_second_call(case):
    model = case.build(3)
    first = case.predict(model)
    case.predict(model, case.images[::-1])  # nothing of these stays behind
    assert_bit_equal(case.predict(model), first, "a second call")


def _model_fresh_process(case):
    for sequences in (True, False):
        model = case.build(2, sequences)
        reloaded = in_fresh_process.predict(model, [case.images])
        assert_bit_equal(reloaded, case.predict(model), "reloaded elsewhere")


def _model_shared_weights(case):
    expected = case.predict(case.build(3))
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "model.h5"
        weights_lib.save(case.build(2, sequences=False), path)
        others = ((1, True), (2, True), (3, False))
        for steps, sequences in others if case.timesteps else [(3, False)]:
            model = case.build(steps, sequences, seed=5)
            before = case.predict(model)
            weights_lib.load(model, path, without_feedback=steps == 1)
            wanted = case.sequence(expected)[:, :steps]
            wanted = wanted if sequences else wanted[:, -1]
            assert not np.array_equal(before, wanted)
            what = f"timesteps={steps} from a file of timesteps=2"
            assert_bit_equal(case.predict(model), wanted, what)


def _model_without_top(case):
    if not case.top:
        return
    maps = case.build(2, False, include_top=False)
    features = case.predict(maps)
    assert features.ndim == 4
    assert features.shape[1:] == maps.output.shape[1:]
    for pooling, axes in (("avg", np.mean), ("max", np.max)):
        model = case.build(2, False, include_top=False, pooling=pooling)
        pooled = case.predict(model)
        assert pooled.shape[1:] == model.output.shape[1:] == features.shape[3:]
        np.testing.assert_allclose(
            pooled, axes(features, axis=(1, 2)), rtol=1e-4, atol=1e-5
        )
        if not case.timesteps:
            continue
        sequence = case.predict(case.build(3, include_top=False, pooling=pooling))
        assert sequence.shape == (len(features), 3, features.shape[3])
        assert_bit_equal(sequence[:, 1], pooled, f"step 2 with pooling={pooling}")
    if not case.timesteps:
        return
    sequence = case.predict(case.build(3, include_top=False))
    assert_bit_equal(sequence[:, 1], features, "step 2 without a top")


def _model_mixed_precision(case):
    reference = case.predict(case.build(2))
    fresh_names("mixed_bfloat16")
    model = randomize(case.make(2))
    assert keras.backend.standardize_dtype(model.output.dtype) == "float32"
    result = case.predict(model)
    assert {w.dtype for w in model.weights} == {"float32"}
    assert np.isfinite(result).all()
    assert np.abs(result - reference).max() < 0.25 * np.abs(reference).max()


_MODEL_CHECKS = {
    "forward": _model_forward,
    "last prediction": _model_last_prediction,
    "gradients of all timesteps": _model_gradients,
    "gradients of the last timestep": _model_gradients_last,
    "step t of T": _model_steps,
    "batch equals singles": _model_batch,
    "second call": _model_second_call,
    "fresh process": _model_fresh_process,
    "shared weights": _model_shared_weights,
    "without top": _model_without_top,
    "mixed precision": _model_mixed_precision,
}
MODEL_CHECKS = tuple(_MODEL_CHECKS)

# Those that say something about a model without timesteps.
FEEDFORWARD_CHECKS = tuple(
    name
    for name in MODEL_CHECKS
    if name not in ("last prediction", "gradients of the last timestep", "step t of T")
)


def check_model(
    factory,
    images,
    *,
    loss="sparse_categorical_crossentropy",
    top=True,
    timesteps=True,
    checks=None,
):
    """Checks a model family at random weights.

    Args:
        factory: makes the model anew at each call, with the same names; takes
            `timesteps`, `return_sequences`, `include_top` and `pooling`.
        images: 8 images; see `random_images`.
        loss: of one prediction, with integer labels.
        top: whether `factory` takes `include_top` and `pooling`.
        timesteps: whether it takes `timesteps` and `return_sequences`; if not, give
            `FEEDFORWARD_CHECKS`.
        checks: names out of `MODEL_CHECKS`; all by default.
    """
    case = _ModelCase(factory, images, loss, top, timesteps)
    _run(_MODEL_CHECKS, checks, case)
