"""Layers, neurons and how they are run: what a `Network` is."""
