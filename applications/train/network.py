"""The network that applications.train trains."""

import collections
import contextlib
import inspect

import keras

from applications.common import published
from applications.common.models import check_images, load_model
from kfeedback import graph, weights
from kfeedback.layers import StackTimesteps
from kfeedback.models import registry

_DECIDED = ("include_top", "pooling", "input_shape", "input_tensor", "classes")
_DECIDED += ("backbone", "timesteps", "return_sequences", "feedback_initializer")


def build(settings, info):
    """The model that the settings name, one with feedback with all its predictions.

    Args:
        settings: `Settings`.
        info: `DatasetInfo`.
    """
    init, family = settings.init_from, settings.family
    with published.named("init_from", init):
        weights.check_weights(init)
    if settings.starts_from_model:
        network = load_model("init_from", init)
        _check_precision(network, settings)
        init = None  # nothing is left to load
    else:
        network = _feedforward(settings, info)
    check_images("init_from" if settings.init_from else "model", network, info)
    of_feedback = init is not None and (
        family.gives_feedback and weights.holds_feedback(init)
    )
    if of_feedback and settings.feedback_init:
        raise ValueError(
            f"--feedback_init must be left out with --init_from={init}, which holds "
            f"the weights of the feedback, got {settings.feedback_init:g}."
        )
    if init is not None and not of_feedback:
        _named("init_from", weights.load, network, init)
    if not family.gives_feedback:
        return network
    own = {}
    if settings.feedback_init:
        own["feedback_initializer"] = keras.initializers.RandomNormal(
            stddev=settings.feedback_init, seed=settings.seed
        )
    model = _named(
        "model_args",
        family.factory,
        network,
        timesteps=settings.get_timesteps(),
        return_sequences=True,
        **own,
        **_arguments("model_args", settings, family.factory, also=("weights",)),
    )
    if of_feedback:
        _named("init_from", registry.load_weights, model, init)
    return model


def _check_precision(network, settings):
    """Refuses another precision than that of a saved model, which keeps its own."""
    own = (x for x in graph.all_layers(network) if not isinstance(x, keras.Model))
    found = collections.Counter(layer.compute_dtype for layer in own if layer.weights)
    (most, _), *_ = found.most_common()  # a head, or what one chose, may have another
    wanted = keras.config.dtype_policy().compute_dtype
    if most != wanted:
        raise ValueError(
            f"--init_from must hold a network that computes in {wanted}, as "
            f"--mixed_precision={settings.mixed_precision} says here, got "
            f"{settings.init_from}, which computes in {most}."
        )


def _feedforward(settings, info):
    """The network that --backbone or --model names, for the data."""
    own = {"classifier_activation": "sigmoid"} if info.multi_label else {}
    family, flag = settings.family, "model_args"
    if family.gives_feedback:
        family, flag = registry.get(settings.backbone, "--backbone"), "backbone_args"
    elif settings.get_timesteps():
        own |= {"timesteps": settings.get_timesteps(), "return_sequences": True}
    arguments = _arguments(flag, settings, family.factory)
    own |= {"input_shape": info.image_shape, "classes": info.num_classes}
    return _named(flag, family.factory, **own | arguments)


def _named(flag, function, *args, **kwargs):
    """Calls a function, whose errors get the name of the flag that caused them."""
    try:
        return function(*args, **kwargs)
    except (TypeError, ValueError) as error:
        raise ValueError(f"--{flag} must suit the network: {error}") from error


def _arguments(flag, settings, factory, also=()):
    """The arguments of a factory that a flag holds, checked."""
    given = getattr(settings, flag)
    takes = inspect.signature(factory).parameters
    known = [name for name in takes if name not in (*_DECIDED, *also)]
    unknown = sorted(given.keys() - {*known})
    if unknown:
        raise ValueError(
            f"--{flag} must hold some of {', '.join(known)}, got {', '.join(unknown)}."
        )
    return given


def with_timesteps(network):
    """The network with an axis of timesteps behind the batch, if it has none."""
    (output,) = network.outputs
    if len(output.shape) == 2:
        output = StackTimesteps(name="timesteps", dtype=output.dtype)([output])
    return keras.Model(network.inputs[0], output)


@contextlib.contextmanager
def frozen_batch_norms(network):
    """Freezes the batch norms of a network meanwhile.

    All passes of a network share a batch norm, but what they bring to it differs: in
    training each is normalized by its own statistics, in inference all by their mean.
    Frozen, a batch norm does the same in both.
    """
    norms = [
        layer
        for layer in graph.all_layers(network)
        if isinstance(layer, keras.layers.BatchNormalization)
    ]
    if not norms:
        raise ValueError(
            "--freeze_batch_norm must be given for a network with layers "
            f"BatchNormalization only, got '{network.name}', which has none."
        )
    theirs = {id(weight) for layer in norms for weight in layer.weights}
    for weight in network.weights:
        if "moving_" in weight.name and id(weight) not in theirs:
            raise ValueError(
                "--freeze_batch_norm must be given for a network whose statistics are "
                f"all of layers BatchNormalization, got '{network.name}' with "
                f"'{weight.path}'."
            )
    before = [layer.trainable for layer in norms]
    for layer in norms:
        layer.trainable = False
    try:
        yield
    finally:
        for layer, trainable in zip(norms, before, strict=True):
            layer.trainable = trainable
