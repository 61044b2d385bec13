"""Runs applications as a user does, in processes of their own."""

import json
import os
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[2]
ENVIRONMENT = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}

# Importing TensorFlow takes seconds: import once, then fork once a command line.
_FORK = """
import importlib, json, os, sys, tempfile
from applications.common.command_line import launch
module = importlib.import_module(sys.argv[1] + ".__main__")
results = []
for arguments in json.loads(sys.argv[2]):
    with tempfile.TemporaryFile("w+") as output:
        child = os.fork()
        if child == 0:
            os.dup2(output.fileno(), 1)
            os.dup2(output.fileno(), 2)
            sys.argv = [sys.argv[1], *arguments]
            try:
                launch(module.main, module.Settings)
            except SystemExit as stop:
                if isinstance(stop.code, str):
                    print(stop.code, file=sys.stderr)
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(0 if stop.code in (None, 0) else 1)
            except BaseException:
                import traceback
                traceback.print_exc()
                os._exit(2)
            os._exit(0)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        output.seek(0)
        results.append((status, output.read()))
print("RESULTS" + json.dumps(results))
"""


def run(module, *arguments, **environment):
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


def run_each(module, command_lines):
    """`(exit code, output)` of each command line."""
    done = subprocess.run(
        [sys.executable, "-c", _FORK, module, json.dumps(command_lines)],
        cwd=ROOT,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "RESULTS" in done.stdout, done.stdout + done.stderr
    return json.loads(done.stdout.split("RESULTS")[1])
