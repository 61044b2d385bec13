"""Transfers a trained network to other data."""
