"""Where the weights of the published CliqueNets belong in ours."""

import itertools
import re

import numpy as np

from kfeedback.layers import CliqueBlock
from tools.converters.entries import (
    NORM,
    Entry,
    entries_of,
    hwio,
    torch_norm,
    transposed,
    without,
)

_AGREEMENT = 1e-3  # of two moving statistics of one map, relative


def cliquenet_tf(model, tensors):
    """Entries and tensors of a checkpoint of the TensorFlow CliqueNet.

    Kernels are called `b0-1_2` (block 0, from layer 1 to layer 2), `b0-to-2` (the
    second one of a bottleneck), `tran0`, `tran0-ATT_W1`, `com0`; batch norms
    `BatchNorm`, `BatchNorm_1`, … in the order in which the code makes them.

    Raises:
        ValueError: if block features and transitions are of two stages. The published
            code of I+II takes all layers but the first of both from stage I.
    """
    names = {layer.name for layer in model.layers}
    if {"block1_stage1", "block1_stage2"} <= names:
        raise ValueError(
            "block_feature and transition_feature must be the same stage for "
            "--format=cliquenet_tf: the published code of I+II is of another network."
        )
    return list(_cliquenet(model, _TFNames(model))), without("tf", tensors)


def cliquenet_torch(model, tensors):
    """Entries and tensors of a state dict of the PyTorch CliqueNet for ImageNet."""
    return list(_cliquenet(model, _TorchNames(model))), without("torch", tensors)


class _TFNames:
    kernel = staticmethod(lambda block, _, source, to: f"b{block}-{source}_{to}")
    second_kernel = staticmethod(lambda block, layer: f"b{block}-to-{layer}")
    stem, top = "first_tran", ("FC_W", "FC_b")
    convolution = {"transition": "tran{}", "compression": "com{}"}
    attention = [f"tran{{}}-ATT_{part}" for part in ("W1", "b1", "W2", "b2")]
    hwio = dense = staticmethod(lambda value: value)

    def __init__(self, model):
        self._scopes = {}
        layers = {layer.name for layer in model.layers}
        for number, block in enumerate(_blocks(model)):
            for update in block.norms:
                self._add(number, update)
                if block.bottleneck:
                    self._add(number, f"{update}_second")
            for role in ("compression", "head", "transition"):
                if f"{role}{number + 1}_bn" in layers:
                    self._add(number, role)

    def _add(self, *key):
        count = len(self._scopes)
        self._scopes[key] = f"BatchNorm_{count}" if count else "BatchNorm"

    def norm(self, *key):
        return [f"{self._scopes[key]}/{part}" for part in NORM]


class _TorchNames:
    second_kernel = staticmethod(
        lambda block, layer: f"list_block.{block}.conv_param_bottle.{layer - 1}.weight"
    )
    stem, top = "fir_trans.weight", ("fc.weight", "fc.bias")
    convolution = {
        "transition": "list_trans.{}.conv.weight",
        "compression": "list_compress.{}.conv.weight",
    }
    attention = [
        f"list_trans.{{}}.attention.fc{n}.{part}"
        for n in (1, 2)
        for part in ("weight", "bias")
    ]
    hwio, dense = staticmethod(hwio), staticmethod(transposed)

    def __init__(self, _):
        pass

    @staticmethod
    def kernel(block, layers, source, to):
        number = source * (layers + 1) + to
        return f"list_block.{block}.conv_param.{number}.weight"

    @staticmethod
    def norm(block, role):
        lists = {"compression": "compress", "head": "gb", "transition": "trans"}
        if role == "stem":
            return torch_norm("fir_bn")
        if role in lists:
            return torch_norm(f"list_{lists[role]}.{block}.bn")
        stage, layer, second = re.fullmatch(
            r"stage(\d+)_layer(\d+)(_second)?", role
        ).groups()
        kind = ("forward_bn" if stage == "1" else "loop_bn") + ("_b" if second else "")
        return torch_norm(f"list_block.{block}.{kind}.{int(layer) - 1}")


def _blocks(model):
    return [layer for layer in model.layers if isinstance(layer, CliqueBlock)]


