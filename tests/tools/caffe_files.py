"""Networks as Caffe has them: a text of layers and a file of random weights.

The files are encoded here byte by byte, from the fields of caffe.proto.
"""

import numpy as np


class CaffeNetwork:
    """Layers are written in order; each takes the one before unless told otherwise.

    Attributes:
        text: the prototxt.
        layers: list of (name, type, bottom, blobs) of all layers, for `encode`.
        channels: dict from each top to its channels.
        last: the top of the last layer.
    """

    def __init__(self, side, width, seed=0):
        self.random = np.random.default_rng(seed)
        self.width = width
        shape = f"dim: 1 dim: 3 dim: {side} dim: {side}"
        self.text = f'input: "data"\ninput_shape {{ {shape} }}\n'
        self.layers, self.channels, self.last = [], {"data": 3}, "data"

    def count(self, filters, multiple=1):
        return multiple * max(1, round(self.width * filters / multiple))

    def add(self, name, kind, parameters="", *, bottoms=None, top=None, blobs=()):
        bottoms = bottoms or [self.last]
        self.last = top or name
        self.channels.setdefault(self.last, self.channels[bottoms[0]])
        self.layers.append((name, kind, bottoms[0], list(blobs)))
        inputs = "".join(f' bottom: "{bottom}"' for bottom in bottoms)
        self.text += (
            f'layer {{ name: "{name}" type: "{kind}"{inputs} top: "{self.last}" '
            f"{parameters} }}\n"
        )

    def relu(self, name):
        self.add(name, "ReLU", top=self.last)  # in place, as the published networks

    def convolution(
        self, name, filters, kernel, relu, stride=1, pad=0, group=1, bottom=None
    ):
        bottom = bottom or self.last
        channels = self.channels[bottom] // group
        scale = np.sqrt(2 / (kernel * kernel * channels))
        self.channels[name] = filters
        self.add(
            name,
            "Convolution",
            f"convolution_param {{ num_output: {filters} kernel_size: {kernel} "
            f"stride: {stride} pad: {pad} group: {group} }}",
            bottoms=[bottom],
            blobs=[
                self.random.normal(0, scale, (filters, channels, kernel, kernel)),
                self.random.normal(0, 1, filters),
            ],
        )
        self.relu(relu)

    def norm(self, name):
        self.add(
            name, "LRN", "lrn_param { local_size: 5 alpha: 0.0001 beta: 0.75 k: 1 }"
        )

    def pool(self, name, kernel=3, stride=2, pad=0, kind="MAX", bottom=None):
        self.add(
            name,
            "Pooling",
            f"pooling_param {{ pool: {kind} kernel_size: {kernel} stride: {stride} "
            f"pad: {pad} }}",
            bottoms=[bottom or self.last],
        )

    def dense(self, name, units, inputs):
        self.channels[name] = units
        self.add(
            name,
            "InnerProduct",
            f"inner_product_param {{ num_output: {units} }}",
            blobs=[
                self.random.normal(0, np.sqrt(2 / inputs), (units, inputs)),
                self.random.normal(0, 1, units),
            ],
        )

    def dropout(self, name):
        self.add(name, "Dropout", top=self.last)


def alexnet(classes, width=1.0, pool_first=False):
    """`bvlc_alexnet`, or with `pool_first` `bvlc_reference_caffenet`, up to fc8."""
    net = CaffeNetwork(227, width)
    net.convolution("conv1", net.count(96, 2), 11, "relu1", stride=4)
    for number in (1, 2):
        steps = [net.norm, net.pool]
        names = [f"norm{number}", f"pool{number}"]
        for i in (1, 0) if pool_first else (0, 1):
            steps[i](names[i])
        if number == 1:
            net.convolution("conv2", net.count(256, 2), 5, "relu2", pad=2, group=2)
    net.convolution("conv3", net.count(384, 2), 3, "relu3", pad=1)
    net.convolution("conv4", net.count(384, 2), 3, "relu4", pad=1, group=2)
    net.convolution("conv5", net.count(256, 2), 3, "relu5", pad=1, group=2)
    net.pool("pool5")
    units = net.count(4096, 2)
    net.dense("fc6", units, 36 * net.channels["pool5"])
    net.relu("relu6")
    net.dropout("drop6")
    net.dense("fc7", units, units)
    net.relu("relu7")
    net.dropout("drop7")
    net.dense("fc8", classes, units)
    return net


