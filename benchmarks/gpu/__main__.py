"""`python -m spikeship.benchmarks.gpu`, see `run`."""

import typer

from .run import main

typer.run(main)
