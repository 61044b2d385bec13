"""Classifiers of one class."""

import numpy as np
import pytest

import kfeedback
from kfeedback.models import backbones
from tests import harness
from tests.other_peoples_models.common import IMAGES, one_sentence, small


@harness.tensorflow_only
@pytest.mark.parametrize("from_logits", [False, True])
def test_one_class_is_served_as_two(tmp_path, from_logits):
    import tensorflow as tf

    model = small(1, None if from_logits else "sigmoid")
    harness.randomize(model)
    path = kfeedback.serving.export(
        model,
        tmp_path / "m",
        from_logits=from_logits,
        class_names=["no", "yes"],
        warmup_batches=(),
    )
    answer = tf.saved_model.load(str(path)).signatures["serving_default"](
        images=tf.constant(IMAGES)
    )
    p = harness.to_numpy(model(IMAGES))[:, 0]
    p = 1 / (1 + np.exp(-p)) if from_logits else p
    np.testing.assert_allclose(
        answer["probabilities"], np.stack([1 - p, p], 1), atol=1e-6
    )
    assert 0 < p.min() and p.max() < 1
    np.testing.assert_array_equal(answer["top_classes"][:, 0], (p > 0.5).astype(int))
    named = [name.decode() for name in answer["top_labels"][:, 0].numpy()]
    assert named == ["yes" if one > 0.5 else "no" for one in p]
    with pytest.raises(ValueError, match="class_names must be 2 names"):
        kfeedback.serving.export(
            model, tmp_path / "n", from_logits=from_logits, class_names=["yes"]
        )


@pytest.mark.parametrize("from_logits", [False, True])
def test_one_class_leaves_early_when_it_is_sure_of_either(from_logits):
    activation = None if from_logits else "sigmoid"
    model = kfeedback.FeedbackConvLSTMNet(
        input_shape=(16, 16, 3),
        cells=(((4, 1),), ((6, 2),)),
        timesteps=3,
        classes=1,
        classifier_activation=activation,
        return_sequences=True,
        head_units=8,
    )
    harness.randomize(model)
    images = harness.random_images((16, 16, 3), 40) * 3
    every = harness.to_numpy(model(images))[..., 0]
    p = 1 / (1 + np.exp(-every)) if from_logits else every
    sure = np.maximum(p, 1 - p)
    threshold = float(np.median(sure[:, 0]))
    expected = np.where(sure[:, 0] >= threshold, 1, 0)
    expected = np.where(expected, 1, np.where(sure[:, 1] >= threshold, 2, 3))
    predictor = kfeedback.early_exit(model, threshold, from_logits=from_logits)
    predictions, timesteps = predictor.predict(images)
    clear = (abs(sure - threshold) > 1e-5).all(axis=1)
    np.testing.assert_array_equal(timesteps[clear], expected[clear])
    rows = np.arange(len(images))
    np.testing.assert_allclose(predictions[:, 0], every[rows, timesteps - 1], atol=1e-5)


@pytest.mark.parametrize(
    "make",
    [
        lambda: backbones.LeNet(classes=1),
        lambda: backbones.NIN(classes=1, classifier_activation="softmax"),
        lambda: kfeedback.LRNet("lenet", classes=1),
        lambda: kfeedback.LRNet(small(1)),
        lambda: kfeedback.LRNet(small(1, None)),
        lambda: kfeedback.CliqueNet(classes=1, filters=2, layers=6),
        lambda: kfeedback.attacks.Attack(small(1)),
        lambda: kfeedback.attacks.Attack(small(1, None), from_logits=True),
    ],
)
def test_a_softmax_of_one_class_is_refused(make):
    with pytest.raises(ValueError, match=r"classes|two") as error:
        make()
    one_sentence(error)


def test_one_class_is_built_with_a_sigmoid():
    assert backbones.LeNet(classes=1, classifier_activation="sigmoid").count_params()
    assert backbones.LeNet(classes=1, include_top=False).output_shape[-1] == 50