def googlenet(classes, width=1.0):
    """`bvlc_googlenet` up to loss3/classifier."""
    net = CaffeNetwork(224, width)
    net.convolution("conv1/7x7_s2", net.count(64), 7, "conv1/relu_7x7", stride=2, pad=3)
    net.pool("pool1/3x3_s2")
    net.norm("pool1/norm1")
    net.convolution("conv2/3x3_reduce", net.count(64), 1, "conv2/relu_3x3_reduce")
    net.convolution("conv2/3x3", net.count(192), 3, "conv2/relu_3x3", pad=1)
    net.norm("conv2/norm2")
    net.pool("pool2/3x3_s2")
    modules = [
        ("3a", 64, 96, 128, 16, 32, 32),
        ("3b", 128, 128, 192, 32, 96, 64),
        ("4a", 192, 96, 208, 16, 48, 64),
        ("4b", 160, 112, 224, 24, 64, 64),
        ("4c", 128, 128, 256, 24, 64, 64),
        ("4d", 112, 144, 288, 32, 64, 64),
        ("4e", 256, 160, 320, 32, 128, 128),
        ("5a", 256, 160, 320, 32, 128, 128),
        ("5b", 384, 192, 384, 48, 128, 128),
    ]
    for module, *filters in modules:
        if module in ("4a", "5a"):
            net.pool(f"pool{int(module[0]) - 1}/3x3_s2")
        _inception(net, f"inception_{module}", map(net.count, filters))
    net.pool("pool5/7x7_s1", kernel=7, stride=1, kind="AVE")
    net.dropout("pool5/drop_7x7_s1")
    net.dense("loss3/classifier", classes, net.channels[net.last])
    return net


def _inception(net, name, filters):
    one, three_reduce, three, five_reduce, five, projection = filters
    bottom = net.last
    for branch, reduced, reduce, kernel in (
        ("1x1", one, None, 1),
        ("3x3", three, three_reduce, 3),
        ("5x5", five, five_reduce, 5),
    ):
        source = bottom
        if reduce:
            source = f"{name}/{branch}_reduce"
            relu = f"{name}/relu_{branch}_reduce"
            net.convolution(source, reduce, 1, relu, bottom=bottom)
        net.convolution(
            f"{name}/{branch}",
            reduced,
            kernel,
            f"{name}/relu_{branch}",
            pad=kernel // 2,
            bottom=source,
        )
    net.pool(f"{name}/pool", stride=1, pad=1, bottom=bottom)
    net.convolution(f"{name}/pool_proj", projection, 1, f"{name}/relu_pool_proj")
    branches = [f"{name}/{branch}" for branch in ("1x1", "3x3", "5x5", "pool_proj")]
    net.channels[f"{name}/output"] = sum(net.channels[b] for b in branches)
    net.add(f"{name}/output", "Concat", bottoms=branches)


# --- The encoding of protocol buffers ------------------------------------------------

# Numbers of the types of `layers`, the older format.
_OLD_TYPES = {
    "Concat": 3,
    "Convolution": 4,
    "Dropout": 6,
    "InnerProduct": 14,
    "LRN": 15,
    "Pooling": 17,
    "ReLU": 18,
}


def encode(layers, old=False):
    """The bytes of a caffemodel.

    Args:
        layers: list of (name, type, bottom, blobs).
        old: bool, as the older versions of Caffe wrote it: `layers`, and blobs of four
            axes.
    """
    result = _bytes(1, b"a network")
    for name, kind, bottom, blobs in layers:
        blobs = [_blob(np.asarray(blob), old) for blob in blobs]
        if old:
            layer = _bytes(2, bottom.encode()) + _bytes(4, name.encode())
            layer += _integer(5, _OLD_TYPES[kind])
            layer += b"".join(_bytes(6, blob) for blob in blobs)
            result += _bytes(2, layer)
        else:
            layer = _bytes(1, name.encode()) + _bytes(2, kind.encode())
            layer += _bytes(3, bottom.encode())
            layer += b"".join(_bytes(7, blob) for blob in blobs)
            result += _bytes(100, layer)
    return result


def _blob(value, old):
    data = _bytes(5, value.astype("<f4").tobytes())
    if old:
        shape = (1,) * (4 - value.ndim) + value.shape
        return b"".join(_integer(1 + i, n) for i, n in enumerate(shape)) + data
    return _bytes(7, _bytes(1, b"".join(map(_varint, value.shape)))) + data


def _bytes(number, content):
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _integer(number, value):
    return _varint(number << 3) + _varint(value)


def _varint(value):
    low, high = value & 127, value >> 7
    return bytes([low | 128]) + _varint(high) if high else bytes([low])
