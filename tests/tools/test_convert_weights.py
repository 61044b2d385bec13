import pickle
import sys
from unittest import mock

import keras
import numpy as np
import pytest

import kfeedback
from applications.common import command_line
from kfeedback import weights
from kfeedback.models import cliquenet, registry
from tests import harness
from tests.tools import published
from tools import convert_weights

TOLERANCE = 1e-5
CELLS = [[(4, 1), (4, 1)], [(6, 2), (6, 1)], [(5, 2)]]
TF_OPTIONS = {
    "II+II": {},
    "attention": {"attentional_transition": True},
    "all": {
        "attentional_transition": True,
        "bottleneck": True,
        "compression": True,
    },
    "I+I": {"block_feature": "I", "transition_feature": "I"},
    "X=0": {"updates": 0},
    "X=2": {"updates": 2},
}


def assert_parity(model, images, expected):
    difference = np.max(np.abs(harness.to_numpy(model(images)) - expected))
    print(f"largest difference {difference:.2g}")
    assert np.std(expected) > 0.1
    assert difference <= TOLERANCE


# --- Torch-free: tensors and outputs of the published equations in NumPy -------------


def cliquenet_tf(option="II+II"):
    """Model, images, published tensors and logits."""
    options = TF_OPTIONS[option]
    model = kfeedback.CliqueNet(
        input_shape=(8, 8, 3),
        filters=[4, 3],
        layers=[3, 4],
        classes=5,
        classifier_activation=None,
        **options,
    )
    images = harness.random_images((8, 8, 3), count=2)
    source = published.CliqueNetTF()
    expected = source.logits(
        images,
        [4, 3],
        [3, 4],
        5,
        attention=options.get("attentional_transition", False),
        bottleneck=options.get("bottleneck", False),
        compression=options.get("compression", False),
        stages=1 if "block_feature" in options else 2,
        updates=options.get("updates"),
    )
    return model, images, source.tensors, expected


with mock.patch.object(registry.TABLE, "_entries", {}):  # other tests see none of it
    TINY_IMAGENET = cliquenet._imagenet_variant("Tiny", [4, 6], [2, 3], "few")


def tiny_imagenet(**kwargs):
    return TINY_IMAGENET(classes=5, classifier_activation=None, **kwargs)


def cliquenet_torch(attention=False):
    model = tiny_imagenet(input_shape=(32, 40, 3), attentional_transition=attention)
    images = harness.random_images((32, 40, 3), count=2)
    source = published.CliqueNetTorch()
    expected = source.logits(
        images, [4, 6], [2, 3], 5, attention, bottleneck=True, compression=True
    )
    return model, images, source.tensors, expected


def convlstm(timesteps=3):
    model = kfeedback.FeedbackConvLSTMNet(
        input_shape=(16, 32, 3),
        cells=CELLS,
        classes=5,
        head_units=7,
        timesteps=timesteps,
        return_sequences=True,
        classifier_activation=None,
    )
    images = harness.random_images((16, 32, 3), count=2)
    source = published.FeedbackConvLSTM()
    return model, images, source.tensors, source.logits(images, CELLS, timesteps, 5, 7)


def vgg():
    layers = keras.layers
    x = image = keras.Input((8, 12, 3))
    blocks = [(4, 5), (6,)]
    for block, filters in enumerate(blocks, start=1):
        for number, count in enumerate(filters, start=1):
            x = layers.Conv2D(
                count,
                3,
                padding="same",
                activation="relu",
                name=f"block{block}_conv{number}",
            )(x)
        x = layers.MaxPooling2D(name=f"block{block}_pool")(x)
    x = layers.Flatten(name="flatten")(x)
    x = layers.Dense(9, activation="relu", name="fc1")(x)
    x = layers.Dense(8, activation="relu", name="fc2")(x)
    model = keras.Model(image, layers.Dense(5, name="predictions")(x), name="vgg")
    images = harness.random_images((8, 12, 3), count=2)
    source = published.VGG()
    return model, images, source.tensors, source.logits(images, blocks, (9, 8), 5)


@pytest.mark.parametrize("option", TF_OPTIONS)
def test_cliquenet_tf(option):
    model, images, tensors, expected = cliquenet_tf(option)
    convert_weights.convert(model, tensors, "cliquenet_tf")
    assert_parity(model, images, expected)


