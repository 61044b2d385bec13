"""Feedback vision networks for Keras 3: networks that look more than once."""

from kfeedback._version import __version__

__all__ = ["__version__"]
