"""What programs share."""
