"""What a chip holds and does: integer networks, their file format, simulation and costs."""

if __name__ == "hw_targets":
    raise ImportError("`pip install -e .`, then import this folder as spikeship.hw_targets")
