import pytest

from applications.common import machine, rows


@pytest.mark.parametrize("end", ["", "\n"])
def test_a_row_never_continues_a_line(tmp_path, end):
    """An editor may leave the last line without an end."""
    path = tmp_path / "rows.csv"
    for number in (1, 2):
        rows.append_row(path, {"number": number, "text": "é, ü"})
        path.write_text(path.read_text().rstrip("\n") + end)
    lines = path.read_text().splitlines()
    assert [line.split(",")[2] for line in lines] == ["number", "1", "2"]


def test_other_columns_are_refused_before_the_work(tmp_path):
    path = tmp_path / "rows.csv"
    rows.check_columns(path, ("number", "text"))
    rows.append_row(path, {"number": 1, "text": "a"})
    with pytest.raises(ValueError, match="--csv must be a file with the columns date"):
        rows.check_columns(path, ("number",), "csv")
    rows.check_columns(None, ("number",))


def test_a_machine_without_git_has_no_commit(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert machine.commit() == ""
