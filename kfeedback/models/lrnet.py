"""LRNet, Learning with Rethinking: the posterior re-weights the features."""

import keras

from kfeedback import checks, graph
from kfeedback.layers import Emphasis, Feedback, RecurrentConv2D
from kfeedback.layers.initializers import with_seed_offset
from kfeedback.models.arguments import check_initializer
from kfeedback.models.factory import family
from kfeedback.preprocessing import decode_predictions, preprocess_input

__all__ = ["LRNet", "decode_predictions", "preprocess_input"]

_CONVOLUTIONS = (
    keras.layers.Conv2D,
    keras.layers.DepthwiseConv2D,
    keras.layers.SeparableConv2D,
)


@family("lrnet", gives_feedback=True)
def LRNet(
    network,
    backbone,
    include_top=True,
    weights=None,
    input_tensor=None,
    input_shape=None,
    pooling=None,
    classes=None,
    classifier_activation="softmax",
    name="lrnet",
    *,
    timesteps=2,
    emphasis_layers=None,
    feedback_initializer="zeros",
    return_sequences=False,
):
    """Learning with Rethinking: lets any functional classifier look again.

    After each pass the posterior `p` goes through one `Feedback` layer for every
    emphasized layer, `a = C · softmax(W p + b)`, and the next pass multiplies that
    layer's channels by `a`. All passes share the weights. `W` and `b` start at
    zero: a fresh LRNet predicts at every timestep exactly what the backbone does.
    What lies below the first emphasized layer's output is computed once.

    Train it on `return_sequences=True` with `kfeedback.losses.TimestepLoss`, which
    is the paper's sum of the cross-entropies of all timesteps.

    Args:
        backbone: `"lenet"`, `"nin"`, `"lnin"`, `"rcnn128"`, `"vgg_small"`,
            `"vgg_attention"`, `"alexnet"`, `"googlenet"`, `"vgg16"`, or any functional
            `keras.Model` that classifies: its layers, with their weights, become
            layers of the LRNet.
            Softmax and sigmoid outputs are fed back as they are, other outputs as
            softmax(logits).
        include_top: bool; without the top the output is the last feature map
            before the classifier. (The earlier passes need the classifier, so its
            weights remain in the model for `timesteps` > 1.)
        weights: `None`; or a tag of `kfeedback.list_weights()` or the path of a file
            that `kfeedback.weights.load` takes, which serves every `timesteps` (without
            a top, `timesteps=1` has no classifier and takes only a file of its own
            kind); or, for `"vgg16"`, `"imagenet"`, the published weights of the
            backbone.
        input_tensor: `None` or a symbolic image to start from.
        input_shape: `None` for the backbone's own, or `(H, W, C)`.
        pooling: without the top: `None`, `"avg"` or `"max"`.
        classes: `None` for the backbone's own number (1000 for those of ImageNet,
            `"alexnet"`, `"googlenet"` and `"vgg16"`, 10 for the others), or an int.
        classifier_activation: activation of a backbone given by name, `None` for
            logits. A backbone given as a model keeps its own.
        name: name of the model.
        timesteps: int ≥ 1, passes and predictions; 1 is the backbone.
        emphasis_layers: layers, or names, whose output `(B, H, W, C)` is
            emphasized. By default every convolution with a kernel larger than 1, or
            the batch norm where one follows it directly, or the recurrent
            convolutions where there are such.
        feedback_initializer: initializer of `W`.
        return_sequences: bool, all predictions instead of the last.

    Returns:
        a functional `keras.Model`, `(B, H, W, C)` to `(B, classes)`, or
        `(B, timesteps, classes)` with `return_sequences=True`. Without the top the
        shape of the features stands for `classes`.

    Raises:
        TypeError: if `backbone` is no model, or a flag is no bool.
        ValueError: if an argument is out of its range or contradicts the backbone.

    Departures from the paper: none in the equations. In training, each pass draws
    dropout masks of its own and updates the statistics of a batch norm, except below
    the first emphasized output, which is computed once.

    Reference:
        Li et al., Learning with Rethinking, 2017, section 3.

    Example:
        >>> model = kfeedback.LRNet("lenet", timesteps=3, return_sequences=True)
        >>> model.output_shape
        (None, 3, 10)
    """
    timesteps = checks.integer("timesteps", timesteps)
    checks.boolean("return_sequences", return_sequences)
    initializer = check_initializer("feedback_initializer", feedback_initializer)
    model, head = network.model, network.head
    sites = _emphasis_sites(model, head, emphasis_layers)
    network.open()
    name_of = network.name_of
    emphasize = {
        site: _Emphasizer(
            site, channels, with_seed_offset(initializer, number), name_of
        )
        for number, (site, channels) in enumerate(sites.items())
    }
    to_posterior = keras.layers.Softmax(dtype="float32", name=name_of("posterior"))
    memo, edits, outputs = {}, {}, []
    for timestep in range(1, timesteps + 1):
        # One run a timestep: the last one without the top needs no classifier.
        wanted = [network.wanted(), *model.outputs][: 1 if timestep == timesteps else 2]
        results = graph.rerun(model, network.image, edits, outputs=wanted, memo=memo)
        outputs.append(results[0])
        if timestep < timesteps:
            prediction = results[-1]
            posterior = to_posterior(prediction) if head.is_logits else prediction
            edits = {site: emphasize[site].edit(posterior) for site in sites}
    return network.finish(outputs, return_sequences)


