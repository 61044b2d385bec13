import itertools

import keras
import numpy as np
import pytest
from keras import ops

from kfeedback.backend import compile_function, value_and_gradient
from kfeedback.explain import UPDATE_RULES, Explainer, Feedback
from kfeedback.explain.methods.feedback import gated_map, multiply
from kfeedback.explain.network import Network, target_scores
from tests.explain import common, reference

TARGETS = np.array([0, 2, 3], "int32")


def loop(iterations, step_size=0.1, sparsity=0.02, **kwargs):
    """The loop with what the paper starts from."""
    own = {"start": "activations", "normalize": False}
    own |= {"objective": "score", "readout": "gradient"}
    kwargs = own | kwargs
    return Feedback(iterations, step_size, sparsity, **kwargs)


def gates_and_map(network, feedback, images, targets):
    """The gates at the end and the map at the binarized ones, as arrays."""

    def function(images, targets):
        _, features = network.first_pass(images)
        gates = feedback.gates(network, images, targets, features)
        return gates, gated_map(network, images, targets, gates)

    found = compile_function(network.model, function)(images, targets)
    return keras.tree.map_structure(ops.convert_to_numpy, found)


def objective(network, images, targets, gates, sparsity):
    """s_k − λ ‖z‖₁ of every image."""

    def function(images, targets, *gates):
        scores = network.scores(images, lambda n, x: multiply(x, gates[n]))
        return target_scores(scores, targets)

    scores = compile_function(network.model, function)(images, targets, *gates)
    norm = sum(z.reshape(len(images), -1).sum(axis=1) for z in gates)
    return ops.convert_to_numpy(scores) - sparsity * norm


@pytest.mark.parametrize("iterations", [1, 2, 3, 10])
@pytest.mark.parametrize(
    ("start", "normalize"), [("activations", False), ("half", True)]
)
def test_gradient_ascent_is_that_of_the_reference(iterations, start, normalize):
    model, weights = common.three_layers()
    images = common.images() / 255
    gates, maps = gates_and_map(
        Network(model),
        loop(iterations, start=start, normalize=normalize),
        images,
        TARGETS,
    )
    first = reference.activations(images, weights)
    ascend = reference.ascend_normalized if normalize else reference.ascend
    expected = ascend(
        images,
        weights,
        TARGETS,
        iterations,
        0.1,
        0.02,
        [z * (0.5 if start == "half" else 1) for z in first],
    )
    assert any(((z > 0) & (z < 1)).any() for z in expected)
    for found, wanted in zip(gates, expected, strict=True):
        np.testing.assert_allclose(found, wanted, atol=1e-5)
    wanted = reference.saliency(images, weights, TARGETS, expected)
    np.testing.assert_allclose(maps, wanted, atol=1e-5)


@pytest.mark.parametrize("iterations", [1, 2, 3])
@pytest.mark.parametrize("rule", ["recovering", "selective_pruning"])
def test_later_rules_are_those_of_the_reference(rule, iterations):
    model, weights = common.three_layers()
    images = common.images() / 255
    feedback = loop(iterations, update_rule=rule)
    gates, maps = gates_and_map(Network(model), feedback, images, TARGETS)
    first = reference.activations(images, weights)
    expected = reference.prune(images, weights, TARGETS, iterations, first, rule)
    assert any((a != b).any() for a, b in zip(first, expected, strict=True))
    for found, wanted in zip(gates, expected, strict=True):
        np.testing.assert_array_equal(found, wanted)
    wanted = reference.saliency(images, weights, TARGETS, expected)
    np.testing.assert_allclose(maps, wanted, atol=1e-5)


def test_rules_differ():
    model, _ = common.three_layers()
    images = common.images() / 255
    network = Network(model)
    maps = [
        gates_and_map(network, loop(3, update_rule=rule), images, TARGETS)[1]
        for rule in UPDATE_RULES
    ]
    for a, b in itertools.combinations(maps, 2):
        assert abs(a - b).max() > 1e-3


