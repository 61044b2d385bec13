"""Runs applications as a user does, in processes of their own."""

import atexit
import json
import os
import pathlib
import subprocess
import sys

from tests.applications import fork_server

ROOT = pathlib.Path(__file__).parents[2]
ENVIRONMENT = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}


class _ForkServer:
    """The process that forks, started when it is first needed."""

    process = None

    def run(self, module, arguments):
        """`(exit code, output)` of a program."""
        if self.process is None:
            self.process = subprocess.Popen(
                [sys.executable, "-m", fork_server.__name__],
                cwd=ROOT,
                env=ENVIRONMENT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            atexit.register(self.stop)
        self.process.stdin.write(json.dumps([module, [*map(str, arguments)]]) + "\n")
        self.process.stdin.flush()
        for line in self.process.stdout:
            if line.startswith(fork_server.PREFIX):
                return json.loads(line.removeprefix(fork_server.PREFIX))
        raise AssertionError("the process that forks died; its error is on stderr")

    def stop(self):
        self.process.stdin.close()
        self.process.wait(timeout=30)


_server = _ForkServer()


def run(module, *arguments):
    """What a program of applications prints; fails if it does."""
    code, output = _server.run(module, arguments)
    assert code == 0, output
    return output


def run_each(module, command_lines):
    """`(exit code, output)` of each command line."""
    return [_server.run(module, line) for line in command_lines]


def run_alone(module, *arguments, **environment):
    """Runs `python -m module`; returns its output, fails if it does."""
    return _run("-m", module, *arguments, **environment)


def run_code(code, *arguments, **environment):
    """The same of `python -c code`."""
    return _run("-c", code, *arguments, **environment)


def _run(*arguments, **environment):
    done = subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=ROOT,
        env={**ENVIRONMENT, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
