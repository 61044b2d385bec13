"""A classifier that is called with edits: what gets gates, and what runs again."""

import keras
import numpy as np
import pytest
from keras import ops

import kfeedback
from kfeedback.explain import Explainer
from kfeedback.explain.methods.feedback import multiply
from kfeedback.explain.network import Network
from tests import harness
from tests.explain import common


def test_grad_cam_takes_the_maps_before_the_last_pooling():
    x = inputs = keras.Input((8, 8, 2))
    x = keras.layers.Conv2D(3, 3, padding="same", activation="relu", name="last")(x)
    x = keras.layers.Dropout(0.1)(keras.layers.MaxPooling2D()(x))
    x = keras.layers.Dense(2)(keras.layers.Flatten()(x))
    network = Network(keras.Model(inputs, x))
    assert [tuple(t.shape) for t in network.features] == [(None, 8, 8, 3)]


def test_first_pass_and_what_lies_below_the_first_gates_run_once():
    """However many targets and iterations: counted where layers are called."""
    calls = []

    class Counting(keras.layers.Layer):
        def call(self, x):
            calls.append(self.name)
            return x

    x = inputs = keras.Input((9, 9, 2))
    x = Counting(name="below")(x)
    x = keras.layers.Conv2D(4, 3, activation="relu")(x)
    x = Counting(name="above")(x)
    x = keras.layers.Conv2D(4, 3, activation="relu")(x)
    x = keras.layers.Dense(3)(keras.layers.Flatten()(x))
    network = Network(keras.Model(inputs, x))
    images = ops.convert_to_tensor(common.images())
    calls.clear()
    _, features = network.first_pass(images)
    assert calls == ["below", "above"]
    calls.clear()
    gates = [ops.ones_like(f) for f in features]
    scores = network.gated_scores(gates, images, features, multiply)
    assert calls == ["above"]
    np.testing.assert_allclose(
        ops.convert_to_numpy(scores), ops.convert_to_numpy(network.scores(images)), 1e-5
    )


def test_every_relu_of_a_feature_map_gets_a_gate():
    network = Network(common.tangled())
    names = [site.operation.name for site in network.sites]
    assert {"activation", "both", "fused6", "leaky", "shared"} < set(names)
    assert names.count("shared") == 2 and len(names) == 7
    assert "dense" not in names and network.is_sigmoid
    assert {s.operation.name for s in network.relus} - set(names) == {"dense"}


def test_gates_of_a_tangled_net_act_where_they_stand():
    """Against the same network with the gates written into it, call by call."""
    model = common.tangled()
    images = common.images(2, (8, 8, 2)) / 255
    network = Network(model)
    rng = np.random.default_rng(3)
    gates = [
        rng.uniform(0, 1, (2, *site.output.shape[1:])).astype("float32")
        for site in network.sites
    ]
    plain, features = network.first_pass(ops.convert_to_tensor(images))
    scores = network.gated_scores(gates, images, features, multiply)
    everything = network.scores(images, lambda n, x: multiply(x, gates[n]))
    np.testing.assert_allclose(
        ops.convert_to_numpy(scores), ops.convert_to_numpy(everything), atol=1e-6
    )
    assert abs(ops.convert_to_numpy(plain - scores)).max() > 1e-3
    for changed in range(len(gates)):
        one = [np.ones_like(z) if n != changed else z for n, z in enumerate(gates)]
        scores = network.gated_scores(one, images, features, multiply)
        assert abs(ops.convert_to_numpy(plain - scores)).max() > 1e-5, changed


def test_two_posteriors_are_refused():
    x = inputs = keras.Input((8, 8, 2))
    x = keras.layers.Conv2D(3, 3, activation="relu")(x)
    x = keras.layers.Flatten()(x)
    ends = [keras.layers.Dense(2, activation="softmax")(x) for _ in range(2)]
    with pytest.raises(ValueError, match="model must have one posterior"):
        Explainer(keras.Model(inputs, keras.layers.Average()(ends)))


@pytest.mark.parametrize("factory", [kfeedback.LRNet, kfeedback.CRCN])
def test_a_network_that_looks_twice_has_the_scores_of_its_last_look(factory):
    """LRNet feeds the posterior back: only that of the last look goes without."""
    model, _ = common.three_layers()
    given = {"loops": [("relu2", "conv1")]} if factory is kfeedback.CRCN else {}
    twice = harness.randomize(factory(model, timesteps=2, **given))
    network = Network(twice)
    images = common.images()
    scores = network.scores(images)
    wanted = harness.to_numpy(twice(images))
    found = harness.to_numpy(network.posterior(scores))
    np.testing.assert_allclose(found, wanted, atol=1e-6)
    assert np.ptp(harness.to_numpy(scores).sum(-1)) > 1e-3  # no posteriors themselves
    for method in ("feedback", "gradient", "grad_cam"):
        maps = Explainer(twice, method).saliency(images)
        assert np.isfinite(maps).all() and maps.max() > 0
