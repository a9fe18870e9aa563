"""``python -m sylvester``: the command line."""

from .cli import app

app(prog_name="sylvester")
