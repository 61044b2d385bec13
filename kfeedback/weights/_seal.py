"""The first line of a weights file: what it is, how long, and a SHA-256.

HDF5's checksums cover the values, not the fields that say where and how to read them:
a flipped bit there can load other values or hang the reader. So the file's first block,
which HDF5 leaves to its users, holds the size of the file and a SHA-256 of the rest,
and nothing is parsed before both are right. The values of the largest tensors are left
out, as each tensor has a checksum of its own that is compared when it is read:

    kfeedback.weights 4 <bytes> <start+length of what is left out, …> <SHA-256>
"""

import hashlib
import os

from kfeedback.weights import keras_files

FORMAT = "kfeedback.weights"
VERSION = 4
BLOCK = 512  # bytes, the least that HDF5 leaves to its users
_MOST_LEFT_OUT = 16  # of which the line has room
_LEAST_LEFT_OUT = 2**20  # bytes


def write(path, extents):
    """Seals an HDF5 file that has a user block, and sees that it is on the disk.

    Args:
        path: of the file.
        extents: `(start, length)` of the values of each tensor in the file; the start
            is `None` where they are in chunks.
    """
    large = [x for x in extents if x[0] is not None and x[1] >= _LEAST_LEFT_OUT]
    large = sorted(sorted(large, key=lambda x: -x[1])[:_MOST_LEFT_OUT])
    with open(path, "r+b") as file:
        block = _block(file, large)
        file.seek(0)
        file.write(block)
        file.flush()
        os.fsync(file.fileno())


def is_ours(path):
    """Whether a file begins as ours do; `False` for HDF5, else a ValueError."""
    with open(path, "rb") as file:
        block = file.read(BLOCK)
    if block.startswith(FORMAT.encode()):
        return True
    if block.startswith(b"\x89HDF\r\n\x1a\n"):
        return False
    raise ValueError(
        f"weights must be a {FORMAT} file, got {path}, which is "
        f"{keras_files.kind(block)}."
    )


def check_seal(path, limit=None):
    """Raises a ValueError unless the seal of one of our files is right.

    Args:
        path: of the file.
        limit: the most bytes that it may have, `None` for any number.
    """
    ours = is_ours(path)
    with open(path, "rb") as file:
        block = file.read(BLOCK)
        words = block.split(b"\n")[0].decode("ascii", "replace").split(" ")
        if not ours or len(words) < 2 or words[0] != FORMAT:
            raise ValueError(f"weights must be a {FORMAT} file, got {path}.")
        if words[1] != str(VERSION):
            raise ValueError(
                f"weights must be of format version {VERSION}, got {words[1]!r} in "
                f"{path}."
            )
        size = file.seek(0, os.SEEK_END)
        if len(words) < 5 or words[2] != str(size):
            raise ValueError(
                f"weights must be complete, got {path} of {size} bytes, which does not "
                "have the size that its first line says."
            )
        if limit is not None and size > limit:
            raise ValueError(
                f"weights must be at most {limit} bytes for this model, got {path} of "
                f"{size}."
            )
        if block != _block(file, _extents(words[3], size)):
            raise ValueError(
                f"weights must be undamaged, got {path}, which has another SHA-256 "
                "than when it was written."
            )


def _block(file, left_out):
    """What the first block of the opened file should hold."""
    size = file.seek(0, os.SEEK_END)
    ranges = ",".join(f"{start}+{length}" for start, length in left_out) or "-"
    line = f"{FORMAT} {VERSION} {size} {ranges} "
    digest = hashlib.sha256(line.encode())
    place = BLOCK
    for start, length in [*left_out, (size, 0)]:
        file.seek(place)
        while place < start:
            chunk = file.read(min(2**18, start - place))
            if not chunk:
                break
            digest.update(chunk)
            place += len(chunk)
        place = start + length
    return f"{line}{digest.hexdigest()}\n".encode().ljust(BLOCK, b"\0")


def _extents(text, size):
    """The ranges of a first line; none where it is damaged, as the seal will show."""
    if text == "-":
        return []
    extents, place = [], BLOCK
    for part in text.split(","):
        start, _, length = part.partition("+")
        if not (start.isdecimal() and length.isdecimal()):
            return []
        start, length = int(start), int(length)
        if start < place or start + length > size:
            return []
        place = start + length
        extents.append((start, length))
    return extents
