"""The checksum of a tensor: XXH3, 128 bits.

It finds damage and tensors that were put in each other's place, at the speed of the
memory. It does not withstand a forger, and need not: who can change a tensor here can
change its checksum beside it. Against forgery stands the SHA-256 of a whole file in the
registry.
"""

import json

import numpy as np
import xxhash


def of(name, value, feedback):
    """The checksum of a tensor, as hexadecimal digits.

    It is that of a line of JSON, `[name, type, shape, feedback]`, and the values.

    Args:
        name: of the tensor.
        value: array.
        feedback: `"true"` or `"false"`, or `None` of a file that does not say it.
    """
    header = json.dumps([name, value.dtype.str, list(value.shape), feedback])
    digest = xxhash.xxh3_128(header.encode())
    digest.update(np.ascontiguousarray(value).reshape(-1).view("uint8"))
    return digest.hexdigest()
