"""What FeedbackConvLSTMNet refuses: each in one sentence that names the argument."""

import keras
import pytest

from kfeedback import FeedbackConvLSTMNet
from tests import harness


@pytest.mark.parametrize(
    "arguments, argument",
    [
        ({"timesteps": 0}, "timesteps"),
        ({"timesteps": 2.0}, "timesteps"),
        ({"timesteps": None}, "timesteps"),
        ({"cells": ()}, "cells"),
        ({"cells": None}, "cells"),
        ({"cells": 16}, "cells"),
        ({"cells": "cells"}, "cells"),
        ({"cells": [[]]}, "cells"),
        ({"cells": [[(4, 1)], []]}, "cells"),
        ({"cells": [(4, 1)]}, "cells"),
        ({"cells": [[(4, 1, 1)]]}, "cells"),
        ({"cells": [[4, 4]]}, "cells"),
        ({"cells": [[(0, 1)]]}, "filters in cells"),
        ({"cells": [[(4, 1), (2.5, 1)]]}, "filters in cells"),
        ({"cells": [[(4, 0)]]}, "stride in cells"),
        ({"cells": [[(4, "1")]]}, "stride in cells"),
        ({"head_units": 0}, "head_units"),
        ({"head_dropout": 1}, "head_dropout"),
        ({"head_dropout": -0.1}, "head_dropout"),
        ({"head_dropout": None}, "head_dropout"),
        ({"input_shape": (32, 40, 3)}, "input_shape"),
        ({"input_shape": (24, 32, 3)}, "input_shape"),
        ({"input_shape": (8, 8, 3)}, "input_shape"),
        ({"cells": [[(4, 3)]]}, "input_shape"),
        ({"input_shape": (None, None, 3)}, "input_shape"),
        ({"input_shape": (32, None, 3)}, "input_shape"),
        ({"input_shape": (None, 40, 3), "include_top": False}, "input_shape"),
        ({"classes": 0}, "classes"),
        ({"pooling": "avg"}, "pooling"),
        ({"classifier_activation": "softmin"}, "classifier_activation"),
    ],
)
def test_refuses(arguments, argument):
    with pytest.raises(ValueError) as caught:
        FeedbackConvLSTMNet(**arguments)
    harness.assert_one_sentence(caught.value, argument)


@pytest.mark.parametrize("name", ["batch_norm", "return_sequences", "include_top"])
def test_refuses_what_is_no_bool(name):
    with pytest.raises(TypeError, match=f"{name} must be True or False"):
        FeedbackConvLSTMNet(**{name: "no"})


def test_refuses_a_tensor_of_another_size():
    with pytest.raises(ValueError) as caught:
        FeedbackConvLSTMNet(input_tensor=keras.Input((20, 32, 3)))
    harness.assert_one_sentence(caught.value, "input")