def _cliquenet(model, names):
    layers = {layer.name for layer in model.layers}
    yield Entry(("stem_conv/kernel",), (names.stem,), names.hwio)
    if "stem_bn" in layers:
        yield from entries_of("stem_bn/", NORM, names.norm(None, "stem"))
    for number, block in enumerate(_blocks(model)):
        yield from _clique_block(number, block, names)
        for role in ("compression", "head", "transition"):
            ours = f"{role}{number + 1}"
            if f"{ours}_bn" in layers:
                yield from entries_of(f"{ours}_bn/", NORM, names.norm(number, role))
            if f"{ours}_conv" in layers:
                source = names.convolution[role].format(number)
                yield Entry((f"{ours}_conv/kernel",), (source,), names.hwio)
        if f"transition{number + 1}_attention" in layers:
            sources = [name.format(number) for name in names.attention]
            parts = ("kernel_1", "bias_1", "kernel_2", "bias_2")
            ours = f"transition{number + 1}_attention/"
            yield from entries_of(ours, parts, sources, names.dense)
    if "predictions" in layers:
        parts = ("kernel", "bias")
        yield from entries_of("predictions/", parts, names.top, names.dense)


def _clique_block(number, block, names):
    ours, n = block.name, block.num_layers
    for to, kernel in enumerate(block.kernels, start=1):
        others = [source for source in range(1, n + 1) if source != to]
        count = (kernel.shape[2] - block.channels) // block.filters
        sources = [names.kernel(number, n, s, to) for s in (0, *others)]
        yield Entry(
            (f"{ours}/kernel_{to}",),
            tuple(sources[: count + 1]),
            lambda *parts: np.concatenate([names.hwio(p) for p in parts], axis=2),
        )
        # The authors make all kernels, also where no stage reads them.
        yield Entry((), tuple(sources[count + 1 :]))
        if block.bottleneck:
            source = names.second_kernel(number, to)
            yield Entry((f"{ours}/second_kernel_{to}",), (source,), names.hwio)
    means, variances = [], []
    for update in block.norms:
        gamma, beta, mean, variance = names.norm(number, update)
        yield from entries_of(f"{ours}/{update}_", NORM[:2], (gamma, beta))
        means.append(mean)
        variances.append(variance)
        if block.bottleneck:
            second = f"{update}_second"
            sources = names.norm(number, second)
            yield from entries_of(f"{ours}/{second}_", NORM, sources)
    targets = [
        f"{ours}/{m}_moving_{p}" for p in ("mean", "variance") for m in block.moving
    ]
    yield Entry(tuple(targets), (*means, *variances), lambda *a: _of_maps(block, a))


def _of_maps(block, arrays):
    """The moving means and variances of the maps from those of their readers.

    Published, each batch norm has its own of all the maps that it reads. They start
    alike and see the same batches, so those of one map are the same numbers up to
    rounding; that they are shows that the batch norms are in the order assumed here.
    """
    means, variances = arrays[: len(arrays) // 2], arrays[len(arrays) // 2 :]
    found, current = {}, {}
    for update, mean, variance in zip(block.norms, means, variances, strict=True):
        stage, layer = map(int, re.findall(r"\d+", update))
        read = ["input"] if stage == 1 else []
        read += [made for other, made in sorted(current.items()) if other != layer]
        sizes = [block.channels if m == "input" else block.filters for m in read]
        if mean.shape != (sum(sizes),) or variance.shape != mean.shape:
            raise ValueError(f"{update} reads {sum(sizes)} channels")
        for name, last, size in zip(
            read, itertools.accumulate(sizes), sizes, strict=True
        ):
            own = mean[last - size : last], variance[last - size : last]
            first = found.setdefault(name, own)
            scale = first[1] + block.epsilon
            worst = max(
                np.max(np.abs(own[0] - first[0]) / np.sqrt(scale)),
                np.max(np.abs(own[1] - first[1]) / scale),
            )
            if worst > _AGREEMENT:
                raise ValueError(
                    f"batch norms that read {block.name}/{name} must have the same "
                    f"statistics of it, but that of {update} differs by {worst:.2g}"
                )
        current[layer] = update
    return tuple(found[name][part] for part in (0, 1) for name in block.moving)
