"""Saliency methods, each a class in a file of its own, which registers it."""
