"""`served.json`: what a run's directory holds beside the rest where its users were processes of their own."""

from pathlib import Path

from sim.json_files import write_json
from sim.report.records import read_json

_FILE = "served.json"


def write_served(folder: Path, run: str, address: str) -> None:
    """The run was given this id, and users came to this address."""
    write_json(folder / _FILE, {"run": run, "address": address})


def was_served(folder: Path) -> bool:
    """Whether `equiran serve` wrote there."""
    return (folder / _FILE).is_file()


def served_run(folder: Path) -> str:
    """The id of the run. Raises UnreadableRun."""
    return str(read_json(folder / _FILE)["run"])


def go_on(folder: Path) -> str:
    """The command that goes on with a stopped run."""
    return f"equiran {'serve --resume' if was_served(folder) else 'resume'} {folder}"
