"""Folders of images as people have them."""

import pathlib
import warnings

import numpy as np
import pytest
import tensorflow as tf

from applications.common.command_line import launch
from applications.common.settings import Settings
from kfeedback.datasets import load
from tests.datasets.test_loader import everything

Image = pytest.importorskip("PIL.Image")


def gray(value):
    return Image.new("RGB", (8, 8), (value, value, value))


@pytest.fixture
def birds(tmp_path):
    """Three images of two classes, which take turns: owl, wren, owl."""
    root = tmp_path / "birds"
    for path, value in (("owl/1.png", 10), ("owl/2.jpg", 20), ("wren/1.bmp", 30)):
        (root / "train" / path).parent.mkdir(parents=True, exist_ok=True)
        gray(value).save(root / "train" / path)
    return root


def read(root, split="train", **arguments):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        dataset, info = load(root, split, image_size=8, **arguments)
    images, labels = everything(dataset)
    return images[:, 4, 4, 0].tolist(), labels.tolist(), info


def test_hidden_files_are_no_data(birds):
    hidden = ["train/owl/._1.png", "train/.ds/1.png", ".git/owl/1.png"]
    hidden += ["train/__MACOSX/._owl", "__MACOSX/train/._owl"]  # of an archive
    hidden += ["train/@eaDir/1.png/SYNO.jpg", "train/owl/@eaDir/1.png"]  # of a Synology
    for path in hidden:
        (birds / path).parent.mkdir(parents=True, exist_ok=True)
        (birds / path).write_bytes(b"\0\5\x16\7")
    (birds / "train" / "owl" / ".ipynb_checkpoints").mkdir()
    values, labels, info = read(birds)
    assert values == [10, 30, 20] and labels == [0, 1, 0]
    assert info.class_names == ("owl", "wren")
    with pytest.raises(ValueError, match=r"split must .* got '\.git'"):
        read(birds, ".git")


def damage(path, how):
    contents = path.read_bytes()
    if how == "flipped":
        place = contents.index(b"IDAT") + 10
        flip = bytes([contents[place] ^ 255])
        path.write_bytes(contents[:place] + flip + contents[place + 1 :])
    elif how == "gone":
        path.unlink()
    else:
        kept = {"empty": b"", "foreign": b"Thumbs", "cut": contents[:-30]}
        path.write_bytes(kept[how])


DAMAGED = [
    (name, how)
    for name in ("owl/1.png", "owl/2.jpg", "wren/1.bmp")
    for how in ("empty", "foreign", "cut")
]
DAMAGED += [("owl/1.png", "flipped")]


@pytest.mark.parametrize(("name", "how"), DAMAGED)
def test_damaged_files_are_named(birds, name, how):
    path = birds / "train" / name
    damage(path, how)
    with pytest.raises(ValueError) as caught:
        load(birds, "train", image_size=8)
    message = str(caught.value)
    assert message.startswith(f"source must be a whole image file, got '{path}': ")
    assert message.endswith(".") and "\n" not in message


@pytest.mark.parametrize(("name", "how"), [*DAMAGED, ("owl/2.jpg", "gone")])
def test_damaged_files_are_named_in_a_stream(birds, name, how):
    path = birds / "train" / name
    before = ["owl/1.png", "wren/1.bmp", "owl/2.jpg"].index(name)
    dataset, _ = load(birds, "train", image_size=8, batch_size=1, cache=False)
    damage(path, how)
    seen = []
    with pytest.raises(tf.errors.InvalidArgumentError) as caught:
        for images, _ in dataset:
            seen.append(int(images[0, 4, 4, 0]))
    assert f"source must be a whole image file, got '{path}': " in str(caught.value)
    assert seen == [10, 30, 20][: len(seen)] and len(seen) <= before


def test_a_damaged_last_file_of_a_shuffled_class_is_named(birds):
    (birds / "train" / "wren" / "1.bmp").write_bytes(b"BM")
    for cache in (True, False):
        values, *_ = read(birds, classes=["owl"], cache=cache)
        assert values == [10, 20]  # what is not asked for is not read
    dataset, _ = load(
        birds, "train", image_size=8, classes=["wren"], shuffle=True, cache=False
    )
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"wren/1\.bmp"):
        everything(dataset)


def test_other_files_are_counted_in_one_warning(birds):
    for other in ("owl/Thumbs.db", "owl/notes.txt", "labels.csv"):
        (birds / "train" / other).write_bytes(b"")
    (birds / "train" / "owl" / "more").mkdir()
    (birds / "README").write_text("")
    with pytest.warns(UserWarning, match=r"left out: 4 paths, .*\.gif") as caught:
        _, info = load(birds, "train", image_size=8)
    assert len(caught) == 1 and caught[0].filename == __file__
    assert info.num_examples == 3


