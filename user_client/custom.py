"""Your own parts: `module:Class` in a scenario becomes an instance."""

import pkgutil
from typing import Any

from user_client.config import Custom


def build_custom(config: Custom, role: str, *given: Any) -> Any:
    """`module:Class(*given, **args)`. role: what it is to be, for messages.

    Raises ValueError, one line, if there is no such class or its constructor fails.
    """
    try:
        found = pkgutil.resolve_name(config.kind)
    except (ImportError, AttributeError) as error:
        reason = "its folder must be on PYTHONPATH or the current one"
        raise ValueError(f"{role} {config.kind}: {error}; {reason}") from error
    try:
        return found(*given, **config.args)
    except Exception as error:
        raise ValueError(f"{role} {config.kind}: {type(error).__name__}: {error}") from error
