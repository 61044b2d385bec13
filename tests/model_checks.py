"""What every model of the package must satisfy, written once.

A model family tests itself in one call, and a failure names the check:

    @pytest.mark.parametrize("check", MODEL_CHECKS)
    def test_harness(check):
        images = harness.random_images((16, 16, 1))
        check_model(LRNetOfMine, images, checks=[check])

All of it runs under the TensorFlow and the JAX backend.
"""

import dataclasses
import pathlib
import tempfile
from collections.abc import Callable

import keras
import numpy as np
from keras import ops

from kfeedback import weights as weights_lib
from kfeedback.losses import TimestepLoss
from tests import fresh_process
from tests.harness import (
    BATCH_ATOL,
    BATCH_RTOL,
    assert_all_flow,
    assert_bit_equal,
    fresh_names,
    gradients,
    randomize,
    run_checks,
    to_numpy,
)
from tests.line_process import LineProcess

# --- Another process -----------------------------------------------------------------


_fresh_process = LineProcess(fresh_process)


def predict_in_fresh_process(model, arrays):
    """What a saved copy of `model` gives in another process for `arrays`."""
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
        reply = _fresh_process.ask(request)
        assert reply["ok"], f"a fresh process cannot load it:\n{reply['error']}"
        with np.load(request["outputs"]) as file:
            return file["arr_0"]


# --- The checks ----------------------------------------------------------------------


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
        reloaded = predict_in_fresh_process(model, [case.images])
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


# The most that predictions may be away from float32's, as a share of their range.
_MIXED = {"mixed_bfloat16": 0.05, "mixed_float16": 0.01}


def _model_mixed_precision(case):
    reference = case.predict(case.build(2))
    for policy, most in _MIXED.items():
        fresh_names(policy)
        model = randomize(case.make(2))
        assert keras.backend.standardize_dtype(model.output.dtype) == "float32"
        result = case.predict(model)
        assert {w.dtype for w in model.weights} == {"float32"}
        error = np.abs(result - reference).max() / np.ptp(reference)
        assert 0 < error < most, f"{policy} is {error:.2g} of the range from float32"


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
    run_checks(_MODEL_CHECKS, checks, case)
