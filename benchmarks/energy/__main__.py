"""`python -m spikeship.benchmarks.energy`, see `run`."""

import typer

from .run import main

typer.run(main)
