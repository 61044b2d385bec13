"""Layers, models, attacks and checkpoints once more, on the JAX backend."""

import os
import pathlib
import subprocess
import sys
import xml.etree.ElementTree

import keras
import pytest

from tests import harness

REPOSITORY = pathlib.Path(__file__).parents[2]
CHECKPOINTS = "tests/applications/train/test_checkpoints.py"
PLACES = ["tests/layers", "tests/models", "tests/test_attacks.py", CHECKPOINTS]
# Most of the time goes into compiling operations that then run once.
QUICK = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"

# Of what every layer and model must satisfy, that its numbers and shapes are right.
NUMBERS = "forward or shape or gradients and (all or not timestep)"
ATTACKS = "closed_form or one_full_step or timesteps or count or any_keras or whole"
QUICKLY = f"harness and ({NUMBERS}) or test_attacks and ({ATTACKS}) or goes_back_one"
POLICIES = ",".join(harness.POLICIES)


BFLOAT16 = """
import keras, numpy as np
from kfeedback.models.backbones import VGGSmall

images = np.random.default_rng(0).normal(size=(8, 32, 32, 3)).astype("float32")
found = []
for policy in ("float32", "mixed_bfloat16"):
    keras.utils.set_random_seed(0)
    keras.config.set_dtype_policy(policy)
    network = VGGSmall(weights=None, width=0.25)
    found.append(network.predict(images, verbose=0))
print(np.abs(found[1] - found[0]).max() / found[0].max())
"""


@pytest.mark.slow
def test_bfloat16_is_right_on_a_processor():
    """JAX 0.11.2 and 0.12.0 are wrong by as much as the values; see setup.cfg."""
    pytest.importorskip("jax")
    result = subprocess.run(
        [sys.executable, "-c", BFLOAT16],
        env={**os.environ, "KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"},
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr[-2000:]
    assert float(result.stdout.splitlines()[-1]) < 0.02


@pytest.mark.skipif(keras.backend.backend() == "jax", reason="this is it")
@pytest.mark.parametrize(
    ("chosen", "policies", "least"),
    [
        (QUICKLY, "float32", 80),
        pytest.param(f"harness and ({NUMBERS})", POLICIES, 65, marks=pytest.mark.slow),
        pytest.param(
            f"harness and not ({NUMBERS})", POLICIES, 100, marks=pytest.mark.slow
        ),
        pytest.param("not harness", POLICIES, 150, marks=pytest.mark.slow),
    ],
)
def test_layers_models_and_checkpoints_pass_under_jax(
    tmp_path, chosen, policies, least
):
    """By default numbers in float32 and damages; the rest is slow."""
    pytest.importorskip("jax")
    report = tmp_path / "report.xml"
    command = [sys.executable, "-m", "pytest", *PLACES, "-q", f"--junitxml={report}"]
    result = subprocess.run(
        [*command, "-p", "no:cacheprovider", "-k", chosen],
        env={
            **os.environ,
            "KERAS_BACKEND": "jax",
            "XLA_FLAGS": QUICK,
            "HARNESS_POLICIES": policies,
        },
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stdout[-6000:] + result.stderr[-2000:]
    cases = list(xml.etree.ElementTree.parse(report).iter("testcase"))
    ran = [case for case in cases if case.find("skipped") is None]
    modules = {case.get("classname") for case in ran}
    assert len(ran) >= least, f"only {len(ran)} tests ran"
    assert {"tests.layers.test_feedback", "tests.models.test_lrnet"} <= modules
