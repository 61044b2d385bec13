"""What published weights are called, and where in our networks they belong."""
