"""The one table of families, and that a new family is one new file."""

import importlib
import inspect
import sys
import textwrap

import keras
import numpy as np
import pytest

import kfeedback
from kfeedback import weights
from kfeedback.models import registry
from kfeedback.models.arguments import EIGHT
from kfeedback.models.backbones import LNIN
from tests import harness

FAMILIES = registry.families()
IMAGES = (16, 16, 1)
NEW_FAMILY = '''
    """A family in a file of its own."""

    import keras

    from kfeedback.models.factory import family


    @family("new_net", default_shape=(16, 16, 1), least_size=8, is_backbone=True)
    def NewNet(
        build,
        include_top=True,
        weights=None,
        input_tensor=None,
        input_shape=None,
        pooling=None,
        classes=10,
        classifier_activation="softmax",
        name="new_net",
        *,
        filters=4,
    ):
        """One convolution."""
        x = keras.layers.Conv2D(filters, 3, name="conv1")(build.input)

        def head(x):
            x = keras.layers.GlobalAveragePooling2D(name="global_pool")(x)
            return build.classifier(x)

        return build.finish(x, head)
'''


@pytest.fixture
def new_family(monkeypatch, tmp_path):
    """`NewNet`, whose file is the only thing that was added."""
    (tmp_path / "new_net.py").write_text(textwrap.dedent(NEW_FAMILY))
    package = kfeedback.models
    monkeypatch.setattr(package, "__path__", [*package.__path__, str(tmp_path)])
    monkeypatch.setattr(registry.TABLE, "_entries", dict(FAMILIES))
    importlib.invalidate_caches()
    yield package.NewNet
    del sys.modules["kfeedback.models.new_net"], package.new_net


def parameters(family):
    """The parameters that a caller of a family's factory sees."""
    factory = family.factory
    if not inspect.isclass(factory):
        return dict(inspect.signature(factory).parameters)
    found = dict(inspect.signature(factory.__init__).parameters)
    del found["self"]
    return found


# --- A new file is all ---------------------------------------------------------------


def test_a_new_file_is_listed(new_family):
    assert "NewNet" in kfeedback.list_models()
    assert "NewNet" in dir(kfeedback.models)
    assert registry.get("new_net").factory is new_family
    assert registry.get("new_net").least_size == 8
    model = new_family()
    assert model.input_shape == (None, *IMAGES) and model.output_shape == (None, 10)
    with pytest.raises(ValueError) as caught:
        new_family(input_shape=(7, 16, 1))
    harness.assert_one_sentence(caught.value, "input_shape")


def test_a_new_file_gives_a_backbone(new_family):
    model = kfeedback.LRNet("new_net", classes=3, timesteps=2)
    backbone = weights.origin(model)["arguments"]["backbone"]
    assert backbone["factory"] == new_family.__name__ == "NewNet"
    assert model.output_shape == (None, 3)


@pytest.mark.parametrize("feedback", [False, True], ids=["alone", "in LRNet"])
def test_a_new_file_is_rebuilt_and_keeps_its_weights(new_family, tmp_path, feedback):
    model = new_family(filters=3, classes=4, classifier_activation=None)
    if feedback:
        model = kfeedback.LRNet(model, timesteps=3, classifier_activation=None)
    harness.randomize(model)
    path = tmp_path / "model.h5"
    weights.save(model, path)
    other = registry.build(weights.describe(path)["about"])
    assert weights.origin(other) == weights.origin(model)
    weights.load(other, path)
    images = harness.random_images(IMAGES)
    harness.assert_bit_equal(
        harness.to_numpy(other(images)), harness.to_numpy(model(images)), "rebuilt"
    )
    if not feedback:
        loaded = new_family(
            filters=3, classes=4, classifier_activation=None, weights=path
        )
        harness.assert_bit_equal(
            harness.to_numpy(loaded(images)), harness.to_numpy(model(images)), "loaded"
        )


def test_after_it_all_is_as_before():
    assert "new_net" not in registry.families()
    assert not hasattr(kfeedback.models, "NewNet")


# --- The table -----------------------------------------------------------------------


@pytest.mark.parametrize("name", FAMILIES)
def test_the_table_is_what_the_signatures_say(name):
    family = FAMILIES[name]
    found = parameters(family)
    names = list(found)
    assert family.name == name
    assert family.gives_feedback == (names[0] == "backbone")
    assert family.has_timesteps == ("timesteps" in found)
    first = 1 if family.gives_feedback else 0
    assert tuple(names[first : first + 8]) == EIGHT
    kinds = {found[own].kind for own in names[first + 8 :]}
    assert kinds <= {inspect.Parameter.KEYWORD_ONLY}
    assert found["weights"].default is None
    assert family.gives_feedback == (family.default_shape is None)
    assert family.gives_feedback == (family.least_size is None)
    assert not (family.gives_feedback and family.is_backbone)
    assert family.factory.__doc__


