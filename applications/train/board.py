"""TensorBoard: the scores of a run, and pictures of what its feedback does."""

import importlib.util
import io
import pathlib

import keras
import numpy as np

from applications.common import figures
from kfeedback import graph
from kfeedback.layers import CliqueBlock, Contextual, ConvLSTMCell, Feedback

LAYERS = 3  # of a kind, those next to the prediction


class Board:
    """Writes the scores of each epoch and a page of pictures.

    Args:
        model: compiled, with an axis of timesteps.
        network: the network of `kfeedback.models` in it.
        images: a few, preprocessed, `(B, H, W, C)`.
        folder: of the logs.

    Raises:
        ImportError: without TensorBoard.
    """

    def __init__(self, model, network, images, folder):
        if importlib.util.find_spec("tensorboard") is None:
            raise ImportError("--tensorboard needs pip install kfeedback[plots].")
        self._scores = keras.callbacks.TensorBoard(str(folder))
        self._scores.set_model(model)
        self._pictures = Pictures(network, images, pathlib.Path(folder, "feedback"))

    def write(self, row):
        """Adds the scores of an epoch, and what feedback does to the images."""
        self._scores.on_epoch_end(row["epoch"], row)
        self._pictures.write(row["epoch"])


class Pictures:
    """What feedback does to a few images, a page for each epoch.

    An `LRNet` shows its emphasis vectors, a `CRCN` how much its gates add at each
    place, a `CliqueNet` the strongest map of each stage, and a `FeedbackConvLSTMNet`
    that of its cells after each pass.

    Args:
        model: a network of `kfeedback.models`; of another there is nothing to show.
        images: preprocessed, `(B, H, W, C)`.
        folder: of TensorBoard's logs.
    """

    def __init__(self, model, images, folder):
        self._images = images
        self._rows, tensors = _rows(model)
        self._maps = keras.Model(model.inputs[0], tensors) if tensors else None
        self._folder, self._writer = str(folder), None

    def write(self, epoch):
        """Adds the page of an epoch, counted from 0."""
        if self._maps is None:
            return
        import tensorflow as tf

        if self._writer is None:
            self._writer = tf.summary.create_file_writer(self._folder)
        page = tf.image.decode_png(self.draw(), channels=3)
        with self._writer.as_default():
            tf.summary.image("feedback", page[None], step=epoch)
        self._writer.flush()

    def draw(self):
        """The page of now as a PNG."""
        images = self._images
        found = self._maps(images, training=False)
        found = [keras.ops.convert_to_numpy(one).astype("float32") for one in found]
        rows = [("image", figures.picture(images))]
        rows += [
            (name, look(*(found[place] for place in places)))
            for name, look, places in self._rows
        ]
        file = io.BytesIO()
        figures.save(figures.table(rows, fontsize=7, aspect="auto"), file)
        return file.getvalue()


def _rows(model):
    """The rows of a page, `(name, function, places of its arrays)`, and the tensors."""
    rows, tensors = [], []
    calls = graph.nodes(model.inputs, model.outputs)
    for kind, (look, read) in _KINDS.items():
        layers = dict.fromkeys(
            one.operation for one in calls if isinstance(one.operation, kind)
        )
        for layer in list(layers)[-LAYERS:]:
            own = [read(one) for one in calls if one.operation is layer]
            own = [group for groups in own for group in groups]
            for number, group in enumerate(own, start=1):
                places = range(len(tensors), len(tensors) + len(group))
                rows.append((f"{layer.name}\n{number} of {len(own)}", look, places))
                tensors += group
    return rows, tensors


_KINDS = {
    Feedback: (lambda emphasis: emphasis[:, None], lambda call: [call.outputs[:1]]),
    Contextual: (
        lambda output, bottom_up: np.abs(output - bottom_up).mean(-1),
        lambda call: [[call.outputs[0], call.input_tensors[0]]],
    ),
    CliqueBlock: (
        figures.strongest_maps,
        lambda call: [[stage] for stage in call.outputs],
    ),
    ConvLSTMCell: (figures.strongest_maps, lambda call: [call.outputs[:1]]),
}
"""What is drawn of a layer's call: a function of arrays, and the tensors it needs."""
