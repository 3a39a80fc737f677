"""From a trained network to a judged one: import, lower, quantize, run, verify, report."""

if __name__ == "pipeline":
    raise ImportError("`pip install -e .`, then import this folder as spikeship.pipeline")
