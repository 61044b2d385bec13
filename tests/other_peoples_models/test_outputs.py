"""What an output is: a softmax, sigmoids or neither, however it is written."""

import keras
import numpy as np
import pytest
from keras import ops

import kfeedback
from kfeedback.classifier import posterior_kind
from kfeedback.models.backbones import LNIN, NIN
from tests import harness
from tests.other_peoples_models.common import IMAGES, small, softmax

layers = keras.layers


@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (lambda: small(activation=softmax), "softmax"),
        (lambda: small(activation=None, end=ops.softmax), "softmax"),
        (lambda: small(activation=None, end=layers.Lambda(softmax)), "softmax"),
        (lambda: small(activation=None, end=layers.Lambda(ops.sigmoid)), "sigmoid"),
        (lambda: small(1, "sigmoid"), "sigmoid"),
        (lambda: small(activation="hard_sigmoid"), "sigmoid"),
        (lambda: small(activation=None), None),
        (lambda: small(1, None), None),
        (lambda: small(activation="relu"), None),
        (lambda: small(activation="tanh"), None),
        (lambda: small(activation=lambda x: softmax(x) * 2), None),
    ],
)
@pytest.mark.parametrize("kernel", ["as it is", "zeros"])
def test_outputs_are_measured(make, kind, kernel):
    model = make()
    if kernel == "zeros":  # two sigmoids of 0 add up to 1
        model.set_weights([np.zeros_like(w) for w in model.get_weights()])
    assert posterior_kind(model) == kind


@pytest.mark.parametrize(
    ("make", "classes", "side"),
    [(NIN, 3, 128), (LNIN, 3, 128), (LNIN, 2, 96)],
)
@pytest.mark.parametrize("kind", [None, "sigmoid"])
def test_a_mean_of_scores_is_no_probability(make, classes, side, kind):
    """Scores ≥ 0 of many places have a mean that may lie below 1."""
    model = make(
        classes=classes,
        input_shape=(side, side, 3),
        classifier_activation=kind,
        width=1 / 16,
    )
    assert posterior_kind(model) == kind


@pytest.mark.parametrize("features", [55, 120, 2048])
def test_one_image_at_a_time_is_enough(features):
    """By one number a sigmoid would look like a softmax of one class."""
    for classes, kind in ((1, "sigmoid"), (2, "sigmoid"), (3, "softmax")):
        x = keras.Input((features,), batch_size=1)
        model = keras.Model(x, layers.Dense(classes, activation=kind)(x))
        assert posterior_kind(model) == kind


def test_a_softmax_of_ones_own_is_fed_back_as_it_is():
    """Not a softmax of the softmax."""
    plain, own = small(), small(activation=softmax)
    own.set_weights(plain.get_weights())
    results = []
    for model in (plain, own):
        net = kfeedback.LRNet(model, timesteps=3, return_sequences=True)
        harness.randomize(net)
        results.append(harness.to_numpy(net(IMAGES)))
    np.testing.assert_allclose(*results, atol=1e-6)


@harness.tensorflow_only
def test_functions_of_tensorflow_are_measured(tmp_path):
    import tensorflow as tf

    model = small(activation=tf.nn.softmax)
    assert posterior_kind(model) == "softmax"
    path = kfeedback.serving.export(model, tmp_path / "m", warmup_batches=())
    serve = tf.saved_model.load(str(path)).signatures["serving_default"]
    found = serve(images=tf.constant(IMAGES))["probabilities"]
    np.testing.assert_allclose(found, model(IMAGES), atol=1e-6)
    with pytest.raises(ValueError, match="from_logits must be False"):
        kfeedback.serving.export(model, tmp_path / "n", from_logits=True)
