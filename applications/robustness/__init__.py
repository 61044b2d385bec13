"""Measures how models degrade on bad images."""
