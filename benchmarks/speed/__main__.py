"""`python -m spikeship.benchmarks.speed`, see `run`."""

import typer

from .run import main

typer.run(main)
