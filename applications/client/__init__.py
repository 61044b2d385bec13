"""Asks TF Serving what is on images."""
