"""Tests of kfeedback."""
