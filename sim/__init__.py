"""The referee: the only package that sees both sides. In a notebook: `sim.run`, `sim.Run`, `sim.RunError`."""

from typing import TYPE_CHECKING, Any

import protos  # noqa: F401  before gRPC, whose environment it sets

if TYPE_CHECKING:
    from sim.notebook import Run, RunError, run

__all__ = ["Run", "RunError", "run"]


def __getattr__(name: str) -> Any:
    """What notebooks use is imported when it is used: commands start without it."""
    if name not in __all__:
        raise AttributeError(f"module 'sim' has no attribute {name!r}")
    from sim import notebook

    return getattr(notebook, name)
