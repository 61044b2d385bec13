"""Outputs are compared with those of OpenCV running the same caffemodel."""

import sys
import types

import numpy as np
import pytest

from applications.common import command_line
from kfeedback import preprocessing
from kfeedback.models.backbones import AlexNet
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


@pytest.mark.parametrize(
    "source_format, width, old",
    [(name, 1 / 8, False) for name in NETWORKS]
    + [("bvlc_alexnet", 1 / 8, True)]
    + [
        pytest.param(name, 1.0, old, marks=pytest.mark.slow)
        for name in NETWORKS
        for old in (False, True)
    ],
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


# --- What does not fit ---------------------------------------------------------------


@pytest.fixture
def small(cv2):
    """Layers, converter input and model of a thin AlexNet."""
    layers = caffe_files.alexnet(CLASSES, 1 / 24).layers
    return layers, our_model("bvlc_alexnet", 1 / 24)


def convert_layers(model, layers, path, source_format="bvlc_alexnet"):
    write(path, layers)
    convert_caffe.convert(model, convert_caffe.read(path), source_format)


def refused(model, layers, path, *words, source_format="bvlc_alexnet"):
    before = [harness.to_numpy(v) for v in model.weights]
    with pytest.raises(ValueError) as caught:
        convert_layers(model, layers, path, source_format)
    harness.assert_one_sentence(caught.value, "--")
    for word in words:
        assert word in str(caught.value)
    for old, variable in zip(before, model.weights, strict=True):
        harness.assert_bit_equal(harness.to_numpy(variable), old, variable.path)


def changed(layers, of, name=None, blobs=lambda blobs: blobs):
    """The layers with another name or other blobs of one of them."""
    return [
        (name or of, layer[1], layer[2], blobs(layer[3])) if layer[0] == of else layer
        for layer in layers
    ]


def test_every_blob_is_used_once(small, tmp_path):
    layers, model = small
    path = tmp_path / "a.caffemodel"
    convert_layers(model, layers, path)
    without = [layer for layer in layers if layer[0] != "conv3"]
    refused(model, without, path, "missing from the file: conv3[0], conv3[1]")
    more = [*layers, ("extra", "Convolution", "conv5", [np.ones((2, 2, 1, 1))])]
    refused(model, more, path, "unused in the file: extra[0]")
    renamed = changed(layers, "fc8", name="fc8_flickr")
    refused(model, renamed, path, "missing", "fc8[1]", "unused", "fc8_flickr[0]")
    one_more = changed(layers, "conv2", blobs=lambda b: [*b, b[1]])
    refused(model, one_more, path, "unused in the file: conv2[2]")
    twice = [*layers, layers[0]]
    refused(model, twice, path, "--source must hold each layer once, got conv1")


def test_shapes_and_values(small, tmp_path):
    layers, model = small
    path = tmp_path / "a.caffemodel"
    for name in ("conv1", "conv2", "fc6", "fc7", "fc8"):
        for change in (
            lambda b: [b[0][:-1], b[1]],
            lambda b: [b[0][:, :-1], b[1]],
            lambda b: [b[0], b[1][:-1]],
            lambda b: [b[0], np.stack([b[1], b[1]])],
            lambda b: [b[0].ravel(), b[1]],
        ):
            refused(model, changed(layers, name, blobs=change), path, name)
        nan = changed(layers, name, blobs=lambda b: [b[0] * np.nan, b[1]])
        refused(model, nan, path, "finite floats", name)


def test_alexnet_and_caffenet_are_told_apart(small, tmp_path):
    """They differ in no blob, but in what comes out."""
    layers, model = small
    path = tmp_path / "a.caffemodel"
    pool_first = our_model("bvlc_reference_caffenet", 1 / 24)
    caffenet = caffe_files.alexnet(CLASSES, 1 / 24, pool_first=True).layers
    refused(model, caffenet, path, "--format", "norm1 reads pool1")
    refused(
        pool_first,
        layers,
        path,
        "--format",
        "norm1 reads conv1",
        source_format="bvlc_reference_caffenet",
    )
    bare = [layer for layer in layers if layer[3]]  # without a word of norm1
    images = bgr_images(227, 1)
    results = []
    for each, given in ((model, layers), (model, bare), (pool_first, bare)):
        convert_layers(each, given, path)
        results.append(harness.to_numpy(each(images)))
    harness.assert_bit_equal(results[1], results[0], "the same blobs")
    assert np.abs(results[2] - results[0]).max() > 0.01 * np.abs(results[0]).max()


def test_auxiliary_classifiers_are_left_out(cv2, tmp_path):
    layers = caffe_files.googlenet(CLASSES, 1 / 32).layers
    model = our_model("bvlc_googlenet", 1 / 32)
    path = tmp_path / "a.caffemodel"
    auxiliary = [
        (f"loss{number}/{name}", kind, "inception_4a/output", [np.ones(shape), [1, 2]])
        for number in (1, 2)
        for name, kind, shape in (
            ("conv", "Convolution", (2, 2, 1, 1)),
            ("fc", "InnerProduct", (2, 3)),
            ("classifier", "InnerProduct", (2, 2)),
        )
    ]
    convert_layers(model, [*layers, *auxiliary], path, "bvlc_googlenet")
    refused(
        model,
        [*layers, *auxiliary[1:]],
        path,
        "missing from the file: loss1/conv[0], loss1/conv[1]",
        source_format="bvlc_googlenet",
    )
    alexnet = our_model("bvlc_alexnet", 1 / 32)
    refused(alexnet, layers, path, "conv1[0]", "inception_5b/pool_proj[1]")


def test_a_truncated_file(small, tmp_path):
    layers, model = small
    path = tmp_path / "a.caffemodel"
    content = write(path, layers)
    before = [harness.to_numpy(v) for v in model.weights]
    # In the middle of data, and between layers, where what is left is a valid file.
    ends = [len(caffe_files.encode(layers[:count])) for count in range(len(layers) + 1)]
    last = max(i for i, layer in enumerate(layers) if layer[3])
    for end in (*ends[: last + 1], *np.linspace(1, len(content) - 20, 40, dtype=int)):
        path.write_bytes(content[:end])
        with pytest.raises(ValueError) as caught:
            convert_caffe.convert(model, convert_caffe.read(path), "bvlc_alexnet")
        harness.assert_one_sentence(caught.value, "--source")
    for old, variable in zip(before, model.weights, strict=True):
        harness.assert_bit_equal(harness.to_numpy(variable), old, variable.path)


def foreign():
    layer = [("conv1", "Convolution", "data", [np.ones((2, 3, 1, 1)), np.ones(2)])]
    short = caffe_files.encode(layer).replace(
        b"\x0a\x04\x02\x03\x01\x01", b"\x0a\x04\x02\x03\x01\x02"
    )
    return {
        "empty": b"",
        "html": b"<html>no</html>",
        "text": b"x" * 100,
        "hdf5": b"\x89HDF\r\n\x1a\n" + bytes(100),
        "zip": b"PK\x03\x04" + bytes(100),
        "onnx": b"\x08\x07\x12\x07pytorch:\x02\x0a\x00",
        "no blobs": caffe_files.encode([("pool1", "Pooling", "data", [])]),
        "a name that is no text": caffe_files.encode(layer).replace(
            b"conv1", b"\xff" * 5
        ),
        "data of another length than the shape": short,
    }


@pytest.mark.parametrize("name", foreign())
def test_a_foreign_file(cv2, tmp_path, name):
    path = tmp_path / "a.caffemodel"
    path.write_bytes(foreign()[name])
    with pytest.raises(ValueError) as caught:
        convert_caffe.read(path)
    harness.assert_one_sentence(caught.value, "--source")


def test_names_with_quotes(cv2, tmp_path):
    names = ['a"b', "a\\b", "a\nb", "ü", 'x" } layer { name: "y']
    blobs = [np.full((2, 3), 2.0)]
    write(tmp_path / "a", [(name, "InnerProduct", "data", blobs) for name in names])
    source = convert_caffe.read(tmp_path / "a")
    assert source.tensors.keys() == {f"{name}[0]" for name in names}
    assert all(np.array_equal(value, blobs[0]) for value in source.tensors.values())


def test_no_such_file(cv2, tmp_path):
    for path in (tmp_path / "nowhere", tmp_path):
        with pytest.raises(ValueError) as caught:
            convert_caffe.read(path)
        harness.assert_one_sentence(caught.value, "--source")


def test_without_an_opencv_that_reads_caffemodels(monkeypatch):
    new = types.ModuleType("cv2")
    new.dnn, new.error = types.ModuleType("cv2.dnn"), RuntimeError
    for module in (None, new):
        monkeypatch.setitem(sys.modules, "cv2", module)
        with pytest.raises(ImportError, match=r"OpenCV before version 5.*kfeedback\[c"):
            convert_caffe.read("a.caffemodel")


# --- The command ---------------------------------------------------------------------


def command(*arguments):
    settings = command_line.parse(convert_caffe.Settings, arguments)
    convert_caffe.main(settings)


@harness.tensorflow_only
def test_by_command(cv2, tmp_path, capsys):
    network = caffe_files.alexnet(CLASSES, 1 / 24, pool_first=True)
    content = write(tmp_path / "a.caffemodel", network.layers)
    command(
        f"--source={tmp_path / 'a.caffemodel'}",
        "--format=bvlc_reference_caffenet",
        f"--output={tmp_path / 'out.h5'}",
        f'--kwargs={{"classes": {CLASSES}, "width": {1 / 24}}}',
    )
    assert "16 variables of 16 blobs" in capsys.readouterr().out
    model = AlexNet(
        classes=CLASSES,
        classifier_activation=None,
        width=1 / 24,
        pool_first=True,
        weights=tmp_path / "out.h5",
    )
    images = bgr_images(227)
    assert_equal(
        harness.to_numpy(model(images)), opencv_outputs(cv2, network, content, images)
    )


@pytest.mark.parametrize(
    "arguments, argument",
    [
        ([], "--source"),
        (["--source=a", "--format=bvlc_alexnet"], "--output"),
        (["--source=a", "--format=bvlc_alexnet", "--output=b", "--kwargs=["], "--kw"),
    ],
)
def test_bad_flags(arguments, argument):
    with pytest.raises(ValueError) as caught:
        command(*arguments)
    harness.assert_one_sentence(caught.value, argument)