def test_gates_of_one_give_the_plain_model_bit_for_bit():
    model, _ = common.three_layers()
    images = common.images() / 255
    network = Network(model)
    plain = keras.Model(model.input, model.get_layer("predictions").output)
    ones = [np.ones((3, *site.output.shape[1:]), "float32") for site in network.sites]

    def through_gates(images, targets, *gates):
        def score(x):
            scores = network.scores(x, lambda n, y: multiply(y, gates[n]))
            return target_scores(scores, targets)

        _, gradient = value_and_gradient(score, images)
        scores = network.scores(images, lambda n, y: multiply(y, gates[n]))
        return network.posterior(scores), gradient

    def plainly(images, targets):
        def score(x):
            return target_scores(network.scores(x), targets)

        return plain(images, training=False), value_and_gradient(score, images)[1]

    found = compile_function(network.model, through_gates)(images, TARGETS, *ones)
    wanted = compile_function(plain, plainly)(images, TARGETS)
    for a, b in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(
            ops.convert_to_numpy(a), ops.convert_to_numpy(b), strict=True
        )


def test_scores_are_the_logits_of_the_softmax():
    model, weights = common.three_layers()
    images = common.images() / 255
    network = Network(model)
    scores = ops.convert_to_numpy(network.scores(images))
    ones = [np.ones(1)] * 2
    np.testing.assert_allclose(
        scores, reference.forward(images, weights, ones)[1], atol=1e-5
    )
    posterior = ops.convert_to_numpy(network.posterior(scores))
    np.testing.assert_allclose(posterior, model.predict(images, verbose=0), atol=1e-6)


@pytest.mark.parametrize(
    ("start", "normalize", "sparsity", "step_size"),
    [("activations", False, 0.002, 0.1), ("half", True, 0.03, 0.1)],
)
def test_objective_ends_no_lower_than_it_began(start, normalize, sparsity, step_size):
    """For 200 pairs of an image and a class; gates stay in 0 to 1 all the way."""
    model, weights = common.three_layers()
    images = np.repeat(common.images(50), 4, axis=0) / 255
    targets = np.tile(np.arange(4, dtype="int32"), 50)
    network = Network(model)
    # Normalized, λ is a share of a gradient; the objective is that of no penalty.
    penalty = 0.0 if normalize else sparsity
    factor = 0.5 if start == "half" else 1.0
    first = [factor * z for z in reference.activations(images, weights)]
    first = [z.astype("float32") for z in first]
    feedback = loop(10, step_size, sparsity, start=start, normalize=normalize)
    gates, _ = gates_and_map(network, feedback, images, targets)
    for z in gates:
        assert z.min() >= 0 and z.max() <= 1
    before = objective(network, images, targets, first, penalty)
    after = objective(network, images, targets, gates, penalty)
    assert (after >= before - 1e-6).mean() >= 0.99
    assert (after > before + 1e-3).mean() > 0.9


def random_net(seed, hidden):
    """Weights of a dense net with hidden layers of 6, and one input of 6 numbers."""
    rng = np.random.default_rng(seed)
    layers = [
        (
            (rng.normal(size=(6, 6)) * np.sqrt(2 / 6)).astype("float32"),
            (rng.normal(size=6) * 0.1).astype("float32"),
        )
        for _ in range(hidden)
    ]
    last = (rng.normal(size=(6, 1)) * np.sqrt(2 / 6)).astype("float32")
    return layers, rng.normal(size=(1, 6)), np.concatenate([last, 0 * last], axis=1)


def block_net(nets):
    """All nets side by side as one batch of gated vectors: one class score each.

    The nets are blocks of one wide net of 1×1 convolutions; class n is that of net n.
    """
    count, hidden = len(nets), len(nets[0][0])
    wide = []
    for level in range(hidden):
        kernel = np.zeros((6 * count, 6 * count), "float32")
        for n, (layers, _, _) in enumerate(nets):
            kernel[6 * n : 6 * n + 6, 6 * n : 6 * n + 6] = layers[level][0]
        wide.append((kernel, np.concatenate([net[0][level][1] for net in nets])))
    last = np.zeros((6 * count, count), "float32")
    for n, (_, _, kernel) in enumerate(nets):
        last[6 * n : 6 * n + 6, n] = kernel[:, 0]
    vector = np.concatenate([vector for _, vector, _ in nets], axis=1)
    model, images = common.of_vectors(wide, vector, last)
    return model, np.repeat(images, count, axis=0), np.arange(count, dtype="int32")


