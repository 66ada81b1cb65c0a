"""Benchmarks, each beside its own floor in the same run."""

import typer

app = typer.Typer(no_args_is_help=True, help="Benchmarks, each beside its own floor in the same run.")
__all__ = ["app"]
