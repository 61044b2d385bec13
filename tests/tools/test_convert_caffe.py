import numpy as np
import pytest

from kfeedback import preprocessing
from tests import harness
from tests.tools import caffe_files
from tools import convert_caffe

TOLERANCE = 1e-5  # of the largest output
CLASSES = 7
NETWORKS = {
    "bvlc_alexnet": caffe_files.alexnet,
    "bvlc_reference_caffenet": lambda *a: caffe_files.alexnet(*a, pool_first=True),
    "bvlc_googlenet": caffe_files.googlenet,
}


@pytest.fixture(scope="module")
def cv2():
    cv2 = pytest.importorskip("cv2")
    if not hasattr(cv2.dnn, "readNetFromCaffe"):
        pytest.skip("OpenCV 5 reads no caffemodels")
    return cv2


def our_model(source_format, width, classes=CLASSES):
    factory, arguments, _ = convert_caffe.FORMATS[source_format]
    return factory(
        classes=classes, classifier_activation=None, width=width, **arguments
    )


def bgr_images(side, count=2):
    images = np.random.default_rng(3).uniform(0, 255, (count, side, side, 3))
    return preprocessing.preprocess_input(images, "caffe")


def opencv_outputs(cv2, network, content, images):
    net = cv2.dnn.readNetFromCaffe(
        np.frombuffer(network.text.encode(), "uint8"), np.frombuffer(content, "uint8")
    )
    net.enableWinograd(False)  # which rounds more
    net.setInput(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))
    return net.forward().copy()


def write(path, layers, old=False):
    content = caffe_files.encode(layers, old)
    path.write_bytes(content)
    return content


def assert_equal(result, expected):
    difference = np.max(np.abs(result - expected)) / np.max(np.abs(expected))
    print(f"largest difference {difference:.2g} of the largest output")
    assert np.std(expected) > 0.1 * np.max(np.abs(expected))
    assert difference <= TOLERANCE


@pytest.mark.parametrize("old", [False, True], ids=["layer", "layers"])
@pytest.mark.parametrize(
    "source_format, width",
    [(name, 1 / 8) for name in NETWORKS]
    + [pytest.param(name, 1.0, marks=pytest.mark.slow) for name in NETWORKS],
)
@harness.tensorflow_only
def test_outputs_equal_those_of_opencv(cv2, tmp_path, source_format, width, old):
    network = NETWORKS[source_format](CLASSES, width)
    content = write(tmp_path / "a.caffemodel", network.layers, old)
    source = convert_caffe.read(tmp_path / "a.caffemodel")
    model = our_model(source_format, width)
    convert_caffe.convert(model, source, source_format)
    images = bgr_images(model.input.shape[1])
    expected = opencv_outputs(cv2, network, content, images)
    assert_equal(harness.to_numpy(model(images)), expected)


@harness.tensorflow_only
def test_every_layer_equals_that_of_opencv(cv2, tmp_path):
    """In GoogLeNet, whose poolings are the last to agree by chance."""
    network = caffe_files.googlenet(CLASSES, 1 / 8)
    content = write(tmp_path / "a.caffemodel", network.layers)
    model = our_model("bvlc_googlenet", 1 / 8)
    convert_caffe.convert(
        model, convert_caffe.read(tmp_path / "a.caffemodel"), "bvlc_googlenet"
    )
    images = bgr_images(224, 1)
    pairs = {
        "pool1": "pool1/3x3_s2",
        "norm1": "pool1/norm1",
        "pool2": "pool2/3x3_s2",
        "inception_3b_output": "inception_3b/output",
        "pool4": "pool4/3x3_s2",
    }
    import keras

    inner = keras.Model(model.input, [model.get_layer(n).output for n in pairs])
    net = cv2.dnn.readNetFromCaffe(
        np.frombuffer(network.text.encode(), "uint8"), np.frombuffer(content, "uint8")
    )
    net.enableWinograd(False)
    net.setInput(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))
    for result, expected in zip(
        inner(images), net.forward(list(pairs.values())), strict=True
    ):
        expected = expected.transpose(0, 2, 3, 1)
        difference = np.abs(harness.to_numpy(result) - expected).max()
        assert difference <= TOLERANCE * expected.max()