def binary_gates(nets, feedback):
    """The binarized gates of every net: `(nets, hidden layers, 6)`."""
    model, images, targets = block_net(nets)
    gates, _ = gates_and_map(Network(model), feedback, images, targets)
    own = [z.reshape(len(nets), len(nets), 6) for z in gates]
    return np.stack([z[targets, targets] > 0.5 for z in own], axis=1)


def best_and_found(net, gates, sparsity):
    """s − λ ‖z‖₁ of the best of all settings of the gates, and of those given."""
    layers, vector, last = net
    hidden = len(layers)
    settings = np.array(list(itertools.product((0.0, 1.0), repeat=6 * hidden)))
    settings = np.concatenate([settings, gates.reshape(1, -1)])
    x = vector
    for (kernel, bias), z in zip(layers, np.split(settings, hidden, 1), strict=True):
        x = z * np.maximum(x @ kernel + bias, 0)
    values = (x @ last)[:, 0] - sparsity * settings.sum(axis=1)
    return values[:-1].max(), values[-1]


def test_one_hidden_layer_ends_at_the_optimum():
    """A linear problem: on 100 of 100 random nets."""
    nets = [random_net(seed, 1) for seed in range(100)]
    gates = binary_gates(nets, loop(1000, 10.0, 0.01))
    results = [best_and_found(net, z, 0.01) for net, z in zip(nets, gates, strict=True)]
    assert sum(np.isclose(found, best) for best, found in results) == 100


SHARES = {
    "gradient_ascent, 10 steps from the activations": (loop(10, 0.1, 0.05), 3, 20),
    "gradient_ascent, to convergence": (loop(1000, 0.1, 0.05), 75, 95),
    "gradient_ascent, from the half, 10 steps": (
        loop(10, 0.1, 0.05, start="half"),
        50,
        75,
    ),
    "gradient_ascent, from the half, to convergence": (
        loop(1000, 0.1, 0.05, start="half"),
        82,
        100,
    ),
    "recovering": (loop(3, sparsity=0.05, update_rule="recovering"), 3, 15),
    "selective_pruning": (
        loop(3, sparsity=0.05, update_rule="selective_pruning"),
        3,
        15,
    ),
}


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=[pytest.mark.slow] * ("convergence" in n)) for n in SHARES],
)
def test_two_hidden_layers_reach_the_best_of_4096_settings(name, record_property):
    """How many of 100 random nets end within 5 % of the best; `pytest -s` prints it."""
    feedback, least, most = SHARES[name]
    nets = [random_net(seed, 2) for seed in range(100)]
    gates = binary_gates(nets, feedback)
    results = [best_and_found(net, z, 0.05) for net, z in zip(nets, gates, strict=True)]
    share = sum(found >= best - 0.05 * abs(best) for best, found in results)
    record_property("share", int(share))
    print(f"{name}: {share} of 100")
    assert least <= share <= most


def test_iterations_are_compiled_once_per_shape():
    model, _ = common.three_layers()
    traces = []

    class Counting(keras.layers.Layer):
        def call(self, x):
            traces.append(1)
            return x

    inputs = keras.Input((9, 9, 2))
    counted = keras.Model(inputs, model(Counting()(inputs)))
    explainer = Explainer(counted, preprocess="scale", batch_size=4)
    explainer.saliency(common.images(6))
    if keras.backend.backend() == "torch":
        pytest.skip("PyTorch runs without compiling")
    first = len(traces)
    explainer.saliency(common.images(7, seed=1))
    assert len(traces) == first