class _Emphasizer:
    """The feedback and the emphasis layer of one site, for all timesteps."""

    def __init__(self, site, channels, initializer, name_of):
        self.feedback = Feedback(
            channels,
            kernel_initializer=initializer,
            name=name_of(f"{site.name}_feedback"),
        )
        self.emphasis = Emphasis(
            data_format=_data_format(site) or "channels_last",
            dtype=site.dtype_policy,
            name=name_of(f"{site.name}_emphasis"),
        )

    def edit(self, posterior):
        vector = self.feedback(posterior)
        return lambda features: self.emphasis(features, vector)


def _emphasis_sites(model, head, emphasis_layers):
    """Dict from each layer to emphasize to its number of channels."""
    before_head = graph.nodes(model.inputs, head.inputs)
    if emphasis_layers is None:
        layers = _default_sites(model, before_head)
        if not layers:
            raise ValueError(
                f"emphasis_layers must name layers of '{model.name}', got None, and it "
                "has no convolution with a kernel larger than 1 for a default."
            )
    else:
        layers = graph.get_layers(model, emphasis_layers, "emphasis_layers")
        if any(_data_format(layer) is None for layer in layers):
            graph.check_channels_last(model, "backbone")
    sites = {}
    for layer in layers:
        outputs = [n.outputs for n in before_head if n.operation is layer]
        axis = 1 if _data_format(layer) == "channels_first" else 3
        fit = all(len(one) == 1 and len(one[0].shape) == 4 for one in outputs)
        channels = {one[0].shape[axis] for one in outputs} if fit else set()
        if len(channels) != 1 or None in channels:
            raise ValueError(
                "emphasis_layers must be layers with an output (B, H, W, C), of one C "
                f"at each of its calls, before the head of '{model.name}', got "
                f"{getattr(layer, 'name', layer)!r}, which is none."
            )
        sites[layer] = channels.pop()
    return sites


def _data_format(layer):
    """Where a layer's output has its channels, `None` if the layer does not say it."""
    if isinstance(layer, keras.layers.BatchNormalization):
        return "channels_first" if layer.axis in (1, -3) else "channels_last"
    return getattr(layer, "data_format", None)


def _default_sites(model, before_head):
    layers = list(dict.fromkeys(node.operation for node in before_head))
    recurrent = [x for x in layers if isinstance(x, RecurrentConv2D)]
    if recurrent:
        return recurrent
    sites = []
    for layer in layers:
        if isinstance(layer, _CONVOLUTIONS) and max(layer.kernel_size) > 1:
            outputs = {id(t) for t in graph.layer_outputs(model, layer)}
            followers = [
                node.operation
                for node in before_head
                if any(id(t) in outputs for t in node.input_tensors)
            ]
            norms = [
                f for f in followers if isinstance(f, keras.layers.BatchNormalization)
            ]
            alone = len(followers) == 1 and len(norms) == 1
            sites.append(norms[0] if alone else layer)
    return sites
