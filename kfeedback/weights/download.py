"""Fetches a file of the registry: https, in time, of the right size and SHA-256.

It is written under a temporary name, and gets its own only when it is whole and right.
One process at a time fetches; the others wait and then find it.
"""

import contextlib
import functools
import hashlib
import http.client
import os
import pathlib
import secrets
import socket
import ssl
import threading
import time
import urllib.error
import urllib.parse
import urllib.request

from kfeedback import checks

try:
    import fcntl
except ImportError:  # on Windows: then every process fetches for itself
    fcntl = None

MIRROR = "KFEEDBACK_WEIGHTS_MIRROR"
_CHUNK = 2**18


def seconds(size):
    """The time that a download may take in all: one minute, and 10 s for each MB."""
    return 60 + size / 1e5


def folder():
    """Where fetched files are kept: `kfeedback` in the folder that Keras uses."""
    home = os.environ.get("KERAS_HOME") or os.path.join("~", ".keras")
    return pathlib.Path(home).expanduser() / "kfeedback"


def is_entry(path, entry):
    """Whether a file is there and is the one of an entry."""
    try:
        with open(path, "rb") as file:
            same = os.fstat(file.fileno()).st_size == entry.size
            return same and _sha256(file) == entry.sha256
    except OSError:
        return False


def fetch(entry):
    """The path of an entry's file in the cache, downloaded unless it is there.

    A mirror, the environment variable `KFEEDBACK_WEIGHTS_MIRROR`, is the https address
    of a folder with files of the same names.

    Args:
        entry: a `kfeedback.weights.Entry` with a `url`.

    Raises:
        ValueError: if it cannot be had, or is not what the entry says.
    """
    deadline = time.monotonic() + seconds(entry.size)
    path = folder() / f"{entry.tag}-{entry.sha256[:12]}.h5"
    if is_entry(path, entry):
        return path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _alone(path, deadline) as temporary:
            if not is_entry(path, entry):  # another process may have been quicker
                _download(_address(entry), entry, temporary, deadline)
                os.replace(temporary, path)
    except (OSError, http.client.HTTPException, _Refused) as error:
        reason = checks.reason(error)
        if time.monotonic() >= deadline:
            reason = f"nothing whole in the time limit of {seconds(entry.size):.0f} s"
        raise ValueError(
            f"weights '{entry.tag}' must be had from {_address(entry)}, got {reason}."
        ) from error
    return path


class _Refused(Exception):
    """What came is not what should have come."""


def _address(entry):
    mirror = os.environ.get(MIRROR)
    if not mirror:
        return entry.url
    name = urllib.parse.urlsplit(entry.url).path.rsplit("/", 1)[-1]
    return f"{mirror.rstrip('/')}/{name}"


def _sha256(file):
    return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def _alone(path, deadline):
    """Waits for other processes, and gives the name to write under."""
    temporary = path.with_name(f".{path.name}.part")
    if fcntl is None:
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    with open(path.with_name(f".{path.name}.lock"), "w") as lock:
        while fcntl is not None:  # the lock ends with its process, however that ends
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise
                time.sleep(0.05)
            except OSError:  # a file system without locks
                temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
                break
        try:
            yield temporary
        finally:
            temporary.unlink(missing_ok=True)


def _download(url, entry, temporary, deadline):
    _check_https(url)
    with _Watch(deadline) as watch:
        opener = urllib.request.build_opener(
            _Handler(watch, ssl.create_default_context()), _Redirects()
        )
        with (
            opener.open(url, timeout=watch.left()) as response,
            open(temporary, "wb") as file,
        ):
            length = response.headers.get("Content-Length")
            if length != str(entry.size):
                raise _Refused(f"{length or 'no'} bytes announced, not {entry.size}")
            digest, received = hashlib.sha256(), 0
            # `read1` returns with what there is, so that the time is looked at.
            while chunk := response.read1(_CHUNK):
                received += len(chunk)
                if received > entry.size:
                    break
                if time.monotonic() >= deadline:
                    raise TimeoutError
                digest.update(chunk)
                file.write(chunk)
            file.flush()
            os.fsync(file.fileno())
    if received != entry.size:
        raise _Refused(f"{received} bytes, not {entry.size}")
    if digest.hexdigest() != entry.sha256:
        raise _Refused(f"the SHA-256 {digest.hexdigest()}, not {entry.sha256}")


def _check_https(url):
    if urllib.parse.urlsplit(url).scheme != "https":
        raise _Refused(f"the address {url}, which is not https")


class _Redirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, req, fp, code, msg, headers, newurl):
        _check_https(newurl)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


class _Watch:
    """Cuts the connection at the deadline, whatever it is waiting for."""

    def __init__(self, deadline):
        self.deadline = deadline
        self.socket = None  # the one in use: redirections have others
        self.timer = threading.Timer(self.left(), self.cut)
        self.timer.daemon = True

    def left(self):
        return max(0.01, self.deadline - time.monotonic())

    def use(self, opened):
        self.socket = opened
        if time.monotonic() >= self.deadline:
            self.cut()

    def cut(self):
        if self.socket is not None:
            with contextlib.suppress(OSError):  # below TLS, which is in use
                socket.socket.shutdown(self.socket, socket.SHUT_RDWR)

    def __enter__(self):
        self.timer.start()
        return self

    def __exit__(self, *_):
        self.timer.cancel()


class _Connection(http.client.HTTPSConnection):
    def __init__(self, watch, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.watch = watch
        self._create_connection = self._open

    def _open(self, address, timeout, *args):
        opened = socket.create_connection(address, self.watch.left(), *args)
        self.watch.use(opened)  # a proxy is already spoken to on it
        return opened

    def connect(self):
        super().connect()
        self.watch.use(self.sock)


class _Handler(urllib.request.HTTPSHandler):
    def __init__(self, watch, context):
        super().__init__(context=context)
        self.context, self.watch = context, watch

    def https_open(self, req):
        connection = functools.partial(_Connection, self.watch)
        return self.do_open(connection, req, context=self.context)
