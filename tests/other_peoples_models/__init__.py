"""Models as people build them, through everything but explanations."""
