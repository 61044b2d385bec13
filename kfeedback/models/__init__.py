"""Model factories, one family a file, which enters itself in the registry.

A factory is an attribute of this package: `kfeedback.models.LRNet`.
"""

from kfeedback.models import backbones, registry

__all__ = ["backbones", "registry"]


def __getattr__(name):
    # Only factories begin with a capital letter. A module that is not imported yet must
    # not be looked for in the registry, which imports them all.
    factories = registry.factories(__name__) if name[:1].isupper() else {}
    if name not in factories:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return factories[name]


def __dir__():
    return sorted({*globals(), *registry.factories(__name__)})
