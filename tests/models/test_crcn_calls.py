"""What CRCN computes: nothing that is not needed."""

import pytest

from applications.common.multiply_adds import count_multiply_adds
from kfeedback import CRCN
from tests.models import common
from tests.models.crcn import BOTTOM_UP, LOOPS, calls, macs, of_stacked_net


def expected_calls(loops, bottom_up, timesteps, sequences):
    """Of each layer of `stacked_net` and each module."""
    names = [f"conv{number}" for number in range(1, 6)]
    lowers = [lower for _, lower in loops]
    # What an augmented layer reads is new in every pass only if something below it is.
    first = min(lowers) if bottom_up == "recomputed" else max(lowers)
    top = max(higher for higher, _ in loops)
    predictions = timesteps if sequences else 1
    found = {"predictions": predictions}
    for name in names:
        if name <= first:
            found[name] = 1
        else:
            found[name] = timesteps if name <= top else predictions
    for lower in lowers:
        found[f"{lower}_contextual"] = timesteps - 1 if lower >= first else 0
    return found


@pytest.mark.parametrize("sequences", [False, True])
@pytest.mark.parametrize("bottom_up", BOTTOM_UP)
@pytest.mark.parametrize("loops", [LOOPS, LOOPS[:1], LOOPS[1:]], ids=["1+2", "1", "2"])
def test_computes_nothing_that_is_not_needed(loops, bottom_up, sequences):
    net = common.stacked_net()
    cost = macs(net, loops)
    for timesteps in (1, 2, 3, 4):
        model = CRCN(
            net,
            loops=loops,
            timesteps=timesteps,
            bottom_up=bottom_up,
            return_sequences=sequences,
        )
        wanted = expected_calls(loops, bottom_up, timesteps, sequences)
        found = calls(model)
        assert {name: found[name] for name in wanted} == wanted
        total = sum(wanted[name] * cost[name] for name in wanted)
        assert count_multiply_adds(model) == total


@pytest.mark.parametrize("sequences", [False, True])
def test_features_need_no_classifier(sequences):
    model = of_stacked_net()(include_top=False, return_sequences=sequences)
    assert calls(model)["predictions"] == 0
    assert calls(model)["conv5"] == 3
