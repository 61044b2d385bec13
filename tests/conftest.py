"""Settings for all tests: quiet, seeded, and nothing left over from another test."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("MPLBACKEND", "Agg")

import keras
import pytest

pytest.register_assert_rewrite(
    "tests.harness", "tests.layer_checks", "tests.model_checks"
)

from tests import harness  # noqa: E402


@pytest.fixture(autouse=True)
def _clean_state():
    """Every test starts from the same seed, names and dtype policy."""
    harness.fresh_names()
    keras.utils.set_random_seed(1)
