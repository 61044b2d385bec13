import concurrent.futures
import signal
import threading

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


def test_a_full_disk_leaves_whole_rows(tmp_path, monkeypatch):
    resource = pytest.importorskip("resource")
    monkeypatch.setattr(machine, "commit", lambda: "abc")  # git writes files, too
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


def test_rows_of_other_keys_are_refused(tmp_path):
    for other in ({"a": 1}, {"a": 1, "b": 2, "c": 3}):
        with pytest.raises(ValueError, match="rows must have equal keys"):
            rows.append_rows(tmp_path / "rows.csv", [{"a": 1, "b": 2}, other])


def test_threads_that_begin_one_file_write_one_header(tmp_path, monkeypatch):
    """Each has the file open for itself, as another process would have."""
    monkeypatch.setattr(machine, "commit", lambda: "abc")
    barrier = threading.Barrier(4)

    def begin(number):
        for name in range(50):
            barrier.wait()
            rows.append_rows(tmp_path / f"{name}.csv", [{"number": number}])

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        assert [*pool.map(begin, range(4))] == [None] * 4
    for name in range(50):
        first, *others = (tmp_path / f"{name}.csv").read_text().splitlines()
        assert first == "date,commit,number"
        assert sorted(line.split(",")[2] for line in others) == ["0", "1", "2", "3"]
