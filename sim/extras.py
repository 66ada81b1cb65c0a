"""Packages that only some commands need."""

import importlib.util

from sim.runner import BadScenario


def require_package(option: str, module: str, extra: str) -> None:
    """Raises BadScenario where the module that an option needs is not installed, with the command that installs it."""
    if importlib.util.find_spec(module) is None:
        raise BadScenario(f"{option}: {module} is not installed: python -m pip install 'equiran[{extra}]'")
