import keras
import numpy as np
import pytest
from keras import ops

from kfeedback.explain import Explainer, Feedback, Method, second_look
from tests.explain import common

EXACT = {"energy": 0.95, "margin": 0.0, "square": False}


def test_look_twice_crops_the_original_and_ranks_the_pairs():
    """Channel 0 is everywhere a little bright, channel 1 very bright in one corner."""
    model = common.bright()
    image = np.zeros((16, 16, 2), "float32")
    image[..., 0] = 80
    image[8:, :8, 1] = 240
    explainer = Explainer(model, Feedback(3), batch_size=3)
    found = explainer.look_twice(image[None], top=2, **EXACT)
    assert found["first_classes"].tolist() == [[0, 1]]
    assert found["boxes"].shape == (1, 2, 4) and found["boxes"].dtype == np.int32
    # The map of class 1 lies where channel 1 is: the gates elsewhere are closed.
    top, left, bottom, right = found["boxes"][0, 1]
    assert (top, left, bottom, right) == (8, 0, 16, 8)
    assert found["classes"].tolist() == [[1, 0]]
    crop = image[8:, :8]
    expected = explainer.predict(crop[None])[0]
    np.testing.assert_allclose(found["scores"][0, 0], expected[1], atol=1e-6)
    assert (np.diff(found["scores"], axis=1) <= 0).all()
    listed = explainer.look_twice([image, image[:12, :14]], top=2, **EXACT)
    for name, value in found.items():
        np.testing.assert_array_equal(listed[name][:1], value)


def pairs(looks, top):
    """The paper's rule: of every look's best pairs, the best of distinct classes."""
    found = []
    for one in looks:
        found += [(one[k], k) for k in np.argsort(-one)[:top]]
    found.sort(reverse=True)
    classes = list(dict.fromkeys(k for _, k in found))[:top]
    return classes, [max(c for c, k in found if k == wanted) for wanted in classes]


def test_answers_are_those_of_a_reference():
    rng = np.random.default_rng(0)
    for count, top in ((1, 1), (5, 5), (3, 2)):
        looks = rng.dirichlet(np.full(7, 0.3), (4, count + 1))
        for combine in second_look.COMBINATIONS:
            classes, scores = second_look._answer(
                looks[:, 0], looks[:, 1:], combine, top
            )
            for n, own in enumerate(looks):
                if combine == "mean":
                    own = own.mean(axis=0, keepdims=True)
                expected = pairs(own[combine == "crops" :], top)
                assert classes[n].tolist() == expected[0]
                np.testing.assert_allclose(scores[n], expected[1])


@pytest.mark.parametrize(
    ("box", "margin", "square", "expected"),
    [
        ((2, 2, 4, 6), 0, False, (4, 4, 8, 12)),
        ((2, 2, 4, 6), 0.5, False, (2, 0, 10, 16)),
        ((2, 2, 4, 6), 0, True, (2, 4, 10, 12)),
        ((0, 2, 2, 6), 0, True, (0, 4, 8, 12)),
        ((0, 0, 8, 8), 1, True, (0, 0, 16, 16)),
        ((0, 0, 0, 0), 0, False, (0, 0, 16, 16)),
    ],
)
def test_windows_stay_in_the_original(box, margin, square, expected):
    found = second_look._window(np.array(box), (16, 16), (8, 8), margin, square)
    assert tuple(map(int, found)) == expected


class Corner(Method):
    """Whatever the class, it is in the upper left corner."""

    def maps(self, network, images, targets, features):
        return ops.pad(images[:, :2, :2, 0] * 0 + 1.0, [(0, 0), (0, 6), (0, 6)])


def test_the_first_look_may_compete():
    """A dark corner says nothing; the whole image does."""
    image = np.zeros((1, 16, 16, 2), "float32")
    image[:, 4:, 4:, 0] = 200
    explainer = Explainer(common.bright(), Corner())
    scores = {}
    for combine in second_look.COMBINATIONS:
        found = explainer.look_twice(image, top=1, combine=combine, **EXACT)
        assert found["boxes"].tolist() == [[[0, 0, 4, 4]]]
        scores[combine], first = found["scores"].item(), found["first_scores"].item()
    assert first > 0.9 and scores["looks"] == first
    assert scores["crops"] == pytest.approx(0.5)
    assert scores["mean"] == pytest.approx((0.5 + first) / 2)
    with pytest.raises(ValueError, match="combine must be one of looks, crops, mean"):
        explainer.look_twice(image, combine="sum")


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"images": []}, "images must be an array or a list of one or more, got none"),
        ({"images": iter([0])}, "images must be an array or a list .*, got .*iterator"),
        ({"images": None}, "images must be an array or a list .*, got NoneType"),
        ({"size": 8}, r"size must be \(H, W\) as .* takes it, \(8, 8\), got 8"),
        ({"size": (8, 8.0)}, r"size must be .*, got \(8, 8.0\)"),
        ({"size": (7, 8)}, r"size must be .*, got \(7, 8\)"),
        ({"images": np.full((1, 8, 8, 2), 0.5)}, "images .* got fractions up to 0.5"),
    ],
)
def test_bad_arguments(arguments, match):
    given = {"images": np.zeros((1, 8, 8, 2)), **arguments}
    with pytest.raises(ValueError, match=match):
        Explainer(common.bright()).look_twice(**given)


def test_numpy_gives_sizes_and_a_model_of_any_size_needs_one():
    explainer = Explainer(common.bright(), Corner())
    image = np.zeros((1, 16, 16, 2))
    found = explainer.look_twice(image, size=np.array([8, 8]))
    expected = explainer.look_twice(image)
    np.testing.assert_array_equal(found["boxes"], expected["boxes"])
    x = inputs = keras.Input((None, None, 2))
    x = keras.layers.Conv2D(2, 1, activation="relu")(x)
    x = keras.layers.Dense(2)(keras.layers.GlobalAveragePooling2D()(x))
    with pytest.raises(ValueError, match=r"size must be .* \(None, None\), got None"):
        Explainer(keras.Model(inputs, x)).look_twice(image)
