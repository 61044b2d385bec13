"""What is damaged is told from what is whole; a failed save leaves what was there."""

import pathlib
import resource

import keras
import numpy as np
import pytest

from applications.train.checkpoints import Checkpoints


def variables():
    return [
        keras.Variable(np.arange(4000.0), name="one"),
        keras.Variable(np.zeros((3, 3), "int32"), dtype="int32", name="two"),
    ]


def values(number):
    """Such as no engine makes smaller."""
    return np.random.default_rng(number).normal(size=4000).astype("float32")


def three(folder):
    """Three checkpoints, the first values those of 1, 2, 3."""
    found = variables()
    checkpoints = Checkpoints(folder, found)
    for number in (1, 2, 3):
        found[0].assign(values(number))
        checkpoints.save({"epoch": number})
    return found, checkpoints


def flip(path, place):
    content = bytearray(path.read_bytes())
    content[place] ^= 4
    path.write_bytes(content)


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def file(pattern):
    """The newest checkpoint's largest file of such a name."""

    def find(folder):
        found = filter(pathlib.Path.is_file, folder.glob(pattern))
        return max(found, key=lambda path: path.stat().st_size)

    return find


DATA, INDEX = {
    "tensorflow": (file("ckpt-3.data-*"), file("ckpt-3.index")),
    "jax": (file("3/**/d/*"), file("3/position/metadata")),
}[keras.backend.backend()]
DAMAGES = {
    "a bit of the data": lambda folder: flip(DATA(folder), -500),
    "a bit of the index": lambda folder: flip(INDEX(folder), 40),
    "half of the data": lambda folder: cut(DATA(folder)),
    "no data": lambda folder: DATA(folder).unlink(),
    "no index": lambda folder: INDEX(folder).unlink(),
    "an empty index": lambda folder: INDEX(folder).write_bytes(b""),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_goes_back_one_and_says_so(tmp_path, damage):
    three(tmp_path)
    damage(tmp_path)
    said, found = [], variables()
    assert Checkpoints(tmp_path, found).restore(said.append) == {"epoch": 2}
    assert (keras.ops.convert_to_numpy(found[0]) == values(2)).all()
    assert len(said) == 1 and "checkpoint 3 cannot be read" in said[0]


def test_refuses_to_go_on_without_a_whole_one(tmp_path):
    three(tmp_path)
    for path in filter(pathlib.Path.is_file, tmp_path.rglob("*")):
        path.write_bytes(b"no checkpoint")
    with pytest.raises(ValueError, match=r"can be read.* none of them whole"):
        Checkpoints(tmp_path, variables()).restore(lambda text: None)


def test_no_checkpoint_is_none(tmp_path):
    assert Checkpoints(tmp_path / "none", variables()).restore() is None


def test_checkpoints_of_another_network_are_refused(tmp_path):
    three(tmp_path)
    other = [keras.Variable(np.zeros(7)), variables()[1]]
    with pytest.raises(ValueError, match="none of them whole"):
        Checkpoints(tmp_path, other).restore(lambda text: None)


def test_a_full_disk_leaves_the_last_one(tmp_path):
    found, checkpoints = three(tmp_path)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(OSError, match="checkpoint 4 must be written to"):
            checkpoints.save({"epoch": 4})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not [path for path in tmp_path.iterdir() if "4" in path.name]
    assert Checkpoints(tmp_path, found).restore() == {"epoch": 3}
    checkpoints.save({"epoch": 5})
    assert Checkpoints(tmp_path, found).restore() == {"epoch": 5}


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="its glob")
def test_a_folder_where_tensorflow_finds_nothing_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"--output_dir must have no \[ and"):
        Checkpoints(tmp_path / "loops=[1,2]" / "checkpoints", variables())
