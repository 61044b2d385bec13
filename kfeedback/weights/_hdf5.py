"""Reading HDF5 files of strangers: nothing in them is followed or run.

HDF5 can point out of a file, name one object twice, declare any shape and name filters
that are plugins, code that runs when data are read. All of that is refused from the
headers, before anything is read.
"""

import h5py

_FILTERS = {
    h5py.h5z.FILTER_DEFLATE,
    h5py.h5z.FILTER_SHUFFLE,
    h5py.h5z.FILTER_FLETCHER32,
}
_MOST_OBJECTS = 50_000
_DEEPEST = 32  # groups in groups
_LONGEST = 2**16  # bytes of an attribute

# What HDF5 and h5py raise at a file that is not as it should be.
ERRORS = (
    AttributeError,
    KeyError,
    MemoryError,
    OSError,
    OverflowError,
    RuntimeError,
    TypeError,
    UnicodeError,
)


def datasets(file):
    """Dict from its path to each data set of an opened file or group.

    Raises:
        ValueError: if the file has links other than its tree's, data outside of it,
            filters other than deflate, shuffle and fletcher32, chunks larger than
            the tensor, or objects that are neither groups nor tensors.
    """
    found, seen = {}, {_address(file)}
    waiting = [(file, "", 1)]
    while waiting:
        group, prefix, depth = waiting.pop()
        if depth > _DEEPEST:
            raise ValueError(f"weights must hold no deep groups, got {prefix[:80]}….")
        for key in group:
            name = prefix + key
            if not isinstance(group.get(key, getlink=True), h5py.HardLink):
                raise ValueError(f"weights must hold no links, got {name}.")
            item = group[key]
            address = _address(item)
            if address in seen:
                raise ValueError(f"weights must name no object twice, got {name}.")
            seen.add(address)
            if len(seen) > _MOST_OBJECTS:
                raise ValueError(
                    f"weights must hold at most {_MOST_OBJECTS} objects, got more."
                )
            if isinstance(item, h5py.Group):
                waiting.append((item, name + "/", depth + 1))
            else:
                _check_dataset(item, name)
                found[name] = item
    return found


def text(item, name):
    """A text attribute of an opened object, `None` if there is none."""
    if name not in item.attrs:
        return None
    info = item.attrs.get_id(name)
    plain = info.shape == () and info.dtype.kind == "S"
    if not plain or info.dtype.itemsize > _LONGEST:
        raise ValueError(
            f"weights must have texts of at most {_LONGEST} bytes as attributes, got "
            f"{name} of {item.name}."
        )
    return bytes(item.attrs[name]).decode()


def _address(item):
    info = h5py.h5o.get_info(item.id)
    return info.fileno, info.addr


def _check_dataset(item, name):
    plain = isinstance(item, h5py.Dataset) and item.shape is not None
    # `external` and `is_virtual` are headers, as are the filters.
    if not plain or item.is_virtual or item.external:
        raise ValueError(f"weights must hold plain tensors, got {name}.")
    made = item.id.get_create_plist()
    filters = {made.get_filter(index)[0] for index in range(made.get_nfilters())}
    if filters - _FILTERS:
        raise ValueError(
            "weights must hold tensors with the filters deflate, shuffle and "
            f"fletcher32 only, got {sorted(filters - _FILTERS)} on {name}."
        )
    if item.chunks:
        pairs = list(zip(item.chunks, item.shape, strict=True))
        if item.maxshape != item.shape or any(chunk > side for chunk, side in pairs):
            raise ValueError(
                f"weights must hold tensors of a fixed shape, got {name} of shape "
                f"{item.shape} in chunks of {item.chunks}."
            )
