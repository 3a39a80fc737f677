"""Attacks, and the harness that trusts none."""
