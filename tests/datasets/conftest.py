import pytest

from kfeedback.datasets import backgrounds
from tests.datasets.test_backgrounds import digits, photographs

COUNTS = {"train": 50, "test": 20}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A folder that holds a tiny `mnist_background_images`."""
    # Here, as the tests of arrays run without TensorFlow.
    from kfeedback.datasets import load
    from kfeedback.datasets.builders import mnist_background_images as builder_module

    folder = tmp_path_factory.mktemp("tfds")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(backgrounds, "TRAIN_EXAMPLES", COUNTS["train"])
        patch.setattr(backgrounds, "TEST_EXAMPLES", COUNTS["test"])
        patch.setattr(backgrounds, "load_photographs", photographs)
        patch.setattr(builder_module, "read_mnist", lambda data_dir: digits(70))
        load("mnist_background_images", "train", data_dir=str(folder))
    return str(folder)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Images of classes a, b, c whose gray level says which image it is."""
    image_module = pytest.importorskip("PIL.Image")
    root = tmp_path_factory.mktemp("images")
    for split, classes in (("train", "abc"), ("test", "ac")):
        for k, name in enumerate(classes):
            (root / split / name).mkdir(parents=True)
            for i in range(4):
                gray = 10 * (4 * k + i)
                image = image_module.new("L", (10 + i, 12), gray)
                image.save(root / split / name / f"{i}.png")
    return str(root)
