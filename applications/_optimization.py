"""Optimizer, loss and metrics of a training run."""

import contextlib
import math

import keras
from absl import flags

from applications import _app
from kfeedback import graph
from kfeedback.losses import TimestepLoss
from kfeedback.metrics import ExactMatch, TimestepMetric

flags.DEFINE_enum("optimizer", "sgd", ["sgd", "adam"], "SGD, or Keras' Adam.")
_app.define_number("lr", 0.01, "Learning rate.", above=0)
_app.define_number(
    "feedback_lr_mult", 1.0, "Times lr, for the weights of feedback layers.", above=0
)
flags.DEFINE_list("lr_drops", [], "Shares of all epochs at which lr falls to a tenth.")
_app.define_number("momentum", 0.9, "Momentum of SGD.", least=0, below=1)
flags.DEFINE_bool("nesterov", False, "Nesterov momentum.")
_app.define_number(
    "weight_decay", 1e-4, "L2: this times a weight is added to its gradient.", least=0
)
flags.DEFINE_enum(
    "weight_decay_on", "kernels", ["kernels", "all"], "Kernels only, or all weights."
)
flags.DEFINE_bool(
    "freeze_batch_norm",
    False,
    "Batch norms keep the statistics, scale and shift of --init_from.",
)
_app.define_number("discount", 1.0, "γ: timestep t weighs γ^t, t from 0.", above=0)
FLAGS = flags.FLAGS


@keras.saving.register_keras_serializable(package="applications")
class MultiplierSGD(keras.optimizers.SGD):
    """SGD with a multiple of the learning rate for some variables, Caffe's `lr_mult`.

    Args:
        *args: arguments of `keras.optimizers.SGD`.
        multipliers: dict from a part of a variable's path to its factor.
        **kwargs: arguments of `keras.optimizers.SGD`.
    """

    def __init__(self, *args, multipliers=None, **kwargs):
        super().__init__(*args, **kwargs)
        self.multipliers = multipliers or {}

    def apply(self, grads, trainable_variables=None):
        """One step; a factor on the gradient is one on the learning rate of SGD."""
        variables = trainable_variables or self._trainable_variables
        scaled = [
            grad if grad is None else grad * self._factor(variable.path)
            for grad, variable in zip(grads, variables, strict=True)
        ]
        return super().apply(scaled, trainable_variables)

    def _factor(self, path):
        return math.prod(f for part, f in self.multipliers.items() if part in path)

    def get_config(self):
        """The constructor's arguments."""
        return {**super().get_config(), "multipliers": self.multipliers}


def compile_model(model, steps, multi_label=False, *, lr=None, epochs=None):
    """Optimizer, L2 and the summed loss, with the accuracy of every timestep.

    Args:
        model: gives `(B, timesteps, classes)`.
        steps: batches of an epoch.
        multi_label: bool, labels are `(B, classes)`: the loss is the binary
            cross-entropy, and right is what is right for every class.
        lr: the learning rate to start from instead of --lr.
        epochs: those of the run instead of --epochs.
    """
    lr = lr or FLAGS.lr
    # Keras' weight_decay is decoupled from the gradient; the papers' L2 is not.
    for variable in model.trainable_variables:
        chosen = FLAGS.weight_decay_on == "all" or len(variable.shape) > 1
        if chosen and FLAGS.weight_decay:
            variable.regularizer = keras.regularizers.L2(FLAGS.weight_decay / 2)
    schedule = lr
    shares = drops()
    if shares:
        total = (epochs or FLAGS.epochs) * steps
        schedule = keras.optimizers.schedules.PiecewiseConstantDecay(
            [int(share * total) for share in shares],
            [lr * 0.1**n for n in range(len(shares) + 1)],
        )
    if FLAGS.optimizer == "adam":
        _app.refuse(("momentum", "nesterov", "feedback_lr_mult"), "--optimizer=adam")
        optimizer = keras.optimizers.Adam(schedule)
    else:
        optimizer = MultiplierSGD(
            schedule,
            momentum=FLAGS.momentum,
            nesterov=FLAGS.nesterov,
            multipliers={"_feedback/": FLAGS.feedback_lr_mult},
        )
    loss = "binary_crossentropy" if multi_label else "sparse_categorical_crossentropy"
    model.compile(
        optimizer=optimizer,
        loss=TimestepLoss(loss, discount=FLAGS.discount),
        metrics=[
            TimestepMetric(
                ExactMatch() if multi_label else "accuracy",
                step,
                name=f"accuracy_t{step + 1}",
            )
            for step in range(model.output_shape[1])
        ],
    )


@contextlib.contextmanager
def frozen_batch_norms(network):
    """Freezes the batch norms of a network meanwhile, if --freeze_batch_norm says so.

    All passes of a network share a batch norm, but what they bring to it differs: in
    training each is normalized by its own statistics, in inference all by their mean.
    Frozen, a batch norm does the same in both.
    """
    norms = [
        layer
        for layer in graph.all_layers(network)
        if FLAGS.freeze_batch_norm
        and isinstance(layer, keras.layers.BatchNormalization)
    ]
    if FLAGS.freeze_batch_norm and not norms:
        raise ValueError(
            "--freeze_batch_norm must be given for a network with layers "
            f"BatchNormalization only, got '{network.name}', which has none."
        )
    before = [layer.trainable for layer in norms]
    for layer in norms:
        layer.trainable = False
    try:
        yield
    finally:
        for layer, trainable in zip(norms, before, strict=True):
            layer.trainable = trainable


def drops():
    """The shares of --lr_drops, checked."""
    try:
        shares = [float(share) for share in FLAGS.lr_drops]
    except ValueError:
        shares = [-1.0]
    if sorted(set(shares)) != shares or not all(0 < share < 1 for share in shares):
        raise ValueError(
            "--lr_drops must be rising shares between 0 and 1, such as 0.5,0.75, got "
            f"{','.join(map(str, FLAGS.lr_drops))!r}."
        )
    return shares
