import pytest

from tests.applications.command import run_alone
from tools.summarize import summarize


def _row(name, first, second=""):
    return {"experiment": name, "seed": "0", "error_t1": first, "error_t2": second}


def test_mean_and_sample_standard_deviation_per_experiment():
    lines = summarize([_row("a", "1.0"), _row("b", "5", "3"), _row("a", "2.0")])
    assert lines[2] == "| a | 2 | 1.50 ± 0.71 |  |"
    assert lines[3] == "| b | 1 | 5.00 | 3.00 |"


def test_refuses_a_missing_file():
    with pytest.raises(AssertionError, match="one CSV file must be given"):
        run_alone("tools.summarize", "nowhere.csv")
