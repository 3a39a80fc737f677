"""`python -m spikeship.benchmarks.cifar10`, see `run`."""

import typer

from .run import main

typer.run(main)
