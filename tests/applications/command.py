"""Runs applications as a user does, in processes of their own."""

import csv
import os
import subprocess
import sys

from tests.applications import fork_server
from tests.line_process import ROOT, LineProcess

ENVIRONMENT = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}

_server = LineProcess(fork_server)


def run(module, *arguments):
    """What a program of applications prints; fails if it does."""
    code, output = _ask(module, arguments)
    assert code == 0, output
    return output


def run_each(module, command_lines):
    """`(exit code, output)` of each command line."""
    return [_ask(module, line) for line in command_lines]


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


def _ask(module, arguments):
    return _server.ask([module, [*map(str, arguments)]])


def read_rows(path):
    """The rows of a CSV file, dicts of text."""
    with path.open() as file:
        return list(csv.DictReader(file))
