"""Every config opens with its command and what is expected, and its keys are flags."""

import re

from tests.applications.command import ROOT, run_each

CONFIGS = sorted((ROOT / "applications" / "configs").glob("*.toml"))
ENTRIES = ["Source", "Command", "Data", "Hardware", "Time", "Expected"]


def test_configs():
    lines = {}
    for file in CONFIGS:
        header = file.read_text().split("\n\n")[0]
        assert re.findall(r"^# ([A-Z]\w+)  +\S", header, re.M) == ENTRIES, file
        program, name = re.search(r"-m (\S+) --config=(\w+)", header).groups()
        assert name == file.stem
        # A data set that is not there ends the program after it has read its flags.
        flags = [f"--config={name}", "--dataset=nowhere", "--output_dir=/nonexistent/x"]
        if program == "applications.robustness":
            flags.append("--models=nowhere.keras")
        lines.setdefault(program, []).append(flags)
    assert set(lines) == {"applications.train", "applications.robustness"}
    for program, command_lines in lines.items():
        for flags, (code, output) in zip(
            command_lines, run_each(program, command_lines), strict=True
        ):
            assert code == 1 and "nowhere" in output, (flags, output)
            assert "--config" not in output, (flags, output)
