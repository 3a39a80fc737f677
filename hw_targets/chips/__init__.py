"""Chips: limits, rules, and where a network goes."""
