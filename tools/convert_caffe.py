r"""Converts a caffemodel of AlexNet or GoogLeNet to a file of `kfeedback.weights`.

    python -m tools.convert_caffe --source=bvlc_alexnet.caffemodel \
        --format=bvlc_alexnet --output=alexnet.h5

Formats are the networks of the Caffe model zoo: `bvlc_alexnet` for `AlexNet`,
`bvlc_reference_caffenet` for `AlexNet(pool_first=True)`, `bvlc_googlenet` for
`GoogLeNet`; `--kwargs='{"classes": 20}'` for a file with other classes. Every blob of
the file must be used once and every variable of the model filled once, or the two lists
are an error; only the auxiliary classifiers of GoogLeNet are left out, which inference
does not use. The outputs are then those of Caffe on the same numbers: images are
`kfeedback.preprocessing.preprocess_input(images, "caffe")`, BGR minus a mean.

OpenCV parses the file, of either format of Caffe (`layer` and the older `layers`). It
needs the extra `caffe`: OpenCV 5 has no reader of caffemodels any more.
"""

import dataclasses
import functools
import json
import os
import pathlib
import re
from typing import NamedTuple

import keras
import numpy as np

from applications.common.command_line import launch
from applications.common.settings import changed
from kfeedback import weights
from kfeedback.models.backbones import AlexNet, GoogLeNet
from tools.converters.command import Conversion
from tools.converters.entries import Entry, assign, hwio, rows_of_flattened, transposed


class Caffemodel(NamedTuple):
    """What a file holds: blobs as `layer[0]`, `layer[1]`, and each layer's inputs."""

    tensors: dict
    bottoms: dict


def read(path):
    """The content of a caffemodel.

    Raises:
        ImportError: if there is no OpenCV that reads caffemodels.
        ValueError: if there is no such file or it cannot be read.
    """
    try:
        from cv2 import dnn
        from cv2 import error as OpenCVError

        read_net = dnn.readNetFromCaffe
    except (ImportError, AttributeError) as error:
        raise ImportError(
            "A caffemodel is read by OpenCV before version 5, which `pip install "
            "'kfeedback[caffe]'` installs."
        ) from error
    path = os.fspath(path)
    if not pathlib.Path(path).is_file():
        raise ValueError(f"--source must be a file, got {path!r}.")
    content = pathlib.Path(path).read_bytes()
    layers = _listed_layers(content, path)
    counts = {name: len(layer.blobs) for name, layer in layers.items() if layer.blobs}
    if not counts:
        raise ValueError(
            f"--source must be a caffemodel, got {path!r}, which holds no layer with "
            "blobs."
        )
    # OpenCV keeps the blobs of those layers that a text names, and of no other: here
    # of all, as layers that do nothing and take every blob as it is.
    text = 'input: "data" input_shape { dim: 1 }' + "".join(
        f' layer {{ type: "Identity" bottom: "data" top: {name} name: {name} }}'
        for name in (json.dumps(name, ensure_ascii=False) for name in counts)
    )
    try:
        net = read_net(*(np.frombuffer(x, "uint8") for x in (text.encode(), content)))
        tensors = {
            f"{name}[{i}]": net.getParam(name, i)
            for name, count in counts.items()
            for i in range(count)
        }
    except OpenCVError as error:
        raise ValueError(
            f"--source must be a caffemodel with data for all its blobs, got {path!r}."
        ) from error
    return Caffemodel(tensors, {n: layer.bottom for n, layer in layers.items()})


def _listed_layers(content, path):
    """Dict from each layer's name to its message, which lists inputs and blobs."""
    from google.protobuf.message import DecodeError

    try:
        net = _net_type().FromString(content)
        layers = [(x.name.decode(), x) for x in (*net.layer, *net.layers)]
    except (DecodeError, UnicodeDecodeError) as error:
        raise ValueError(
            f"--source must be a complete caffemodel, got {path!r}, which is cut off "
            "or none."
        ) from error
    names = [name for name, layer in layers if layer.blobs]
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise ValueError(
            f"--source must hold each layer once, got {', '.join(sorted(twice))} twice."
        )
    # Training has layers without blobs of one name, such as one of data for each phase.
    return dict(sorted(layers, key=lambda item: bool(item[1].blobs)))


