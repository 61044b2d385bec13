"""The published networks, rewritten from their equations in NumPy.

Each makes its tensors where it first reads them, under the names and in the layout of
the authors' files, and keeps them in `tensors`. Images are channels last.
"""

import numpy as np

from tests.reference import operations as reference


class Published:
    """Random tensors of one file; `torch` layout is channels first."""

    epsilon = 1e-5
    norm_parts = ("weight", "bias", "running_mean", "running_var")
    is_torch = True

    def __init__(self, seed=0):
        self.random = np.random.default_rng(seed)
        self.tensors = {}

    def make(self, name, shape, scale=0.3):
        assert name not in self.tensors
        value = self.random.normal(0, scale, shape).astype("float32")
        self.tensors[name] = value
        return value.astype("float64")

    def kernel(self, name, side, inputs, filters):
        scale = np.sqrt(2 / (side * side * inputs))
        if not self.is_torch:
            return self.make(name, (side, side, inputs, filters), scale)
        kernel = self.make(name, (filters, inputs, side, side), scale)
        return np.moveaxis(kernel, (0, 1), (3, 2))

    def dense(self, x, names, units):
        kernel, bias = names
        inputs = x.shape[-1]
        shape = (units, inputs) if self.is_torch else (inputs, units)
        kernel = self.make(kernel, shape, np.sqrt(1 / inputs))
        kernel = kernel.T if self.is_torch else kernel
        return x @ kernel + self.make(bias, (units,))

    def statistics(self, channels):
        """The mean and variance of a map, the same for all who read it."""
        mean = self.random.normal(0, 0.3, channels).astype("float32")
        return mean, self.random.uniform(0.5, 1.5, channels).astype("float32")

    def norm(self, x, name, statistics=None):
        channels = x.shape[-1]
        mean, variance = statistics or self.statistics(channels)
        names = [self.norm_name(name, part) for part in self.norm_parts]
        gamma = 1 + self.make(names[0], (channels,))
        self.tensors[names[0]] += np.float32(1)
        beta = self.make(names[1], (channels,))
        self.tensors[names[2]], self.tensors[names[3]] = mean, variance
        return gamma * (x - mean) / np.sqrt(variance + self.epsilon) + beta

    def norm_name(self, name, part):
        return f"{name}.{part}"


def padded(x, size):
    return np.pad(x, ((0, 0), (size, size), (size, size), (0, 0)))


# --- CliqueNet -----------------------------------------------------------------------


