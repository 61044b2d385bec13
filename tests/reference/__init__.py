"""The equations of the papers in NumPy and float64, written for reading, not speed."""
