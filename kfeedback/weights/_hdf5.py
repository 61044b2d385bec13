"""Reading HDF5 files of strangers: nothing in them is followed or run.

HDF5 can point out of a file, name one object twice, declare any shape and name filters
that are plugins, code that runs when data are read. All of that is refused from the
headers, before anything is read. It inflates whatever a chunk holds, however long, and
makes up values that a file does not have. So chunks are looked at before it reads them.
"""

import math
import zlib

import h5py

# In this order, and each at most once: deflate of deflate is a bomb.
_FILTERS = (
    h5py.h5z.FILTER_SHUFFLE,
    h5py.h5z.FILTER_DEFLATE,
    h5py.h5z.FILTER_FLETCHER32,
)
_MOST_OBJECTS = 50_000
_MOST_OF_MODEL = 1000, 16  # objects of a file for a model, and more for each variable
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


def datasets(file, variables=None):
    """Dict from its path to each data set of an opened file or group.

    Args:
        file: an opened `h5py.File` or group.
        variables: how many the model has that it should fit, `None` if there is none.

    Raises:
        ValueError: if the file has links other than its tree's, data outside of it,
            filters other than shuffle, deflate and fletcher32, chunks larger than
            the tensor, far too many objects, or some that are neither groups nor
            tensors.
    """
    path = file.file.filename
    most = _MOST_OBJECTS
    if variables is not None:
        most = min(most, _MOST_OF_MODEL[0] + _MOST_OF_MODEL[1] * variables)
    found, seen = {}, {_address(file)}
    waiting = [(file, "", 1)]
    while waiting:
        group, prefix, depth = waiting.pop()
        if depth > _DEEPEST:
            raise ValueError(
                f"weights must hold no deep groups, got {prefix[:80]}… in {path}."
            )
        for key in group:
            name = prefix + key
            if not isinstance(group.get(key, getlink=True), h5py.HardLink):
                raise ValueError(f"weights must hold no links, got {name} in {path}.")
            item = group[key]
            address = _address(item)
            if address in seen:
                raise ValueError(
                    f"weights must name no object twice, got {name} in {path}."
                )
            seen.add(address)
            if len(seen) > most:
                raise ValueError(
                    f"weights must hold at most {most} objects, got more in {path}."
                )
            if isinstance(item, h5py.Group):
                waiting.append((item, name + "/", depth + 1))
            else:
                _check_dataset(item, name, path)
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
            f"{name} of {item.name} in {item.file.filename}."
        )
    return bytes(item.attrs[name]).decode()


def _address(item):
    info = h5py.h5o.get_info(item.id)
    return info.fileno, info.addr


def _check_dataset(item, name, path):
    plain = isinstance(item, h5py.Dataset) and item.shape is not None
    # `external` and `is_virtual` are headers, as are the filters.
    if not plain or item.is_virtual or item.external:
        raise ValueError(f"weights must hold plain tensors, got {name} in {path}.")
    made = item.id.get_create_plist()
    filters = [made.get_filter(index)[0] for index in range(made.get_nfilters())]
    if filters != [known for known in _FILTERS if known in filters]:
        raise ValueError(
            "weights must hold tensors with the filters shuffle, deflate and "
            f"fletcher32 only, in this order, got {filters} on {name} in "
            f"{path}."
        )
    if item.chunks:
        pairs = list(zip(item.chunks, item.shape, strict=True))
        if item.maxshape != item.shape or any(chunk > side for chunk, side in pairs):
            raise ValueError(
                f"weights must hold tensors of a fixed shape, got {name} of shape "
                f"{item.shape} in chunks of {item.chunks} in {path}."
            )


def read(item):
    """The values of a data set of `datasets`, all of which are in the file.

    Raises:
        ValueError: if some are not, or a chunk holds more or fewer than it should.
    """
    if item.chunks:
        _check_chunks(item)
    elif item.id.get_storage_size() != item.size * item.dtype.itemsize:
        raise _not_all(item)
    return item[...]


def _not_all(item):
    return ValueError(
        f"weights must hold all values of a tensor, got {item.name} in "
        f"{item.file.filename}."
    )


def _check_chunks(item):
    sides = zip(item.shape, item.chunks, strict=True)
    count = math.prod(-(-side // chunk) for side, chunk in sides)
    if count > _MOST_OBJECTS:
        raise ValueError(
            f"weights must hold tensors of at most {_MOST_OBJECTS} chunks, got "
            f"{item.name} with {count} in {item.file.filename}."
        )
    if item.id.get_num_chunks() != count:
        raise _not_all(item)
    made = item.id.get_create_plist()
    filters = [made.get_filter(index)[0] for index in range(made.get_nfilters())]
    size = math.prod(item.chunks) * item.dtype.itemsize
    for place in item.iter_chunks():
        # h5py leaves its lock out here alone, and HDF5 crashes without it.
        with h5py._objects.phil:
            skipped, chunk = item.id.read_direct_chunk(tuple(x.start for x in place))
        used = [x for index, x in enumerate(filters) if not skipped >> index & 1]
        if h5py.h5z.FILTER_FLETCHER32 in used:
            chunk = chunk[:-4]
        if h5py.h5z.FILTER_DEFLATE in used:
            try:
                # One byte too many shows a bomb, and is all that is inflated of it.
                chunk = zlib.decompressobj().decompress(chunk, size + 1)
            except zlib.error:
                chunk = b""
        if len(chunk) != size:
            raise ValueError(
                "weights must hold chunks of the size that they declare, got "
                f"{item.name} with one of another size than {size} bytes in "
                f"{item.file.filename}."
            )
