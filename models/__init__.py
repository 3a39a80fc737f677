"""What is trained, and how: codings, networks, objectives."""

if __name__ == "models":
    raise ImportError("`pip install -e .`, then import this folder as spikeship.models")
