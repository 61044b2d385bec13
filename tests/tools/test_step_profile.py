import csv

import pytest

from tests import harness
from tools import step_profile

pytestmark = harness.tensorflow_only


def test_a_training_step_is_mostly_convolutions(tmp_path, capsys):
    path = tmp_path / "rows.csv"
    settings = step_profile.Settings(
        model="lnin",
        batch_size=2,
        steps=2,
        mode=("training",),
        precisions=("float32",),
        csv=str(path),
    )
    step_profile.main(settings)
    with path.open() as file:
        rows = {row["kind"]: row for row in csv.DictReader(file)}
    assert sum(float(row["share"]) for row in rows.values()) == pytest.approx(
        1, abs=0.01
    )
    for name in ("forward", "gradient of inputs", "gradient of kernels"):
        assert float(rows[f"convolutions, {name}"]["ms"]) > 0
    assert "matrix products" not in rows  # it has no dense layer
    assert all("convolutions" in name for name in list(rows)[:3])
    assert "convolutions, forward" in capsys.readouterr().out


@pytest.mark.parametrize(
    "operation, kind",
    [
        ("Conv2D", "convolutions, forward"),
        ("_MklNativeFusedConv2D", "convolutions, forward"),
        ("_MklNativeConv2DBackpropFilter", "convolutions, gradient of kernels"),
        ("Conv2DBackpropInput", "convolutions, gradient of inputs"),
        ("DepthwiseConv2dNative", "convolutions, forward"),
        (
            "DepthwiseConv2dNativeBackpropFilter",
            "convolutions, gradient of kernels",
        ),
        ("_MklNativeFusedBatchNormGradV3", "batch norms"),
        ("SigmoidGrad", "element by element"),
        ("AddN", "sums"),
        ("ConcatV2", "copies"),
        ("ResourceGather", "other operations"),
    ],
)
def test_kinds(operation, kind):
    assert step_profile.kind(operation) == kind
