"""A local https server that misbehaves on request."""

import contextlib
import http.server
import pathlib
import shutil
import socketserver
import ssl
import subprocess
import threading
import time


def certificate(folder):
    """The path of a new key and self-signed certificate for localhost, in one file."""
    path = pathlib.Path(folder) / "localhost.pem"
    if shutil.which("openssl") is None:
        import trustme

        authority = trustme.CA()
        issued = authority.issue_cert("localhost")
        issued.private_key_and_cert_chain_pem.write_to_path(path)
        authority.cert_pem.write_to_path(path, append=True)
        return path
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    command += ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    key, cert = path.with_suffix(".key"), path.with_suffix(".crt")
    command += ["-keyout", str(key), "-out", str(cert)]
    subprocess.run(command, check=True, capture_output=True)
    path.write_text(key.read_text() + cert.read_text())
    return path


class Server(http.server.ThreadingHTTPServer):
    """Serves `content` at every path; the path says how.

    Attributes:
        served: how often the whole of it was sent.
        halves: how often half of it was sent, and then nothing more.
        next_url: where `/late/` redirects to, after a second.
    """

    daemon_threads = True

    def __init__(self, content, pem):
        super().__init__(("localhost", 0), Handler)
        self.content, self.served, self.halves = content, 0, 0
        self.next_url = None
        self.closing = threading.Event()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pem)
        self.socket = context.wrap_socket(self.socket, server_side=True)
        self.url = f"https://localhost:{self.server_port}"

    def handle_error(self, request, client_address):
        pass  # a client that left


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        how, content = self.path.split("/")[1], self.server.content
        if how == "missing":
            return self.send_error(404)
        if how in ("http", "file", "https", "late"):
            if how == "late":
                self.server.closing.wait(1)
            target = {
                "late": self.server.next_url,
                "http": self.server.url.replace("https", "http") + "/good/x.h5",
                "file": "file:///etc/hostname",
                "https": "/good/x.h5",
            }[how]
            self.send_response(302)
            self.send_header("Location", target)
            self.send_header("Content-Length", "0")
            return self.end_headers()
        if how == "silent":
            return self.server.closing.wait(30)
        if how == "hash":
            content = content[:-1] + bytes([content[-1] ^ 1])
        if how == "long":
            content += b"more"
        self.send_response(200)
        if how != "nolength":
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if how in ("stalled", "short", "drip"):
            self.wfile.write(content[: len(content) // 2])
            self.wfile.flush()
            self.server.halves += 1
            if how == "stalled":
                self.server.closing.wait(30)
            while how == "drip" and not self.server.closing.is_set():
                self.wfile.write(b"x")
                time.sleep(0.1)
            return None
        self.wfile.write(content)
        self.server.served += 1
        return None

    def log_message(self, *_):
        pass


@contextlib.contextmanager
def serve(content, pem):
    with running(Server(content, pem)) as server:
        yield server


@contextlib.contextmanager
def running(server):
    """The server in a thread, with an event `closing` that is set at the end."""
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.closing.set()
        server.shutdown()
        server.server_close()
        thread.join()


class Dripper(socketserver.ThreadingTCPServer):
    """Sends a header that does not end.

    Args:
        pem: certificate, `None` to speak no TLS.
        delay: seconds that it is silent before.
    """

    daemon_threads = True

    def __init__(self, pem=None, delay=0.0):
        super().__init__(("localhost", 0), _Drip)
        self.delay, self.context = delay, None
        self.closing = threading.Event()
        if pem is not None:
            self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self.context.load_cert_chain(pem)

    def handle_error(self, request, client_address):
        pass  # a client that left


class _Drip(socketserver.BaseRequestHandler):
    def handle(self):
        self.server.closing.wait(self.server.delay)
        connection = self.request
        if self.server.context is not None:
            connection = self.server.context.wrap_socket(connection, server_side=True)
        connection.sendall(b"HTTP/1.1 200 OK\r\nX-Long: ")
        while not self.server.closing.wait(0.1):
            connection.sendall(b"x")
