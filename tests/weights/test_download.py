"""Entries by URL, from a local server: whole and right, or not there."""

import errno
import hashlib
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from kfeedback import weights
from kfeedback.serving import versions
from kfeedback.weights import download, registry
from tests import harness
from tests.weights import server as servers
from tests.weights.common import assert_same, dense_net, values

LIMIT = 1.5  # seconds


@pytest.fixture(scope="module")
def pem(tmp_path_factory):
    return servers.certificate(tmp_path_factory.mktemp("certificate"))


@pytest.fixture(scope="module")
def content(tmp_path_factory):
    harness.fresh_names()
    path = tmp_path_factory.mktemp("content") / "model.h5"
    weights.save(harness.randomize(dense_net(300)), path)
    return path.read_bytes()


@pytest.fixture
def server(content, pem):
    with servers.serve(content, pem) as running:
        yield running


@pytest.fixture
def cache(tmp_path, monkeypatch, pem):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("SSL_CERT_FILE", str(pem))
    monkeypatch.delenv(download.MIRROR, raising=False)
    for name in ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "home" / "kfeedback"


def entry_of(url, content):
    digest = hashlib.sha256(content).hexdigest()
    return weights.Entry(tag="net", url=url, sha256=digest, size=len(content), about={})


def files(cache):
    """What is in the cache but for the lock, which is empty and stays."""
    return [path for path in cache.glob("**/*") if path.suffix != ".lock"]


def test_an_entry_is_fetched_once(server, cache, content, monkeypatch):
    entry = entry_of(f"{server.url}/https/net.h5", content)
    monkeypatch.setitem(registry.ENTRIES, "net", entry)
    for _ in range(2):
        model = dense_net(300)
        weights.load(model, "net")
        assert_same(values(model), values(harness.randomize(dense_net(300))))
    assert server.served == 1
    (path,) = files(cache)
    assert path.read_bytes() == content
    path.write_bytes(content[:-1] + b"?")  # damaged on the disk
    weights.load(dense_net(300), "net")
    assert path.read_bytes() == content


def test_a_mirror_stands_in(server, cache, content, monkeypatch):
    entry = entry_of("https://nowhere.invalid/some/net.h5", content)
    monkeypatch.setenv(download.MIRROR, f"{server.url}/good/")
    assert download.fetch(entry).read_bytes() == content
    monkeypatch.setenv(download.MIRROR, server.url.replace("https", "http"))
    files(cache)[0].unlink()
    with pytest.raises(ValueError, match="not https"):
        download.fetch(entry)


FAULTS = {
    "hash": "SHA-256",
    "short": "bytes",
    "nolength": "no bytes announced",
    "missing": "404",
    "stalled": "time limit",
    "http": "not https",
    "file": "is not allowed",
    "long": "announced",
    "silent": "time limit",
    "drip": "time limit",
}


def test_the_time_limit_is_a_minute_and_ten_seconds_a_megabyte():
    assert (download.seconds(0), download.seconds(10**6)) == (60, 70)