@pytest.mark.parametrize("attention", [False, True])
def test_cliquenet_torch(attention):
    model, images, tensors, expected = cliquenet_torch(attention)
    convert_weights.convert(model, tensors, "cliquenet_torch")
    assert_parity(model, images, expected)


@pytest.mark.parametrize("timesteps", [1, 5])
def test_feedback_convlstm(timesteps):
    """Five passes are more than have statistics of their own."""
    model, images, tensors, expected = convlstm(timesteps)
    convert_weights.convert(model, tensors, "feedback_convlstm_torch")
    assert_parity(model, images, expected)


def test_vgg():
    model, images, tensors, expected = vgg()
    convert_weights.convert(model, tensors, "torchvision_vgg16")
    assert_parity(model, images, expected)


def test_counters_and_optimizer_slots_are_ignored():
    model, _, tensors, _ = vgg()
    tensors["features.0.num_batches_tracked"] = np.array(3)
    convert_weights.convert(model, tensors, "torchvision_vgg16")
    model, _, tensors, _ = cliquenet_tf()
    tensors |= {f"{name}/Momentum": value for name, value in tensors.items()}
    tensors["global_step"] = np.array(3)
    convert_weights.convert(model, tensors, "cliquenet_tf")


def test_names_of_parallel_modules():
    tensors = {"module.fc.weight": 1, "module.fc.bias": 2}
    assert convert_weights.without_module(tensors) == {"fc.weight": 1, "fc.bias": 2}
    mixed = {"module.fc.weight": 1, "fc.bias": 2}
    assert convert_weights.without_module(mixed) == mixed


# --- What does not fit ---------------------------------------------------------------

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


# --- Files and the command -----------------------------------------------------------


def write_checkpoint(path, tensors):
    tf = pytest.importorskip("tensorflow")
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        variables = {
            name: tf.compat.v1.Variable(value, name=name)
            for name, value in tensors.items()
        }
        session.run(tf.compat.v1.global_variables_initializer())
        tf.compat.v1.train.Saver(variables).save(
            session, str(path), write_meta_graph=False
        )


def command(*arguments):
    settings = command_line.parse(convert_weights.Settings, arguments)
    convert_weights.main(settings)


def test_a_checkpoint_by_command(tmp_path, capsys):
    model, images, tensors, expected = cliquenet_tf()
    slots = {f"{name}/Momentum": value for name, value in tensors.items()}
    write_checkpoint(tmp_path / "epoch_300.ckpt", {**tensors, **slots})
    command(
        f"--source={tmp_path / 'epoch_300.ckpt'}",
        "--format=cliquenet_tf",
        f"--output={tmp_path / 'out.h5'}",
        '--kwargs={"filters": [4, 3], "layers": [3, 4], "classes": 5, '
        '"input_shape": [8, 8, 3]}',
    )
    assert "out.h5" in capsys.readouterr().out
    weights.load(model, tmp_path / "out.h5")
    assert_parity(model, images, expected)


@pytest.mark.parametrize("content", [b"", b"<html>no</html>", b"\x80\x02}q\x00."])
def test_what_is_no_checkpoint(tmp_path, content):
    pytest.importorskip("tensorflow")
    for name in ("a.ckpt", "b.ckpt.index"):
        (tmp_path / name).write_bytes(content)
    for source in ("a.ckpt", "b.ckpt", "nowhere.ckpt"):
        with pytest.raises(ValueError) as caught:
            convert_weights.read(tmp_path / source, "cliquenet_tf")
        harness.assert_one_sentence(caught.value, "--source")


def test_without_torch(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ImportError, match=r"--format=cliquenet_torch needs PyTorch"):
        convert_weights.read(tmp_path / "a.pth", "cliquenet_torch")


@pytest.mark.parametrize(
    "arguments, argument",
    [
        ([], "--source"),
        (["--source=a", "--format=cliquenet_tf"], "--output"),
        (["--kwargs=[]"], "--kwargs"),
        (["--kwargs={"], "--kwargs"),
        (['--kwargs={"weights": null}'], "--kwargs"),
        (["--model=nothing"], "--model"),
        (["--source=nowhere"], "--source"),
    ],
)
def test_bad_flags(arguments, argument):
    given = ["--source=a", "--format=cliquenet_tf", "--output=b"]
    given = [*given, *arguments] if argument not in ("--output",) else arguments
    with pytest.raises(ValueError) as caught:
        command(*(given if arguments else []))
    harness.assert_one_sentence(caught.value, argument)


