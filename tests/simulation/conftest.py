"""`--seed 1234`: that simulated run alone."""

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--seed", type=int, default=None, help="of one simulated run")
