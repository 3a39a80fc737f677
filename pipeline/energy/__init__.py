"""What inference costs, beside the ANN."""
