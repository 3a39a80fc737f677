"""`python -m spikeship.benchmarks.robustness`, see `run`."""

import typer

from .run import main

typer.run(main)
