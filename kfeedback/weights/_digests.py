"""The SHA-256 of a tensor, taken in pieces that several threads can work at.

It is that of a line of JSON, `[name, type, shape, feedback]`, and of the SHA-256 of
each 4 MiB of the values, in their order. So the one large kernel of a network keeps all
cores at work.
"""

import hashlib
import json

import numpy as np

_PIECE = 2**22  # bytes


def hashes(value, map=map):
    """The SHA-256 of each piece of an array, lazily.

    Args:
        value: array, not to be changed meanwhile.
        map: what calls a function for each piece, in order; that of a pool begins at
            once.
    """
    values = np.ascontiguousarray(value).reshape(-1).view("uint8")
    return map(_sha256, [values[i : i + _PIECE] for i in range(0, values.size, _PIECE)])


def of(name, value, feedback, hashes):
    """The SHA-256 of a tensor, as hexadecimal digits.

    Args:
        name: of the tensor.
        value: array.
        feedback: `"true"` or `"false"`, or `None` of a file that does not say it.
        hashes: of `hashes(value)`.
    """
    header = json.dumps([name, value.dtype.str, list(value.shape), feedback])
    return hashlib.sha256(header.encode() + b"".join(hashes)).hexdigest()


def _sha256(piece):
    return hashlib.sha256(piece).digest()
