"""What a run writes for TensorBoard."""

import keras
import numpy as np
import pytest

from applications.train.board import Board, Pictures
from kfeedback import CRCN, CliqueNet, FeedbackConvLSTMNet, LRNet
from kfeedback.models.backbones import LeNet

tensorboard = pytest.importorskip("tensorboard")
IMAGES = np.random.default_rng(0).uniform(0, 1, (3, 32, 32, 3)).astype("float32")


def vgg(**arguments):
    return CRCN("vgg_small", timesteps=3, **arguments)


NETWORKS = {
    # The rows beside the images: calls of the last layers of a kind.
    "lrnet": (lambda: LRNet(LeNet(input_shape=(32, 32, 3)), timesteps=3), 2 * 2),
    "crcn": (vgg, 2 * 2),
    "cliquenet": (lambda: CliqueNet(filters=4, layers=6), 3 * 2),
    "convlstm": (lambda: FeedbackConvLSTMNet(cells=[[(4, 1)], [(4, 2)]]), 2 * 4),
    "none": (lambda: LeNet(input_shape=(32, 32, 3)), 0),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_shows_each_call_of_feedback(name, tmp_path):
    build, rows = NETWORKS[name]
    pictures = Pictures(build(), IMAGES, tmp_path / "logs")
    assert len(pictures._rows) == rows
    pictures.write(0)
    assert (tmp_path / "logs").exists() == bool(rows)
    if rows:
        assert pictures.draw().startswith(b"\x89PNG")


def test_a_gate_of_zero_adds_nothing(tmp_path):
    pictures = Pictures(vgg(), IMAGES, tmp_path)
    arrays = [np.asarray(one) for one in pictures._maps(IMAGES)]
    for _, look, places in pictures._rows:
        assert not look(*(arrays[place] for place in places)).any()


def test_writes_scores_and_pictures(tmp_path):
    from tensorboard.backend.event_processing import event_accumulator

    network = LRNet(LeNet(), timesteps=2, return_sequences=True)
    network.compile(loss="mse")
    board = Board(network, network, IMAGES[:, :28, :28, :1], tmp_path)
    for epoch in range(2):
        board.write({"epoch": epoch, "loss_t1": 0.5, "loss_t2": 0.25})
    events = event_accumulator.EventAccumulator(str(tmp_path / "feedback")).Reload()
    assert [one.step for one in events.Tensors("feedback")] == [0, 1]
    events = event_accumulator.EventAccumulator(str(tmp_path / "train"))
    events = events.Reload()
    assert {"epoch_loss_t1", "epoch_loss_t2"} <= {*events.Tags()["tensors"]}
    keras.backend.clear_session()
