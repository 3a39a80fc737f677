"""Comparisons with peers and papers; nothing imports this package."""

if __name__ == "benchmarks":
    raise ImportError("`pip install -e .`, then import this folder as spikeship.benchmarks")
