"""What one does with the models: apps run as `python -m applications.<name>`."""
