"""What all saliency methods are: objects with a name, arguments, and maps to give."""

import abc
import inspect

from keras import ops

from kfeedback.explain.network import Network
from kfeedback.registry import Registry

_METHODS = Registry("kfeedback.explain.methods")


class Method(abc.ABC):
    """A saliency method: from an image and a class to a map of what speaks for it.

    A new one is a file in `kfeedback/explain/methods`:

        @register("my_method")
        class MyMethod(Method):
            def __init__(self, power=1.0):
                self.power = power

            def maps(self, network, images, targets, features):
                return network.input_map(images, targets) ** self.power

    Its arguments are its attributes of the same names.

    Attributes:
        name: the string that stands for the method with its defaults.
        energy: the share of a map's energy that a box holds where none is given: 0.95,
            as in "Look and think twice", unless a method says another.
    """

    name = None
    energy = 0.95

    @abc.abstractmethod
    def maps(self, network, images, targets, features):
        """One map an image.

        Args:
            network: what `network` gave.
            images: float32 `(B, H, W, C)`, as the model takes them.
            targets: int32 `(B,)`.
            features: list of tensors `(B, H, W, C)`, the outputs of `network.sites` for
                these images; empty without gates.

        Returns:
            float32 `(B, H, W)`, values ≥ 0.
        """

    def network(self, model):
        """A model as the method calls it: by default without gates.

        Args:
            model: a functional `keras.Model` that classifies.
        """
        return Network(model, gated=False)

    def explain(self, network, images, targets=None, top=1):
        """Classifies images and maps what speaks for classes, in `keras.ops`.

        Args:
            network: what `network` gave.
            images: float32 `(B, H, W, C)`, as the model takes them.
            targets: int32 `(B, K)`, or `None` for the best `top` classes.
            top: int, then the K.

        Returns:
            dict of tensors: `posterior` `(B, classes)`, `targets` and `scores`
            `(B, K)`, the classes and their posteriors, `maps` `(B, K, H, W)`.
        """
        scores, features = network.first_pass(images)
        posterior = network.posterior(scores)
        if targets is None:
            scores, targets = ops.top_k(posterior, top)
            targets = ops.cast(targets, "int32")
        else:
            scores = ops.take_along_axis(posterior, targets, axis=-1)
        count = targets.shape[1]
        maps = self.maps(
            network,
            _repeat(images, count),
            ops.reshape(targets, (-1,)),
            [_repeat(x, count) for x in features],
        )
        maps = ops.reshape(maps, (-1, count, *ops.shape(images)[1:3]))
        found = {"posterior": posterior, "targets": targets, "scores": scores}
        return found | {"maps": maps}

    def __repr__(self):
        arguments = ", ".join(f"{k}={v!r}" for k, v in self.get_config().items())
        return f"{type(self).__name__}({arguments})"

    def get_config(self):
        """The arguments, a dict; `get_method(name, **arguments)` gives the same."""
        arguments = inspect.signature(type(self)).parameters
        return {name: getattr(self, name) for name in arguments}


def register(name):
    """A decorator for a method's class: from now on the string stands for it.

    Args:
        name: the string, which must be free.
    """

    def add(cls):
        cls.name = name
        return _METHODS.add(name, cls)

    return add


def list_methods():
    """The names of all methods, sorted.

    Example:
        >>> "feedback" in list_methods()
        True
    """
    return sorted(_METHODS.entries())


def get_method(identifier, **arguments):
    """A method from what stands for it.

    Args:
        identifier: a `Method`, or the name of one.
        arguments: those of the named method, instead of its defaults.

    Returns:
        the `Method`.

    Raises:
        TypeError: if the method has no such argument, or is an object already.
        ValueError: if there is none of that name.

    Example:

        method = explain.get_method("feedback", iterations=20)
    """
    if isinstance(identifier, type) and issubclass(identifier, Method):
        raise TypeError(
            f"method must be an object or a name, got the class {identifier.__name__}; "
            f"{identifier.__name__}() is an object."
        )
    if not isinstance(identifier, Method):
        return _METHODS.get(identifier, "method")(**arguments)
    if arguments:
        raise TypeError(
            "arguments must be given to a method's name, not to an object, got "
            f"{', '.join(arguments)}."
        )
    return identifier


def _repeat(x, count):
    return x if count == 1 else ops.repeat(x, count, axis=0)


def fixed_shape(images):
    """`(H, W, C)` of images; raises a ValueError where one is not known."""
    shape = tuple(images.shape[1:])
    if None in shape:
        raise ValueError(f"images must have a fixed size, got {(None, *shape)}.")
    return shape
