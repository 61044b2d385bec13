"""The workers of a run on several hosts: who they are, and whether they are alive."""

import atexit
import contextlib
import json
import os
import socket
import sys
import threading
import time

_PERIOD = 3.0  # seconds between looks, and the time that an answer may take
_LOOKS = 2  # without an answer, before a worker counts as gone


def from_tf_config(text):
    """The workers that the environment variable TF_CONFIG names.

    Args:
        text: its value, such as `{"cluster": {"worker": ["a:2222", "b:2222"]}, "task":
            {"type": "worker", "index": 0}}`; of a job `chief` its one task is the
            first, else it is worker 0.

    Returns:
        `(addresses, index)`: all addresses, the chief's first, and which is ours.

    Raises:
        ValueError: one sentence on what is missing or wrong.
    """

    def require(holds, takes, got):
        if not holds:
            raise ValueError(f"TF_CONFIG must hold {takes}, got {got!r}.")

    require(text, "the cluster and the task of this worker in JSON", text or "none")
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    require(isinstance(found, dict), "a JSON object", text)
    cluster, task = found.get("cluster"), found.get("task")
    require(isinstance(cluster, dict), "a 'cluster' of jobs", cluster)
    jobs = sorted(cluster)
    require(
        jobs in (["worker"], ["chief", "worker"], ["chief"]),
        "a 'cluster' of the jobs 'worker' and, if wanted, 'chief' alone",
        jobs,
    )
    addresses = []
    for job in jobs:  # in this order
        tasks = cluster[job]
        require(isinstance(tasks, list) and tasks, "a list of addresses a job", tasks)
        for address in tasks:
            require(_is_address(address), "addresses like host:port", address)
        addresses += tasks
    twice = sorted({a for a in addresses if addresses.count(a) > 1})
    require(not twice, "different addresses", twice)
    require(len(cluster.get("chief", [0])) == 1, "one chief", cluster.get("chief"))
    require(isinstance(task, dict), "a 'task' with 'type' and 'index'", task)
    job, index = task.get("type"), task.get("index")
    require(job in jobs, f"a 'task' with a 'type' among {', '.join(jobs)}", job)
    count = len(cluster[job])
    right = type(index) is int and 0 <= index < count
    require(right, f"a 'task' with an 'index' from 0 to {count - 1}", index)
    return addresses, index + (job == "worker") * len(cluster.get("chief", ()))


def from_keras_variables(environment):
    """The processes that the variables of `keras.distribution.initialize` name.

    Args:
        environment: a mapping with KERAS_DISTRIBUTION_JOB_ADDRESSES, `host:port` of
            the first process, KERAS_DISTRIBUTION_NUM_PROCESSES and
            KERAS_DISTRIBUTION_PROCESS_ID; or none of them.

    Returns:
        `(address, count, index)`; `(None, 1, 0)` without the variables.

    Raises:
        ValueError: one sentence on what is missing or wrong.
    """
    names = ("JOB_ADDRESSES", "NUM_PROCESSES", "PROCESS_ID")
    names = [f"KERAS_DISTRIBUTION_{name}" for name in names]
    values = [environment.get(name, "") for name in names]
    if not any(values):
        return None, 1, 0
    address = values[0].split(",")[0]
    count = int(values[1]) if values[1].isdecimal() else 0
    index = int(values[2]) if values[2].isdecimal() else count
    for name, right, takes in zip(
        names,
        (_is_address(address), count > 0, index < count),
        ("host:port of process 0", "an integer ≥ 1", "an integer from 0 below theirs"),
        strict=True,
    ):
        if not right:
            got = environment.get(name, "none")
            raise ValueError(f"{name} must be {takes}, got {got!r}.")
    return address, count, index


def _is_address(text):
    host, _, port = str(text).rpartition(":")
    return bool(host) and port.isdecimal() and 0 < int(port) < 2**16


def meet(addresses, index, wait_seconds):
    """Waits until all workers have started; TensorFlow itself would for ever.

    Args:
        addresses: list of `host:port`.
        index: which of them is ours.
        wait_seconds: how long the others may take.

    Raises:
        ValueError: if they take longer, or our port is taken.
    """
    end = time.monotonic() + wait_seconds
    port = int(addresses[index].rpartition(":")[2])
    try:
        server = socket.create_server(("", port), backlog=1024)
    except OSError as error:
        raise ValueError(
            f"TF_CONFIG must give worker {index} a port that is free, got "
            f"{addresses[index]} ({error})."
        ) from error
    with server:  # until TensorFlow itself listens
        server.settimeout(_PERIOD / 10)
        left = dict(enumerate(addresses))
        del left[index]
        while left:
            left = {n: a for n, a in left.items() if not _answers(a)}
            if left and time.monotonic() > end:
                raise ValueError(
                    "TF_CONFIG must name workers that all start within --wait_minutes, "
                    f"got none at {', '.join(left.values())}."
                )
            with contextlib.suppress(TimeoutError):
                server.accept()[0].close()


class Watch:
    """Ends this process with a sentence when another worker is gone.

    A collective operation waits forever for a host that is switched off.

    Args:
        addresses: list of `host:port` that workers listen on.
        index: which of them is ours.
    """

    def __init__(self, addresses, index):
        self._others = {n: a for n, a in enumerate(addresses) if n != index}
        self._index = index
        self._stopped = threading.Event()
        threading.Thread(target=self._look, daemon=True).start()

    def stop(self, error=None):
        """Ends the watch: from now on workers may go.

        Args:
            error: the exception that ends this process; it must not wait for the others
                while it ends, as the engines do.
        """
        self._stopped.set()
        if error is not None:
            code = error.code if isinstance(error, SystemExit) else 1
            atexit.register(_leave, code)

    def end(self, reason=""):
        """Ends the process; says which worker does not answer, else the reason."""
        for _ in range(int(_PERIOD) + 1):  # a worker that ends closes its port last
            gone = self._silent()
            if gone:
                break
            time.sleep(1)
        self._say_and_end(gone, f"the other workers cannot be reached ({reason})")

    def _look(self):
        missed = 0
        while not self._stopped.wait(_PERIOD):
            gone = self._silent()
            missed = missed + 1 if gone else 0
            if missed >= _LOOKS and not self._stopped.is_set():
                self._say_and_end(gone, "")

    def _silent(self):
        return {n: a for n, a in self._others.items() if not _answers(a)}

    def _say_and_end(self, gone, otherwise):
        names = ", ".join(f"worker {n} at {a}" for n, a in gone.items())
        reason = f"{names} does not answer" if gone else otherwise
        print(
            f"error: {reason}, so worker {self._index} ends, too; all of them started "
            "again go on from the last checkpoint.",
            file=sys.stderr,
            flush=True,
        )
        sys.stdout.flush()
        os._exit(1)  # what waits for the others would never return


def _leave(code):
    """Ends the process at once, with all that it said."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):  # as where nobody reads any more
            stream.flush()
    os._exit(code)


def _answers(address):
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), _PERIOD).close()
    except OSError:
        return False
    return True
