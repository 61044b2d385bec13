"""Model factories, one family a file, which enters itself in the registry.

A factory is an attribute of this package: `kfeedback.models.LRNet`.
"""

from kfeedback.models import backbones, registry

__all__ = ["backbones", "registry"]


def __getattr__(name):
    return registry.attribute(__name__, name)


def __dir__():
    return sorted({*globals(), *registry.factories(__name__)})