class CliqueNetTorch(Published):
    """For ImageNet: `names` are those of nested modules."""

    names = {
        "transition": "list_trans.{0}.conv.weight",
        "compression": "list_compress.{0}.conv.weight",
        "top": ("fc.weight", "fc.bias"),
    }

    def attention_names(self, block):
        start = f"list_trans.{block}.attention"
        return [(f"{start}.fc{n}.weight", f"{start}.fc{n}.bias") for n in (1, 2)]

    def stem(self, x):
        kernel = self.kernel("fir_trans.weight", 7, x.shape[-1], 64)
        x = reference.conv2d(padded(x, 3), kernel, stride=2)
        x = padded(reference.relu(self.norm(x, "fir_bn")), 1)
        rows, columns = x.shape[1] - 2, x.shape[2] - 2
        windows = [
            x[:, i : i + rows : 2, j : j + columns : 2]
            for i in range(3)
            for j in range(3)
        ]
        return np.max(windows, axis=0)

    def block_kernel(self, block, layers, source, to, side, inputs, filters):
        number = source * (layers + 1) + to
        name = f"list_block.{block}.conv_param.{number}.weight"
        return self.kernel(name, side, inputs, filters)

    def second_kernel(self, block, layer, filters):
        name = f"list_block.{block}.conv_param_bottle.{layer - 1}.weight"
        return self.kernel(name, 3, filters, filters)

    def norm_of(self, block, stage, layer, second=""):
        kind = "forward_bn" if stage == 1 else "loop_bn"
        return f"list_block.{block}.{kind}{second}.{layer - 1}"

    def norm_of_role(self, block, role):
        lists = {"compression": "compress", "head": "gb", "transition": "trans"}
        return f"list_{lists[role]}.{block}.bn"

    # One layer after the other, each kernel by itself.
    def block(self, x, number, filters, layers, bottleneck, stages, updates):
        side = 1 if bottleneck else 3
        kernels = {}
        for to in range(1, layers + 1):
            for source in range(layers + 1):
                if source != to:
                    inputs = filters if source else x.shape[-1]
                    kernels[source, to] = self.block_kernel(
                        number, layers, source, to, side, inputs, filters
                    )
        seconds = {}
        if bottleneck:
            for layer in range(1, layers + 1):
                seconds[layer] = self.second_kernel(number, layer, filters)
        maps = {0: (x, *self.statistics(x.shape[-1]))}
        for stage in range(1, stages + 1):
            count = layers if stage == 1 or updates is None else updates
            for layer in range(1, count + 1):
                read = sorted(m for m in maps if m != layer and (m or stage == 1))
                value, *statistics = (
                    np.concatenate([maps[m][part] for m in read], axis=-1)
                    for part in range(3)
                )
                name = self.norm_of(number, stage, layer)
                value = reference.relu(self.norm(value, name, statistics))
                kernel = np.concatenate([kernels[m, layer] for m in read], axis=2)
                value = reference.conv2d(padded(value, side // 2), kernel)
                if bottleneck:
                    name = self.norm_of(number, stage, layer, "_b")
                    value = reference.relu(self.norm(value, name))
                    value = reference.conv2d(padded(value, 1), seconds[layer])
                maps[layer] = (value, *self.statistics(filters))
        return np.concatenate([maps[m][0] for m in range(1, layers + 1)], axis=-1)

    def logits(
        self,
        x,
        filters,
        layers,
        classes,
        attention=False,
        bottleneck=False,
        compression=False,
        stages=2,
        updates=None,
    ):
        x = self.stem(np.asarray(x, "float64"))
        pooled = []

        def norm_relu_conv(x, block, role, filters):
            x = reference.relu(self.norm(x, self.norm_of_role(block, role)))
            name = self.names[role].format(block)
            return reference.conv2d(x, self.kernel(name, 1, x.shape[-1], filters))

        for block, (k, n) in enumerate(zip(filters, layers, strict=True)):
            stage = self.block(x, block, k, n, bottleneck, stages, updates)
            feature = np.concatenate([x, stage], axis=-1)
            if compression:
                half = feature.shape[-1] // 2
                feature = norm_relu_conv(feature, block, "compression", half)
            feature = self.norm(feature, self.norm_of_role(block, "head"))
            pooled.append(reference.relu(feature).mean(axis=(1, 2)))
            if block == len(filters) - 1:
                break
            x = norm_relu_conv(stage, block, "transition", stage.shape[-1])
            if attention:
                first, second = self.attention_names(block)
                hidden = self.dense(x.mean(axis=(1, 2)), first, x.shape[-1] // 2)
                scores = self.dense(reference.relu(hidden), second, x.shape[-1])
                x = x / (1 + np.exp(-scores))[:, None, None]
            x = (x[:, ::2] + x[:, 1::2])[:, :, ::2] + (x[:, ::2] + x[:, 1::2])[
                :, :, 1::2
            ]
            x = x / 4
        return self.dense(np.concatenate(pooled, axis=-1), self.names["top"], classes)


class CliqueNetTF(CliqueNetTorch):
    """For CIFAR: batch norms are numbered as they are made."""

    epsilon = 1e-3
    norm_parts = ("gamma", "beta", "moving_mean", "moving_variance")
    is_torch = False
    names = {"transition": "tran{}", "compression": "com{}", "top": ("FC_W", "FC_b")}

    def stem(self, x):
        kernel = self.kernel("first_tran", 3, x.shape[-1], 64)
        return reference.conv2d(padded(x, 1), kernel)

    def attention_names(self, block):
        return [(f"tran{block}-ATT_W{n}", f"tran{block}-ATT_b{n}") for n in (1, 2)]

    def block_kernel(self, block, layers, source, to, side, inputs, filters):
        return self.kernel(f"b{block}-{source}_{to}", side, inputs, filters)

    def second_kernel(self, block, layer, filters):
        return self.kernel(f"b{block}-to-{layer}", 3, filters, filters)

    def norm_name(self, name, part):
        made = sum(known.endswith(f"/{part}") for known in self.tensors)
        return f"BatchNorm_{made}/{part}" if made else f"BatchNorm/{part}"


# --- Feedback ConvLSTM ---------------------------------------------------------------


class FeedbackConvLSTM(Published):
    """Cells are called once a pass, so their tensors are made before."""

    def logits(self, x, cells, timesteps, classes, units=256):
        """`(B, timesteps, classes)`."""
        x = np.asarray(x, "float64")
        first = cells[0][0][0]
        kernel = self.kernel("conv.weight", 3, x.shape[-1], first)
        x = reference.conv2d(padded(x, 1), kernel, self.make("conv.bias", (first,)))
        x = reference.relu(self.norm(x, "batchnorm"))
        steps, inputs = [], first
        for g, group in enumerate(cells):
            for c, (filters, stride) in enumerate(group):
                name = f"feedback.cells.{g}.cells.{c}"
                steps.append((c > 0, self.cell(name, inputs, filters, stride)))
                inputs = filters
        outputs, states, head = [], [(0.0, 0.0)] * len(steps), None
        for _ in range(timesteps):
            value = x
            for number, (is_inner, cell) in enumerate(steps):
                value = reference.relu(value) if is_inner else value
                value, memory = cell(value, *states[number])
                states[number] = value, memory
            b, h, w, f = value.shape
            value = reference.relu(value).reshape(b, h // 4, 4, w // 4, 4, f)
            value = value.mean(axis=(2, 4)).transpose(0, 3, 1, 2).reshape(b, -1)
            if head is None:
                shapes = [("linear", units, value.shape[1]), ("output", classes, units)]
                head = [
                    (
                        self.make(f"{n}.weight", (o, i), 0.2),
                        self.make(f"{n}.bias", (o,)),
                    )
                    for n, o, i in shapes
                ]
            (first, bias), (second, last) = head
            outputs.append(reference.relu(value @ first.T + bias) @ second.T + last)
        # The file holds each cell once more, in a sequence with ReLUs between them.
        for name, tensor in list(self.tensors.items()):
            parts = name.split(".")
            if parts[0] == "feedback":
                parts[3:5] = ["stack", str(2 * int(parts[4]))]
                self.tensors[".".join(parts)] = tensor
        return np.stack(outputs, axis=1)

    def cell(self, name, inputs, filters, stride):
        convolutions = {}
        for gate in "ifco":
            for source, count in (("x", inputs), ("h", filters)):
                end = f"{gate}_{source}"
                made = Published(int(self.random.integers(1000)))
                kernel = made.kernel(f"{name}.conv_{end}.weight", 3, count, filters)
                bias = made.make(f"{name}.conv_{end}.bias", (filters,))
                made.norm(np.zeros(filters), f"{name}.batchnorm_{end}")
                self.tensors |= made.tensors
                convolutions[end] = kernel, bias, f"{name}.batchnorm_{end}"

        def convolve(x, end, stride):
            kernel, bias, norm = convolutions[end]
            gamma, beta, mean, variance = (
                self.tensors[f"{norm}.{part}"].astype("float64")
                for part in self.norm_parts
            )
            x = reference.conv2d(padded(x, 1), kernel, bias, stride=stride)
            return gamma * (x - mean) / np.sqrt(variance + self.epsilon) + beta

        def call(x, h, c):
            if np.ndim(h) == 0:
                h = np.zeros((*x[:, ::stride, ::stride].shape[:3], filters))
            i, f, g, o = (
                convolve(x, f"{gate}_x", stride) + convolve(h, f"{gate}_h", 1)
                for gate in "ifco"
            )
            i, f, o = (1 / (1 + np.exp(-v)) for v in (i, f, o))
            c = f * c + i * np.tanh(g)
            return o * np.tanh(c), c

        return call


# --- VGG -----------------------------------------------------------------------------


class VGG(Published):
    def logits(self, x, blocks, units, classes):
        """Blocks are lists of filters, units those of the hidden dense layers."""
        x, number = np.asarray(x, "float64"), 0
        for block in blocks:
            for filters in block:
                name = f"features.{number}"
                kernel = self.kernel(f"{name}.weight", 3, x.shape[-1], filters)
                bias = self.make(f"{name}.bias", (filters,))
                x = reference.relu(reference.conv2d(padded(x, 1), kernel, bias))
                number += 2
            x = reference.max_pool2(x)
            number += 1
        x = x.transpose(0, 3, 1, 2).reshape(len(x), -1)
        for layer, count in enumerate((*units, classes)):
            x = reference.relu(x) if layer else x
            name = f"classifier.{3 * layer}"
            x = self.dense(x, (f"{name}.weight", f"{name}.bias"), count)
        return x
