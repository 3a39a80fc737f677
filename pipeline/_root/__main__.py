"""`python -m spikeship`: the command line."""

from .pipeline.cli.app import app

app(prog_name="spikeship")
