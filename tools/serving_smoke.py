"""Tries an exported model: in TF Serving where there is one, else without it.

    python -m tools.serving_smoke --base_dir=served/lr_lenet

The requests are those of the latest version's warm-up file and one that is wrong. With
a `tensorflow_model_server` on the PATH it is started on ports of this machine and asked
by REST and by gRPC, through the clients of `applications`; both must answer alike.
Without one the same requests, as protos, go to the SavedModel in a process that has
TensorFlow alone. Prints which of the two it did. Needs kfeedback[serving].
"""

import contextlib
import dataclasses
import json
import pathlib
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request

import numpy as np
import tensorflow as tf

from applications.common import tf_serving
from applications.common.bare_process import ask
from applications.common.command_line import launch
from applications.common.settings import Settings as Base
from applications.common.settings import field
from kfeedback.serving.requests import WARMUP_FILE
from kfeedback.serving.versions import versions

SERVER = "tensorflow_model_server"


@dataclasses.dataclass(frozen=True)
class Settings(Base):
    """The flags of tools.serving_smoke."""

    base_dir: str | None = field(
        None, "What kfeedback.serving.export got.", required=True
    )
    timeout: int = field(120, "Seconds until a server must be ready.", least=1)


def main(settings):
    """Asks, compares, prints; ends with an error if an answer is not as it must be."""
    base = pathlib.Path(settings.base_dir).absolute()
    known = versions(base)
    if not known:
        raise ValueError(f"--base_dir must hold a version of a model, got '{base}'.")
    folder = base / str(known[-1])
    requests = read_requests(folder)
    server = shutil.which(SERVER)
    if server:
        with started(server, base, settings.timeout) as (rest, grpc):
            answers = ask_server(rest, grpc, base.name, requests)
        print(f"asked {SERVER} ({server}) by REST and gRPC:")
    else:
        answers = ask_bare(folder, requests)
        print(f"no {SERVER} on the PATH; asked the SavedModel in a bare process:")
    check(answers)


def read_requests(folder):
    """`(signature, inputs as arrays)` of the warm-up file, and a wrong one."""
    try:
        from tensorflow_serving.apis import prediction_log_pb2
    except ImportError as error:
        raise ImportError(
            f"--base_dir needs pip install kfeedback[serving]: {error}"
        ) from error
    path = folder / "assets.extra" / WARMUP_FILE
    if not path.is_file():
        raise ValueError(
            f"--base_dir must hold requests for warming up, got no {path}."
        )
    logs = [
        prediction_log_pb2.PredictionLog.FromString(record.numpy())
        for record in tf.data.TFRecordDataset(str(path))
    ]
    requests = [
        (
            log.predict_log.request.model_spec.signature_name,
            {
                name: tf.make_ndarray(proto)
                for name, proto in log.predict_log.request.inputs.items()
            },
        )
        for log in logs
    ]
    return [*requests, ("serving_default", {"images": np.zeros((4, 4), "float32")})]


def ask_bare(folder, requests):
    """`(signature, outputs or None, error or None)`, by protos and without a server."""
    protos = [tf_serving.grpc_request("model", *request) for request in requests]
    answers = ask(
        [(folder, x.model_spec.signature_name, dict(x.inputs)) for x in protos]
    )
    return [
        (signature, answer.outputs, answer.error)
        for (signature, _), answer in zip(requests, answers, strict=True)
    ]


def ask_server(rest, grpc, name, requests):
    """The same by REST and by gRPC; raises where these differ."""
    answers = []
    for signature, inputs in requests:
        try:
            outputs = tf_serving.ask_grpc(grpc, name, signature, inputs)
            error = None
        except ValueError as caught:
            outputs, error = None, str(caught)
        try:
            by_rest = tf_serving.ask_rest(rest, name, signature, inputs)
        except ValueError as caught:
            by_rest = None
            if error is None:
                raise ValueError(f"REST and gRPC must agree, got {caught}") from caught
        if by_rest is not None:
            _compare(signature, outputs, by_rest)
        answers.append((signature, outputs, error))
    return answers


def _compare(signature, outputs, by_rest):
    if outputs and list(by_rest) == ["outputs"]:
        by_rest = dict.fromkeys(outputs, by_rest["outputs"])
    if outputs is None or sorted(outputs) != sorted(by_rest):
        raise ValueError(
            f"REST and gRPC must agree, got other outputs of {signature} by REST."
        )
    for key, value in outputs.items():
        other = by_rest[key]
        same = value.shape == other.shape
        if same and value.dtype.kind == "f":
            same = np.allclose(value, other, rtol=0, atol=1e-6)
        elif same:
            same = np.array_equal(value, other)
        if not same:
            raise ValueError(
                f"REST and gRPC must agree, got another {key} of {signature} by REST."
            )


def check(answers):
    """Prints a line an answer; raises unless all but the last one are good."""
    for signature, outputs, error in answers:
        if outputs is None:
            print(f"  {signature}: {' '.join(error.split())[:400]}")
        else:
            shapes = {k: tuple(v.shape) for k, v in sorted(outputs.items())}
            remark = "" if _is_finite(outputs) else ", not finite"
            print(f"  {signature}: {shapes}{remark}")
    *good, wrong = answers
    if not all(outputs and _is_finite(outputs) for _, outputs, _ in good):
        raise ValueError(
            "--base_dir must answer its requests for warming up with finite numbers, "
            "got what stands above."
        )
    if wrong[1] is not None or "expected shape" not in wrong[2]:
        raise ValueError(
            "--base_dir must answer a wrong shape with an error that says so, got "
            f"{wrong[2]}."
        )


def _is_finite(outputs):
    numbers = [value for value in outputs.values() if value.dtype.kind == "f"]
    return all(np.isfinite(value).all() for value in numbers)


@contextlib.contextmanager
def started(server, base, timeout):
    """Runs a server until it is ready; gives its addresses for REST and gRPC."""
    rest_port, grpc_port = free_ports(2)
    command = [
        server,
        f"--port={grpc_port}",
        f"--rest_api_port={rest_port}",
        f"--model_name={base.name}",
        f"--model_base_path={base}",
    ]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        try:
            rest = f"http://127.0.0.1:{rest_port}"
            _wait(process, f"{rest}/v1/models/{base.name}", timeout)
            yield rest, f"127.0.0.1:{grpc_port}"
        finally:
            process.terminate()


def _wait(process, url, timeout):
    end = time.monotonic() + timeout
    while time.monotonic() < end and process.poll() is None:
        with contextlib.suppress(OSError, ValueError, KeyError):
            with urllib.request.urlopen(url, timeout=5) as response:
                status = json.load(response)["model_version_status"]
            if any(version["state"] == "AVAILABLE" for version in status):
                return
        time.sleep(0.2)
    raise ValueError(
        f"{SERVER} must serve --base_dir within {timeout} s, got exit code "
        f"{process.poll()}."
    )


def free_ports(count):
    """Numbers of ports of this machine that nothing listens on."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


if __name__ == "__main__":
    launch(main, Settings)
