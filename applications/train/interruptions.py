"""SIGTERM and SIGINT: the step that runs is finished, the state saved, then it ends."""

import contextlib
import signal

NUMBERS = (signal.SIGTERM, signal.SIGINT)


class Interruption(SystemExit):
    """Ends the program with 128 and the number of a signal: 143, 130."""


@contextlib.contextmanager
def noted():
    """Notes signals instead of ending at once.

    A second signal ends at once.

    Yields:
        a function that gives the number of the signal, 0 if there was none.
    """
    received = []

    def note(number, _):
        if received:
            raise Interruption(128 + number)
        received.append(number)

    before = {number: signal.signal(number, note) for number in NUMBERS}
    try:
        yield lambda: received[0] if received else 0
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
