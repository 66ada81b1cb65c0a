"""`equiran bench`, imported when somebody asks for a benchmark: whoever runs a scenario does not wait for them."""

from functools import cached_property
from typing import Any

from typer.core import TyperGroup
from typer.main import get_group

from sim.computing import computing


class BenchGroup(TyperGroup):
    """The commands of `sim.bench.commands`."""

    @cached_property
    def _group(self) -> TyperGroup:
        with computing():
            from sim.bench.commands import app
        return get_group(app)

    def list_commands(self, ctx: Any) -> list[str]:
        """Their names, in order."""
        return self._group.list_commands(ctx)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """One of them, or None."""
        return self._group.get_command(ctx, cmd_name)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The one that is asked for. Raises UsageError, which names the nearest."""
        return self._group.resolve_command(ctx, args)