@functools.cache
def _net_type():
    """The message of a caffemodel, in so far as it says which blobs there are."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    field = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="caffemodel", syntax="proto2")

    def add(message, **numbers):
        message = file.message_type.add(name=message)
        for name, (number, kind, label) in numbers.items():
            one = message.field.add(name=name, number=number, label=label)
            if isinstance(kind, str):
                one.type, one.type_name = field.TYPE_MESSAGE, kind
            else:
                one.type = kind

    once, often = field.LABEL_OPTIONAL, field.LABEL_REPEATED
    raw = field.TYPE_BYTES
    for message, name, bottom, blobs in (("Layer", 1, 3, 7), ("OldLayer", 4, 2, 6)):
        add(
            message,
            name=(name, raw, once),
            bottom=(bottom, raw, often),
            blobs=(blobs, raw, often),
        )
    add("Net", layer=(100, ".Layer", often), layers=(2, ".OldLayer", often))
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("Net"))


# --- Where the blobs belong ----------------------------------------------------------


def _alexnet_name(name):
    return {"predictions": "fc8"}.get(name, name)


def _googlenet_name(name):
    known = {"predictions": "loss3/classifier", "conv1_7x7": "conv1/7x7_s2"}
    return known.get(name) or re.sub(r"^(conv\d|inception_\w\w)_", r"\1/", name)


# What a format is for, the arguments that make it so, and its names of our layers.
FORMATS = {
    "bvlc_alexnet": (AlexNet, {}, _alexnet_name),
    "bvlc_reference_caffenet": (AlexNet, {"pool_first": True}, _alexnet_name),
    "bvlc_googlenet": (GoogLeNet, {}, _googlenet_name),
}
_AUXILIARY = tuple(
    f"loss{number}/{layer}[{blob}]"
    for number in (1, 2)
    for layer in ("conv", "fc", "classifier")
    for blob in (0, 1)
)


def convert(model, source, source_format):
    """Fills a model with the blobs of a caffemodel.

    Args:
        model: a `keras.Model` of the architecture of the source.
        source: a `Caffemodel`.
        source_format: a key of `FORMATS`.

    Raises:
        ValueError: if the two do not fit; the model is then left as it was.
    """
    _, _, name_of = FORMATS[source_format]
    entries, flattened = [], None
    for layer in model.layers:
        if isinstance(layer, keras.layers.Conv2D):
            make = hwio
        elif isinstance(layer, keras.layers.Dense):
            make = transposed if flattened is None else rows_of_flattened(flattened)
            make, flattened = functools.partial(_of_matrix, make), None
        elif isinstance(layer, keras.layers.Flatten):
            flattened = layer.input.shape[1:]
            continue
        else:
            continue
        name = name_of(layer.name)
        entries.append(Entry((f"{layer.name}/kernel",), (f"{name}[0]",), make))
        entries.append(Entry((f"{layer.name}/bias",), (f"{name}[1]",), _vector))
    if source_format == "bvlc_googlenet" and not source.tensors.keys().isdisjoint(
        _AUXILIARY
    ):
        entries.append(Entry((), _AUXILIARY))
    _check_order(model, source)
    assign(model, source.tensors, entries)


def _check_order(model, source):
    """AlexNet and CaffeNet have the same blobs: what tells them is what norm1 reads."""
    order = [x.name for x in model.layers if x.name in ("norm1", "pool1")]
    bottoms = [bottom.decode() for bottom in source.bottoms.get("norm1", ())]
    if bottoms and bottoms[0].startswith("pool1") != (order == ["pool1", "norm1"]):
        raise ValueError(
            f"--format must be that of a network in which norm1 reads {bottoms[0]}, as "
            f"in --source, got one for model '{model.name}', in which {order[1]} reads "
            f"{order[0]}."
        )


def _of_matrix(make, value):
    # The older format has four axes everywhere, the first ones of length 1.
    return make(value.reshape(value.shape[-2:]))


def _vector(value):
    if value.size != max(value.shape):
        raise ValueError("a bias must have one axis")
    return value.ravel()


@dataclasses.dataclass(frozen=True)
class Settings(Conversion):
    """The flags of tools.convert_caffe."""

    format: str | None = changed(Conversion, "format", None, choices=tuple(FORMATS))


def main(settings):
    """Converts and writes the file."""
    source = read(settings.source)
    factory, own, _ = FORMATS[settings.format]
    model = factory(weights=None, **{**own, **settings.kwargs})
    convert(model, source, settings.format)
    weights.save(model, settings.output)
    print(
        f"{settings.output}: {len(model.weights)} variables of {len(source.tensors)} "
        "blobs"
    )


if __name__ == "__main__":
    launch(main, Settings)
