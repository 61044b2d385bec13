"""Every config opens with where it is from, its command and what is expected.

That its keys are flags of the program is tested in `test_settings.py`.
"""

import re

import pytest

from tests.applications.command import ROOT

CONFIGS = sorted((ROOT / "applications" / "configs").rglob("*.toml"))
ENTRIES = ["Source", "Command", "Data", "Hardware", "Time", "Expected"]


@pytest.mark.parametrize("file", CONFIGS, ids=lambda file: file.stem)
def test_header(file):
    header = file.read_text().split("\n\n")[0]
    assert re.findall(r"^# ([A-Z]\w+)  +\S", header, re.M) == ENTRIES
    program, name = re.search(r"-m (\S+) --config=(\w+)", header).groups()
    assert program in ("applications.train", "applications.robustness")
    assert name == file.stem
