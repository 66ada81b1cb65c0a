"""Packages that only some commands need."""

import importlib.util
import sys

from sim.caller import BadScenario


def require_package(option: str, module: str, extra: str) -> None:
    """Raises BadScenario where the module that an option needs is not installed, with the command that installs it."""
    if importlib.util.find_spec(module) is None:
        raise BadScenario(f"{option}: {module} is not installed: {sys.executable} -m pip install 'equiran[{extra}]'")
