"""Files that an earlier version wrote, and what its networks gave."""
