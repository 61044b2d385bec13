"""Measures where a classifier looks."""