def test_an_empty_class_is_one(birds):
    (birds / "train" / "auk").mkdir()
    (birds / "extra" / "no images here").mkdir(parents=True)
    _, labels, info = read(birds)
    assert info.class_names == ("auk", "owl", "wren") and labels == [1, 2, 1]


def test_names_that_are_not_utf8(birds):
    folder = birds / "train" / "m\udce9sange"
    folder.mkdir()
    gray(40).save(folder / "\udcfc.png")
    gray(50).save(folder / "\udcfc.gif")
    for cache in (True, False):
        values, labels, info = read(birds, cache=cache)
        assert sorted(values) == [10, 20, 30, 40, 50]
        found = [info.class_names[label] for label in labels]
        expected = {10: "owl", 20: "owl", 30: "wren", 40: "mésange", 50: "mésange"}
        assert found == [expected[value] for value in values]
    (folder / "\udcfc.png").write_bytes(b"")
    with pytest.raises(ValueError, match=r"m\\udce9sange/\\udcfc\.png': empty"):
        read(birds)


def test_paths(birds, monkeypatch):
    monkeypatch.chdir(birds.parent)
    monkeypatch.setenv("HOME", str(birds.parent))
    np.savez("set.npz", x_train=np.zeros((2, 4, 4), np.uint8), y_train=[0, 1])
    for name in ("birds/", "~/birds", pathlib.Path("birds"), pathlib.Path("~/birds")):
        assert read(name)[0] == [10, 30, 20]
    for name in ("~/set.npz", pathlib.Path("set.npz")):
        assert read(name, data_dir="/nowhere" if "~" in str(name) else "~")[1] == [0, 1]
    with pytest.raises(ValueError, match=r"existing folder .* got 'nowhere'\."):
        read(pathlib.Path("nowhere"))


@pytest.mark.parametrize("cache", [True, False])
def test_kinds_of_files(birds, cache):
    owl = birds / "train" / "owl"
    Image.fromarray(np.full((8, 8), 32768, np.uint16)).save(owl / "3 deep.png")
    colors = np.full((8, 8, 3), (200, 10, 20), np.uint8)
    palette = Image.fromarray(colors).convert("P", palette=Image.Palette.ADAPTIVE)
    palette.save(owl / "4 palette.bmp")
    Image.new("1", (8, 8), 1).save(owl / "5 bit.BMP")
    frames = [gray(60), gray(70)]
    frames[0].save(owl / "6 moving.gif", save_all=True, append_images=frames[1:])
    gray(80).convert("CMYK").save(owl / "7 cmyk.jpeg")
    Image.new("RGBA", (8, 8), (90, 1, 2, 0)).save(owl / "8 clear.png")
    gray(100).save(owl / "9 is webp.png", "WEBP", lossless=True)
    values, *_ = read(birds, cache=cache)
    assert values == [10, 20, 128, 200, 255, 30, 60, 80, 90, 100]


def test_npz_files_say_what_they_hold(tmp_path):
    path = tmp_path / "set.npz"
    np.savez(path, images=np.zeros((2, 4, 4), np.uint8), classes=[0, 1])
    with pytest.raises(ValueError, match=r"set\.npz with images, classes\."):
        load(path, "train")
    np.savez(path, x_train=np.array([None]), y_train=[0])
    with pytest.raises(ValueError, match=r"undamaged .npz file, got .*set\.npz: Obj"):
        load(path, "train")
    np.save(tmp_path / "one.npy", np.zeros(3))
    (tmp_path / "one.npy").rename(path)
    with pytest.raises(ValueError, match=r"undamaged .npz file, got .*set\.npz"):
        load(path, "train")
    path.write_text("no zip")
    with pytest.raises(ValueError, match=r"undamaged .npz file, got .*set\.npz"):
        load(path, "train")
    jpeg = np.frombuffer(b"\xff\xd8\xff no image", np.uint8)
    arrays = {"a_jpeg": jpeg, "a_ends": [len(jpeg)], "a_labels": [0]}
    np.savez(path, **arrays)
    with pytest.raises(ValueError, match=r"got number 0 of a_jpeg in .*set\.npz"):
        load(path, "a")


def test_a_program_that_meets_a_damaged_image_ends_in_one_sentence(birds, monkeypatch):
    damage(birds / "train/owl/1.png", "cut")
    monkeypatch.setattr("sys.argv", ["train"])

    def main(_):
        for _ in load(birds, "train", image_size=8, cache=False)[0]:
            pass

    with pytest.raises(SystemExit) as stopped:
        launch(main, Settings)
    text = str(stopped.value)
    assert text.startswith("error: source must be a whole image file, got ")
    assert repr(str(birds / "train/owl/1.png")) in text and "\n" not in text

    def broken(_):
        raise RuntimeError("ValueError: not one of a data set.")

    with pytest.raises(RuntimeError):
        launch(broken, Settings)
