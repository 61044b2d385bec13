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
        a function that raises `Interruption` if there was a signal.
    """
    received = []

    def note(number, _):
        if received:
            raise Interruption(128 + number)
        received.append(number)

    def check():
        if received:
            raise Interruption(128 + received[0])

    before = {number: signal.signal(number, note) for number in NUMBERS}
    try:
        yield check
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
