"""What importing kfeedback brings along, each tried in a process of its own."""

import ast
import os
import pathlib
import subprocess
import sys
import textwrap

import numpy as np
import pytest

import kfeedback
from tests import harness

REPOSITORY = pathlib.Path(__file__).parents[1]


def run(code, *arguments, **environment):
    """Runs code in a new process; its output."""
    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)],
        env={**os.environ, **environment},
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    return result.stdout


@pytest.mark.parametrize("backend", ["tensorflow", "jax"])
def test_importing_brings_no_heavy_package_builds_and_connects_nothing(backend):
    code = """
        import socket
        import sys

        def refuse(*args, **kwargs):
            raise RuntimeError("a connection")

        socket.socket.connect = refuse
        import keras  # which itself brings matplotlib and scikit-learn along

        built = []
        original = keras.layers.Layer.__init__

        def count(self, *args, **kwargs):
            built.append(type(self).__name__)
            original(self, *args, **kwargs)

        keras.layers.Layer.__init__ = count
        before = set(sys.modules)
        import kfeedback

        brought = {name.partition(".")[0] for name in set(sys.modules) - before}
        assert not built, built
        assert {"boxes", "voc"} <= set(dir(kfeedback.datasets))
        assert len(set(kfeedback.__all__)) == len(kfeedback.__all__)
        assert all(hasattr(kfeedback, name) for name in kfeedback.__all__)
        assert "LRNet" in kfeedback.list_models()
        print(sorted(brought))
    """
    brought = set(ast.literal_eval(run(code, KERAS_BACKEND=backend).splitlines()[-1]))
    heavy = "tensorflow_datasets matplotlib skimage sklearn scipy keras_cv PIL pandas"
    heavy += " absl tensorflow jax torch applications tools tests"
    assert "kfeedback" in brought
    assert not brought & set(heavy.split())


TRAINING = """
    import sys

    for name in sys.argv[2].split(","):
        sys.modules[name] = None  # importing it raises ImportError
    import keras
    import numpy as np
    import kfeedback

    assert keras.backend.backend() == "jax"
    keras.utils.set_random_seed(0)
    random = np.random.default_rng(0)
    images = random.uniform(size=(16, 16, 16, 1)).astype("float32")
    labels = np.arange(16) % 10

    def build(timesteps=2):
        return kfeedback.LRNet(
            "lenet",
            input_shape=(16, 16, 1),
            timesteps=timesteps,
            return_sequences=True,
        )

    model = build()
    model.compile(
        keras.optimizers.SGD(0.003),
        loss=kfeedback.losses.TimestepLoss("sparse_categorical_crossentropy", 1.2),
        metrics=[kfeedback.metrics.TimestepMetric("accuracy", 0)],
    )
    history = model.fit(images, labels, batch_size=8, epochs=2, verbose=0).history
    assert np.isfinite(history["loss"]).all(), history
    assert history["loss"][1] < history["loss"][0], history
    assert set(history) == {"loss", "accuracy_t1"}
    assert np.any(model.get_layer("conv2_feedback").kernel.numpy())

    path = sys.argv[1]
    kfeedback.weights.save(model, path + "/model.h5")
    expected = np.asarray(model(images))
    other = build()
    assert not np.array_equal(np.asarray(other(images)), expected)
    kfeedback.weights.load(other, path + "/model.h5")
    assert np.array_equal(np.asarray(other(images)), expected)
    kfeedback.weights.load(build(1), path + "/model.h5", without_feedback=True)
    model.save(path + "/model.keras")
    again = keras.models.load_model(path + "/model.keras")
    assert np.array_equal(np.asarray(again(images)), expected)
    assert not [name for name in sys.modules if name.startswith("tensorflow.")]
    print("trained")
"""


def test_jax_trains_where_there_is_no_tensorflow(tmp_path):
    blocked = (
        "tensorflow,tensorflow_datasets,matplotlib,skimage,sklearn,keras_cv,PIL,pandas"
    )
    output = run(TRAINING, tmp_path, blocked, KERAS_BACKEND="jax")
    assert output.split()[-1] == "trained"


@harness.tensorflow_only
def test_weights_of_one_backend_load_in_another(tmp_path):
    code = """
        import sys
        import kfeedback
        from tests import harness

        model = kfeedback.LRNet("lenet", input_shape=(16, 16, 1), timesteps=3)
        kfeedback.weights.load(model, sys.argv[1])
        images = harness.random_images((16, 16, 1))
        print(repr(harness.to_numpy(model(images)).tolist()))
    """
    model = kfeedback.LRNet("lenet", input_shape=(16, 16, 1), timesteps=3)
    kfeedback.weights.save(harness.randomize(model), tmp_path / "model.h5")
    output = run(code, tmp_path / "model.h5", KERAS_BACKEND="jax")
    loaded = np.array(ast.literal_eval(output.splitlines()[-1]))
    saved = harness.to_numpy(model(harness.random_images((16, 16, 1))))
    assert saved.shape == (8, 10)
    np.testing.assert_allclose(loaded, saved, atol=3e-4)
