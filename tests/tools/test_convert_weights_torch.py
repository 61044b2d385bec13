"""Files that PyTorch wrote, converted, give what its modules give."""

import pickle

import keras
import pytest

import kfeedback
from tests import harness
from tests.tools.sources import assert_parity, tiny_imagenet
from tools import convert_weights


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
