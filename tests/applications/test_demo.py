import pytest

from tests.applications.command import run


@pytest.mark.slow
def test_demo_runs_to_its_end(tmp_path):
    output = run(
        "applications.demo",
        f"--demo_dir={tmp_path}",
        "--baseline_epochs=1",
        "--further_epochs=1",
    )
    assert "LR-LeNet" in output and "timestep 2" in output
    assert "largest difference" in output
    assert (tmp_path / "lr_lenet" / "top_k.png").stat().st_size > 10_000
    assert (tmp_path / "served" / "1" / "saved_model.pb").exists()
