"""What every layer of the package must satisfy, written once.

A layer tests itself in one call, and a failure names the check:

    @pytest.mark.parametrize("check", LAYER_CHECKS)
    def test_harness(check):
        check_layer(LayerOfMine, [inputs], checks=[check])

All of it runs under the TensorFlow and the JAX backend.
"""

import dataclasses
import json
import pathlib
import tempfile
from collections.abc import Callable

import keras
import numpy as np
from keras import ops

from tests.harness import (
    BATCH_ATOL,
    BATCH_RTOL,
    POLICIES,
    assert_all_flow,
    assert_bit_equal,
    gradients,
    randomize,
    run_checks,
    to_numpy,
)


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
    run_checks(_LAYER_CHECKS, checks, _LayerCase(layer_factory, inputs, output_dtype))
