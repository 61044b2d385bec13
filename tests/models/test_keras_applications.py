"""Twenty architectures of `keras.applications`, small, through all that is offered.

The table says what each can do; no cell is left out. What has no ReLU gets no gates and
is told so.
"""

import subprocess
import sys

import keras
import numpy as np
import pytest

import kfeedback
from kfeedback import explain
from tests import harness

pytestmark = [pytest.mark.slow, harness.tensorflow_only]

CLASSES = 5

# Name, side of the images, the last maps' side for Grad-CAM, whether it has ReLUs.
TABLE = [
    ("ConvNeXtTiny", 64, 2, False),
    ("DenseNet121", 64, 2, True),
    ("DenseNet169", 64, 2, True),
    ("EfficientNetB0", 64, 2, False),
    ("EfficientNetB1", 64, 2, False),
    ("EfficientNetV2B0", 64, 2, False),
    ("EfficientNetV2S", 64, 2, False),
    ("InceptionResNetV2", 107, 2, True),
    ("InceptionV3", 107, 2, True),
    ("MobileNet", 64, 2, True),
    ("MobileNetV2", 64, 2, True),
    ("MobileNetV3Large", 64, 2, True),
    ("MobileNetV3Small", 64, 2, True),
    ("NASNetMobile", 64, 2, True),
    ("ResNet101", 64, 2, True),
    ("ResNet50", 64, 2, True),
    ("ResNet50V2", 64, 2, True),
    ("VGG16", 32, 2, True),
    ("VGG19", 32, 2, True),
    ("Xception", 71, 3, True),
]

NEW_PROCESS = """
import sys
import keras
import numpy as np
import kfeedback

name, side, folder = sys.argv[1], int(sys.argv[2]), sys.argv[3]
factory = getattr(keras.applications, name)
model = factory(input_shape=(side, side, 3), weights=None, classes=5)
kfeedback.weights.load(model, folder + "/w.h5")
images = np.load(folder + "/images.npy")
np.save(folder + "/outputs.npy", model.predict(images, verbose=0))
"""


def scale_scores(model, images):
    """Divides the last weights: the scores deviate by 1 among the classes.

    With scores in the hundreds every softmax is exactly 1 for one class.
    """
    last = next(layer for layer in reversed(model.layers) if layer.weights)
    activation, last.activation = last.activation, keras.activations.linear
    scores = keras.Model(model.input, last.output)(images)
    last.activation = activation
    deviation = keras.ops.mean(keras.ops.std(scores, axis=-1))
    last.set_weights([weight / deviation for weight in last.get_weights()])


@pytest.fixture(params=TABLE, ids=lambda row: row[0])
def row(request):
    return request.param


def test_the_table_has_twenty_rows():
    assert len({name for name, *_ in TABLE}) == 20


def test_architecture(row, tmp_path):
    import tensorflow as tf

    name, side, map_side, has_relus = row
    harness.fresh_names()
    keras.utils.set_random_seed(1)
    factory = getattr(keras.applications, name)
    model = factory(input_shape=(side, side, 3), weights=None, classes=CLASSES)
    images = np.random.default_rng(0).uniform(0, 255, (3, side, side, 3))
    if not any(isinstance(layer, keras.layers.Rescaling) for layer in model.layers):
        images = images / 127.5 - 1
    images = images.astype("float32")
    # As Keras makes them, signals fade: all images and classes would be alike.
    harness.settle(harness.randomize(model), images)
    scale_scores(model, images)
    posterior = model.predict(images, verbose=0)
    assert np.ptp(posterior, axis=0).max() > 1e-3

    # Weights, in a new process.
    kfeedback.weights.save(model, tmp_path / "w.h5")
    np.save(tmp_path / "images.npy", images)
    arguments = [NEW_PROCESS, name, str(side), str(tmp_path)]
    subprocess.run([sys.executable, "-c", *arguments], check=True)
    again = np.load(tmp_path / "outputs.npy")
    np.testing.assert_allclose(again, posterior, rtol=1e-4, atol=1e-6)

    # Grad-CAM.
    cam = explain.Explainer(model, "grad_cam", batch_size=4)
    shapes = {tuple(x.shape[1:3]) for x in cam.network.features}
    assert shapes == {(map_side, map_side)}
    np.testing.assert_allclose(cam.predict(images), posterior, rtol=1e-4, atol=1e-6)
    maps = cam.saliency(images[:1], [list(range(CLASSES))])[0]
    assert maps.shape == (CLASSES, side, side) and np.isfinite(maps).all()
    assert any(np.ptp(one) > 0 for one in maps)

    # FeedbackCNN, or why not.
    if has_relus:
        net = kfeedback.FeedbackCNN(model, iterations=1, batch_size=2)
        maps = net.saliency(images[:2])
        assert maps.shape == (2, side, side) and np.isfinite(maps).all()
        assert maps.max() > 0
    else:
        with pytest.raises(ValueError, match="model must have a ReLU") as error:
            kfeedback.FeedbackCNN(model)
        harness.assert_one_sentence(error.value, "model")

    # LRNet.
    net = kfeedback.LRNet(model, timesteps=2, return_sequences=True)
    every = net.predict(images, verbose=0)
    assert every.shape == (3, 2, CLASSES)
    np.testing.assert_allclose(every[:, 0], posterior, rtol=1e-3, atol=1e-5)

    # Early exit.
    predictor = kfeedback.early_exit(net, 1e-3)
    for threshold, timestep in ((1e-3, 1), (1.0, 2)):
        predictor.threshold = threshold
        found, timesteps = predictor.predict(images)
        assert set(timesteps) == {timestep}
        np.testing.assert_allclose(found, every[:, timestep - 1], rtol=1e-3, atol=1e-5)

    # Export, which compares every signature with the model.
    path = kfeedback.serving.export(net, tmp_path / "served", warmup_batches=())
    served = tf.saved_model.load(str(path)).signatures
    assert {"serving_default", "timesteps", "early_exit"} == set(served)
    found = served["serving_default"](images=tf.constant(images))["probabilities"]
    np.testing.assert_allclose(found, every[:, -1], rtol=1e-3, atol=1e-5)
