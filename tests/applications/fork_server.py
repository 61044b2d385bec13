"""A process that runs programs: it imports TensorFlow once and forks for each.

Reads lines of JSON, `[module, arguments]`, and answers each with a line of JSON behind
`PREFIX`: the exit code, and what the program printed, errors included.
"""

import importlib
import json
import os
import sys
import tempfile
import traceback

from applications.common.command_line import launch

PREFIX = "ANSWER"


def _fork(module, arguments):
    """`(exit code, output)` of a program in a process of its own."""
    with tempfile.TemporaryFile("w+") as output:
        child = os.fork()
        if child == 0:
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            os.dup2(output.fileno(), 1)
            os.dup2(output.fileno(), 2)
            sys.argv = [module.__package__, *arguments]
            os._exit(_launch(module))
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        output.seek(0)
        return status, output.read()


def _launch(module):
    try:
        launch(module.main, module.Settings)
        return 0
    except SystemExit as stop:
        if isinstance(stop.code, str):
            print(stop.code, file=sys.stderr)
        return 0 if stop.code in (None, 0) else 1
    except BaseException:
        traceback.print_exc()
        return 2
    finally:
        sys.stdout.flush()
        sys.stderr.flush()


if __name__ == "__main__":
    for line in sys.stdin:
        name, arguments = json.loads(line)
        answer = _fork(importlib.import_module(f"{name}.__main__"), arguments)
        print(PREFIX + json.dumps(answer), flush=True)
