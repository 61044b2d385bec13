"""Locks on files, where the system has them."""

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None


def lock(file, wait=True):
    """Keeps other processes that ask out of an open file, until it is closed.

    Args:
        file: open file.
        wait: bool, whether to wait until no other process has it.

    Raises:
        BlockingIOError: if another process has it, and this one does not wait.
    """
    if fcntl is None:
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError:
        pass  # a file system without locks