def test_the_names():
    assert set(registry.backbones()) >= {
        *("lenet", "nin", "lnin", "rcnn128", "vgg_small", "vgg_attention"),
        *("alexnet", "googlenet", "vgg16"),
    }
    others = {"lrnet", "crcn", "feedback_cnn", "cliquenet", "feedback_convlstm"}
    others |= {f"cliquenet_s{n}" for n in range(4)}
    assert set(FAMILIES) >= {*registry.backbones(), *others}
    assert not FAMILIES["feedback_cnn"].trains and FAMILIES["lrnet"].trains
    listed = kfeedback.list_models()
    assert set(listed) >= {FAMILIES[name].factory.__name__ for name in others}
    for name in listed:
        assert getattr(kfeedback.models, name) is getattr(kfeedback, name)


@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_the_default_shape_and_the_least_size(name):
    family = FAMILIES[name]
    if family.default_shape is None:
        return
    *_, channels = family.default_shape
    small = (family.least_size, family.least_size, channels)
    model = family.factory(include_top=False, input_shape=small)
    assert model.input_shape == (None, *small)
    below = (family.least_size - 1, *small[1:])
    with pytest.raises(ValueError) as caught:
        family.factory(include_top=False, input_shape=below)
    harness.assert_one_sentence(caught.value, "input_shape")


@pytest.mark.parametrize("name", ["no_such", "LRNet", 3, None, ["lenet"]], ids=str)
def test_unknown_names(name):
    with pytest.raises(ValueError) as caught:
        registry.get(name, "--model")
    harness.assert_one_sentence(caught.value, "--model")
    with pytest.raises(AttributeError):
        kfeedback.models.NoSuchNet  # noqa: B018


# --- Rebuilding ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "make",
    [
        lambda: kfeedback.CRCN("vgg_small", loops=[1], timesteps=2),
        lambda: kfeedback.CliqueNet(filters=2, layers=6, stages=3, updates=1),
        lambda: kfeedback.FeedbackConvLSTMNet(cells=[[(2, 1)]], timesteps=2),
        lambda: kfeedback.FeedbackCNN("vgg_small", classes=4, top=2),
        lambda: kfeedback.LRNet("vgg16", input_shape=(32, 32, 3), classes=3),
        lambda: kfeedback.LRNet("lenet", classifier_activation=None),
    ],
    ids=["crcn", "cliquenet", "convlstm", "feedback_cnn", "vgg16", "logits"],
)
def test_a_network_is_rebuilt_from_its_origin(make):
    model = make()
    other = registry.build(weights.origin(model))
    assert type(other) is type(model)
    assert weights.origin(other) == weights.origin(model)
    made, wanted = ([(w.path, w.shape) for w in m.weights] for m in (other, model))
    assert made == wanted


def test_functions_of_keras_and_numbers_of_numpy_are_noted():
    model = LNIN(
        classes=2,
        classifier_activation=keras.activations.sigmoid,
        negative_slope=np.float32(0.2),
        dropout=np.float64(0.25),
        width=0.1,
    )
    found = weights.origin(model)["arguments"]
    assert found["classifier_activation"] == "sigmoid"
    assert (found["negative_slope"], found["dropout"]) == (0.2, 0.25)
    other = registry.build(weights.origin(model))
    assert other.layers[-1].activation is keras.activations.sigmoid
    own = LNIN(width=0.1, classifier_activation=lambda x: 2 * x)
    with pytest.raises(ValueError) as caught:
        registry.build(weights.origin(own))
    harness.assert_one_sentence(caught.value, "origin must have arguments that LNIN")
    assert "classifier_activation" in str(caught.value)


def test_an_origin_of_an_earlier_version():
    origin = {"factory": "CliqueNet", "arguments": {"filters": 2, "layers": 6}}
    origin["arguments"]["loops"] = 2
    model = registry.build(origin)
    assert weights.origin(model)["arguments"]["stages"] == 3
    named = {"backbone": "lenet", "timesteps": 3}
    model = registry.build({"factory": "LRNet", "arguments": named})
    assert weights.origin(model)["arguments"]["backbone"]["factory"] == "LeNet"


@pytest.mark.parametrize(
    "origin",
    [
        {},
        {"factory": "Mine", "arguments": {}},
        {"factory": "VGG19", "arguments": {}},
        {"factory": "LeNet", "arguments": {"weights": "lenet_mnist_bg_sample"}},
        {"factory": "LeNet", "arguments": {"no_such": 1}},
        {"factory": "LeNet", "arguments": {"classes": 0}},
        {"factory": "LeNet", "arguments": {"include_top": 1}},
        {"factory": "LRNet", "arguments": {}},
        {"factory": "LRNet", "arguments": {"backbone": None}},
        {"factory": "LRNet", "arguments": {"backbone": {"factory": "Mine"}}},
        {"factory": "LRNet", "arguments": {"backbone": "no_such"}},
    ],
    ids=str,
)
def test_bad_origins(origin):
    with pytest.raises(ValueError) as caught:
        registry.build(origin)
    harness.assert_one_sentence(caught.value, "origin")


def test_the_object_is_not_for_callers():
    with pytest.raises(TypeError):
        kfeedback.models.backbones.LeNet(build=None)
    shape = np.array([28, 28, 1]).tolist()
    assert kfeedback.models.backbones.LeNet(True, None, None, shape).count_params()
