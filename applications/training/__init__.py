"""Training that survives interruptions."""
