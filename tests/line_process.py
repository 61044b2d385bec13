"""Another Python process that answers lines of JSON, started when first asked."""

import atexit
import json
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[1]


class LineProcess:
    """A module that runs as a process, and stops with this one.

    It inherits KERAS_BACKEND and all else of the environment.

    Args:
        module: with a `PREFIX` of its answers, each a line of JSON.
    """

    def __init__(self, module):
        self._module, self._process = module, None

    def ask(self, request):
        """Its answer to a request that JSON can hold."""
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, "-m", self._module.__name__],
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            atexit.register(self._stop)
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        for line in self._process.stdout:
            if line.startswith(self._module.PREFIX):
                return json.loads(line.removeprefix(self._module.PREFIX))
        raise AssertionError(f"{self._module.__name__} died; its error is on stderr")

    def _stop(self):
        self._process.stdin.close()
        self._process.wait(timeout=30)
