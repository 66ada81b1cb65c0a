"""What ends a command early: one line, or one line per error of a scenario, and the contract's exit code."""

from collections.abc import Iterator
from contextlib import contextmanager

import typer

from sim.caller import BadScenario, RunError
from sim.console import fail
from sim.download import FetchError
from sim.report.files import UnreadableRun
from sim.scenario import ScenarioErrors

FAILED, BAD_INPUT = 1, 2


@contextmanager
def errors() -> Iterator[None]:
    """Raises typer.Exit: 2 for bad input, 1 for what failed."""
    try:
        yield
    except (ScenarioErrors, BadScenario, UnreadableRun) as error:
        fail(str(error))
        raise typer.Exit(BAD_INPUT) from error
    except (RunError, FetchError, OSError) as error:
        fail(str(error))
        raise typer.Exit(FAILED) from error
