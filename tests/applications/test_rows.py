import resource
import signal
import subprocess
import sys

import pytest

from applications.common import machine, rows


@pytest.mark.parametrize("end", ["", "\n"])
def test_a_row_never_continues_a_line(tmp_path, end):
    """An editor may leave the last line without an end."""
    path = tmp_path / "rows.csv"
    for number in (1, 2):
        rows.append_rows(path, [{"number": number, "text": "é, ü"}])
        path.write_text(path.read_text().rstrip("\n") + end)
    lines = path.read_text().splitlines()
    assert [line.split(",")[2] for line in lines] == ["number", "1", "2"]


def test_other_columns_are_refused_before_the_work(tmp_path):
    path = tmp_path / "rows.csv"
    rows.check_columns(path, ("number", "text"))
    rows.append_rows(path, [{"number": 1, "text": "a"}])
    with pytest.raises(ValueError, match="--csv must be a file with the columns date"):
        rows.check_columns(path, ("number",), "csv")
    rows.check_columns(None, ("number",))
    rows.append_rows(None, [{"number": 1}])


@pytest.mark.parametrize("last", ["2026-11-27,abc,1", '2026-11-27,abc,1,"a'])
def test_a_row_that_was_cut_off_is_refused(last, tmp_path):
    """The next row would go on in its cell, and the row would count as measured."""
    path = tmp_path / "rows.csv"
    path.write_text(f"date,commit,number,text\n{last}")
    with pytest.raises(ValueError, match=r"^--results must be a .*got .*rows\.csv"):
        rows.check_columns(path, ("number", "text"))
    assert path.read_text().endswith(last)


def test_a_full_disk_leaves_whole_rows(tmp_path):
    path = tmp_path / "rows.csv"
    rows.append_rows(path, [{"number": 1}])
    before = path.read_text()
    disk = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 20, disk[1]))
    try:
        with pytest.raises(OSError, match="No space left"):
            rows.append_rows(path, [{"number": n} for n in range(20)])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, disk)
        signal.signal(signal.SIGXFSZ, ignored)
    assert path.read_text() == before


def test_processes_that_begin_one_file_write_one_header(tmp_path):
    path = tmp_path / "rows.csv"
    code = """
import sys
from applications.common import rows
for n in range(20):
    rows.append_rows(sys.argv[1], [{"number": n}])
"""
    command = [sys.executable, "-c", code, str(path)]
    for process in [subprocess.Popen(command) for _ in range(4)]:
        assert process.wait() == 0
    lines = path.read_text().splitlines()
    assert lines[0] == "date,commit,number" and len(lines) == 81
    assert lines.count(lines[0]) == 1


def test_a_machine_without_git_has_no_commit(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert machine.commit() == ""