def test_a_file_system_without_locks(server, cache, content, monkeypatch):
    def flock(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(download.fcntl, "flock", flock)
    path = download.fetch(entry_of(f"{server.url}/good/net.h5", content))
    assert path.read_bytes() == content
    with versions.locked(cache / "served"):
        assert (cache / "served").is_dir()


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_leave_nothing(server, cache, content, monkeypatch, fault):
    monkeypatch.setattr(download, "seconds", lambda size: LIMIT)
    if fault == "drip":  # its length is announced, and never comes
        server.content = content * 100
    start = time.monotonic()
    with pytest.raises(ValueError) as caught:
        download.fetch(entry_of(f"{server.url}/{fault}/net.h5", server.content))
    assert time.monotonic() - start < LIMIT + 2
    harness.assert_one_sentence(caught.value, "weights")
    assert FAULTS[fault] in str(caught.value)
    assert files(cache) == []


def test_the_time_limit_holds_after_a_late_redirection(
    server, cache, content, monkeypatch, pem
):
    """It passes while TLS is agreed on; then a header comes by drips."""
    monkeypatch.setattr(download, "seconds", lambda size: LIMIT)
    with servers.running(servers.Dripper(pem, delay=1.0)) as drips:
        server.next_url = f"https://localhost:{drips.server_address[1]}/net.h5"
        times_out(f"{server.url}/late/net.h5", content)
    assert files(cache) == []


def test_the_time_limit_holds_for_a_proxy(cache, content, monkeypatch):
    monkeypatch.setattr(download, "seconds", lambda size: LIMIT)
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with servers.running(servers.Dripper()) as drips:
        address = f"http://localhost:{drips.server_address[1]}"
        monkeypatch.setenv("https_proxy", address)
        times_out("https://nowhere.invalid/net.h5", content)
    assert files(cache) == []


def times_out(url, content):
    start = time.monotonic()
    with pytest.raises(ValueError, match="time limit"):
        download.fetch(entry_of(url, content))
    assert time.monotonic() - start < LIMIT + 2


@pytest.mark.parametrize("scheme", ["file", "http", "ftp"])
def test_other_schemes_are_refused(cache, content, tmp_path, scheme):
    path = tmp_path / "net.h5"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="not https") as caught:
        download.fetch(entry_of(f"{scheme}://{path}", content))
    harness.assert_one_sentence(caught.value, "weights")
    assert files(cache) == []


def test_an_unknown_certificate_is_refused(server, cache, content, monkeypatch):
    monkeypatch.delenv("SSL_CERT_FILE")
    with pytest.raises(ValueError, match=r"(?i)certificate") as caught:
        download.fetch(entry_of(f"{server.url}/good/net.h5", content))
    harness.assert_one_sentence(caught.value, "weights")
    assert files(cache) == []


def test_a_full_disk_is_said(server, cache, content):
    cache.parent.mkdir(parents=True)
    cache.write_text("a file where the folder should be")
    with pytest.raises(ValueError) as caught:
        download.fetch(entry_of(f"{server.url}/good/net.h5", content))
    harness.assert_one_sentence(caught.value, "weights")


# The module and what checks arguments: the package would bring Keras, which is slow.
FETCH = """
import importlib.util, pathlib, sys, types
path = pathlib.Path(sys.argv[1])
package = sys.modules["kfeedback"] = types.ModuleType("kfeedback")
package.__path__ = [str(path.parents[1])]
spec = importlib.util.spec_from_file_location("download", path)
download = importlib.util.module_from_spec(spec)
spec.loader.exec_module(download)
assert "keras" not in sys.modules
url, sha256, size = sys.argv[2:]
entry = types.SimpleNamespace(tag="net", url=url, sha256=sha256, size=int(size))
print(download.fetch(entry))
"""


def start(url, content):
    entry = entry_of(url, content)
    module = pathlib.Path(download.__file__)
    command = [sys.executable, "-c", FETCH, module, url, entry.sha256, str(entry.size)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_eight_processes_fetch_one_file(server, cache, content):
    running = [start(f"{server.url}/good/net.h5", content) for _ in range(8)]
    found = {process.communicate(timeout=60)[0].strip() for process in running}
    assert [process.returncode for process in running] == [0] * 8
    assert found == {str(path) for path in files(cache)}
    assert len(found) == 1
    assert pathlib.Path(found.pop()).read_bytes() == content
    assert server.served == 1


def test_kills_leave_no_file_and_the_next_call_repairs(server, cache, content):
    final = cache / f"net-{hashlib.sha256(content).hexdigest()[:12]}.h5"
    for count in range(1, 11):
        process = start(f"{server.url}/stalled/net.h5", content)
        deadline = time.monotonic() + 60
        while server.halves < count or not any(
            path.stat().st_size for path in files(cache)
        ):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert not final.exists()
    path = download.fetch(entry_of(f"{server.url}/good/net.h5", content))
    assert path == final
    assert files(cache) == [final]
    assert final.read_bytes() == content
