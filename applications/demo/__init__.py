"""Shows the whole way on a laptop."""
