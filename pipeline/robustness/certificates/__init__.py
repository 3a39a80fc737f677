"""Certificates: exact and statistical."""
