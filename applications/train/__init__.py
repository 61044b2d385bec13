"""Trains a model."""