# --- Against PyTorch -----------------------------------------------------------------


class _Bomb:
    def __reduce__(self):
        return (print, ("code ran",))


def test_what_is_no_state_dict(tmp_path, capsys):
    torch = pytest.importorskip("torch")
    contents = {
        "empty": b"",
        "html": b"<html>no</html>",
        "pickle": pickle.dumps(_Bomb()),
        "nested": pickle.dumps({"state_dict": _Bomb()}),
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    torch.save({"state_dict": {"a": _Bomb()}}, tmp_path / "bomb")
    torch.save([1, 2], tmp_path / "list")
    torch.save({"a": "text"}, tmp_path / "text")
    for name in (*contents, "bomb", "list", "text", "nowhere"):
        with pytest.raises(ValueError) as caught:
            convert_weights.read(tmp_path / name, "cliquenet_torch")
        harness.assert_one_sentence(caught.value, "--source")
    assert "code ran" not in capsys.readouterr().out


def check_torch(module, model, source_format, path, images, wrap=lambda state: state):
    """Converts what the module saves and compares the outputs."""
    torch = pytest.importorskip("torch")
    torch.save(wrap(module.state_dict()), path)
    convert_weights.convert(
        model, convert_weights.read(path, source_format), source_format
    )
    module.eval()
    with torch.no_grad():
        expected = module(torch.from_numpy(images).permute(0, 3, 1, 2)).numpy()
    assert_parity(model, images, expected)


def trained_a_little(module, images):
    """With statistics that the batch norms themselves have gathered."""
    torch = pytest.importorskip("torch")
    with torch.no_grad():
        for name, value in module.named_parameters():
            if value.ndim == 1:
                value += 0.2 * torch.randn_like(value)
            assert value.dtype == torch.float32, name
        for _ in range(3):
            module.train()(torch.from_numpy(images).permute(0, 3, 1, 2))
    return module


def checkpoint(state):
    state = {f"module.{name}": value for name, value in state.items()}
    return {"epoch": 3, "state_dict": state, "best_prec1": 1.0, "optimizer": {}}


@pytest.mark.parametrize("attention", [False, True])
@pytest.mark.parametrize(
    "variant", ["tiny", pytest.param("S0", marks=pytest.mark.slow)]
)
def test_cliquenet_of_torch(tmp_path, variant, attention):
    torch = pytest.importorskip("torch")
    from tests.tools import published_torch

    torch.manual_seed(0)
    side, filters, layers = 32, [4, 6], [2, 3]
    if variant == "S0":
        side, filters, layers = 224, [36, 64, 100, 80], [5, 6, 6, 6]
    images = harness.random_images((side, side, 3), count=4)
    module = published_torch.CliqueNet(filters, layers, 5, attention)
    trained_a_little(module, images)
    make = kfeedback.CliqueNetS0 if variant == "S0" else tiny_imagenet
    arguments = {"classes": 5, "classifier_activation": None} if variant == "S0" else {}
    model = make(
        input_shape=(side, side, 3), attentional_transition=attention, **arguments
    )
    path = tmp_path / "best.pth.tar"
    check_torch(module, model, "cliquenet_torch", path, images, checkpoint)


def test_feedback_convlstm_of_torch(tmp_path):
    torch = pytest.importorskip("torch")
    from tests.tools import published_torch

    torch.manual_seed(0)
    images = harness.random_images((32, 32, 3), count=4)
    module = trained_a_little(published_torch.FeedbackNet(classes=20), images)
    model = kfeedback.FeedbackConvLSTMNet(
        classes=20, return_sequences=True, classifier_activation=None
    )
    check_torch(
        module, model, "feedback_convlstm_torch", tmp_path / "a.pth.tar", images
    )


def test_vgg16_of_torch(tmp_path):
    torch = pytest.importorskip("torch")
    from tests.tools import published_torch

    torch.manual_seed(0)
    images = harness.random_images((64, 64, 3), count=2)
    model = keras.applications.VGG16(
        weights=None,
        input_shape=(64, 64, 3),
        classes=5,
        classifier_activation=None,
    )
    check_torch(
        published_torch.VGG16(side=2, classes=5),
        model,
        "torchvision_vgg16",
        tmp_path / "vgg16.pth",
        images,
    )
