"""The machine that a benchmark ran on."""

import os
import platform
from importlib.metadata import version
from typing import Any

import joblib
import torch


def machine() -> dict[str, Any]:
    """Cores, processor, load average of the last minute, and the versions that matter."""
    return {
        "cores": joblib.cpu_count(),
        "processor": _processor(),
        "load": os.getloadavg()[0],
        "python": platform.python_version(),
        "torch": torch.__version__,
        "grpc": version("grpcio"),
    }


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
