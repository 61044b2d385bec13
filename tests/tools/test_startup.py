import csv

import pytest

from tests import harness
from tools import startup

pytestmark = harness.tensorflow_only


@pytest.mark.slow
def test_every_stage_of_a_family_and_imports_alone(tmp_path, capsys):
    path = tmp_path / "rows.csv"
    settings = startup.Settings(
        models=("lenet", "lrnet"),
        backbone="lenet",
        batch_size=2,
        repeats=1,
        csv=str(path),
    )
    startup.main(settings)
    with path.open() as file:
        imports, lenet, lrnet = csv.DictReader(file)
    assert imports["model"] == "imports"
    assert imports["build"] == imports["first_training_step"] == ""
    for row in (lenet, lrnet):
        assert all(float(row[name]) >= 0 for name in startup.STAGES)
    # Keras with TensorFlow takes seconds, a step of LeNet no time at all.
    assert float(lenet["keras"]) > float(lenet["second_training_step"])
    assert "first_prediction" in capsys.readouterr().out
