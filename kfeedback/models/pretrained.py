"""Networks by the tag of their published weights."""

from kfeedback import checks
from kfeedback.models import registry
from kfeedback.weights.registry import ENTRIES


def load_pretrained(tag, **arguments):
    """The network that a tag names, with its weights.

    Args:
        tag: one of `kfeedback.list_weights()`.
        **arguments: of the factory, instead of those that the network was trained
            with, such as `return_sequences=True` or `timesteps=3`.

    Returns:
        `keras.Model`. `kfeedback.weights.card(tag)` says what it was trained on, what
        it scores, and which `kfeedback.preprocessing.preprocess_input` it wants.

    Raises:
        ValueError: if there is no such tag, the factory does not take an argument, or
            the weights do not fit the network that it then makes.

    Example:

        network = kfeedback.load_pretrained("lenet_mnist_bg_sample")
    """
    entry = ENTRIES[checks.one_of("tag", tag, tuple(ENTRIES))]
    given = {**entry.about["arguments"], **arguments}
    network = registry.build({"factory": entry.about["factory"], "arguments": given})
    registry.load_weights(network, tag)
    return network
