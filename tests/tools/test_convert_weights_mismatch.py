"""Tensors that do not fit the model: an error lists both sides, nothing is assigned."""

import keras
import numpy as np
import pytest

import kfeedback
from tests import harness
from tests.tools.sources import (
    assert_parity,
    cliquenet_tf,
    cliquenet_torch,
    convlstm,
    vgg,
)
from tools import convert_weights

SOURCES = {
    "cliquenet_tf": cliquenet_tf,
    "cliquenet_torch": cliquenet_torch,
    "feedback_convlstm_torch": convlstm,
    "torchvision_vgg16": vgg,
}


def refused(model, tensors, source_format, *words):
    before = [harness.to_numpy(v) for v in model.weights]
    with pytest.raises(ValueError) as caught:
        convert_weights.convert(model, tensors, source_format)
    harness.assert_one_sentence(caught.value, "--source")
    for word in words:
        assert word in str(caught.value)
    for old, variable in zip(before, model.weights, strict=True):
        harness.assert_bit_equal(harness.to_numpy(variable), old, variable.path)


@pytest.mark.parametrize("source_format", SOURCES)
def test_every_tensor_is_used_once(source_format):
    model, _, tensors, _ = SOURCES[source_format]()
    names = [name for name in tensors if ".stack." not in name]
    first, last = names[0], names[-1]
    less = {k: v for k, v in tensors.items() if k not in (first, last)}
    refused(model, less, source_format, "missing from the file", first, last)
    more = {**tensors, "extra": tensors[first]}
    refused(model, more, source_format, "unused in the file: extra")
    swapped = {**less, "extra": tensors[first]}
    refused(model, swapped, source_format, "missing from the file", "unused", first)
    wrong = {**tensors, first: tensors[first][..., :-1]}
    refused(
        model, wrong, source_format, first, "shape" if "tf" in source_format else ""
    )
    for value in (tensors[last].astype("int32"), np.full_like(tensors[last], np.nan)):
        refused(model, {**tensors, last: value}, source_format, "finite floats", last)


def test_another_model_lists_both_sides():
    _, _, tensors, _ = cliquenet_tf("II+II")
    model = cliquenet_tf("all")[0]
    refused(model, tensors, "cliquenet_tf", "missing from the file", "b0-to-1", "com0")
    model = vgg()[0]
    refused(model, tensors, "torchvision_vgg16", "features.0.weight", "b0-1_2")
    with pytest.raises(ValueError, match="--model must be kfeedback"):
        convert_weights.convert(model, {}, "feedback_convlstm_torch")


def test_a_layer_without_an_entry_is_unfilled():
    model, _, tensors, _ = vgg()
    x = keras.layers.BatchNormalization(name="bn")(model.output)
    longer = keras.Model(model.input, x, name="longer")
    refused(longer, tensors, "torchvision_vgg16", "unfilled in the model: bn/beta")


def test_a_repeated_entry_is_an_error():
    from tools.converters.entries import assign

    model, _, tensors, _ = vgg()
    entries, tensors = convert_weights.FORMATS["torchvision_vgg16"][1](model, tensors)
    with pytest.raises(ValueError, match=r"used twice: .*filled twice: "):
        assign(model, tensors, [*entries, entries[0]])


@pytest.mark.parametrize("part", ["moving_mean", "moving_variance"])
def test_statistics_of_one_map_must_agree(part):
    model, images, tensors, expected = cliquenet_tf()
    rounded = tensors[f"BatchNorm_1/{part}"] * np.float32(1 + 1e-7)
    close = {**tensors, f"BatchNorm_1/{part}": rounded}
    convert_weights.convert(model, close, "cliquenet_tf")
    assert_parity(model, images, expected)
    other = {**tensors, f"BatchNorm_1/{part}": tensors[f"BatchNorm_1/{part}"] + 0.01}
    refused(model, other, "cliquenet_tf", "same statistics", "block1/input")


def test_a_cell_that_differs_from_its_second_copy():
    model, _, tensors, _ = convlstm()
    name = "feedback.cells.1.stack.2.conv_f_h.bias"
    refused(
        model,
        {**tensors, name: tensors[name] + 1},
        "feedback_convlstm_torch",
        name,
        "feedback.cells.1.cells.1.conv_f_h.bias",
    )
    once = {k: v for k, v in tensors.items() if ".stack." not in k}
    convert_weights.convert(model, once, "feedback_convlstm_torch")


def test_mixed_stages_are_refused():
    _, _, tensors, _ = cliquenet_tf()
    model = kfeedback.CliqueNet(input_shape=(8, 8, 3), block_feature="I")
    with pytest.raises(ValueError, match="block_feature and transition_feature must"):
        convert_weights.convert(model, tensors, "cliquenet_tf")
