"""Runs from Python, in a script or a notebook: `import sim; run = sim.run("scenario.yaml", {"rounds": 12})`."""

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from signal import SIGINT
from threading import Event, Thread
from typing import TYPE_CHECKING, Any

from sim.caller import RunError as RunError
from sim.console import Interrupts, Screen
from sim.options import run_folder
from sim.report.build import build
from sim.report.figures import charts
from sim.report.files import read_table
from sim.report.read import read_runs
from sim.report.records import Json, read_events, read_json
from sim.report.style import picture, style
from sim.runner import run as run_loaded
from sim.scenario import Loaded, load

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

_LOOK = 0.1
"""Seconds between two looks at whether a run is over, or somebody has interrupted it."""


@dataclass(frozen=True)
class Picture:
    """A figure that a notebook shows by itself."""

    figure: "Figure"

    def save(self, path: str | Path) -> None:
        """Writes it; the name's ending says how: .png, .pdf, .svg."""
        self.figure.savefig(path, dpi=160)

    def _repr_png_(self) -> bytes:
        out = io.BytesIO()
        self.figure.savefig(out, format="png", dpi=110)
        return out.getvalue()


class Run:
    """A run directory, of a run that is over or goes on. Frames are pandas', and read anew each time.

    Raises UnreadableRun where it is none.
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        read_json(self.folder / "manifest.json")

    def __repr__(self) -> str:
        return f"Run({str(self.folder)!r}, {self.status}, digest {self.digest})"

    @property
    def status(self) -> str:
        """running, done, failed or stopped."""
        return str(self._manifest["status"])

    @property
    def digest(self) -> str | None:
        """Of a run that is done."""
        found: str | None = self._manifest["digest"]
        return found

    @property
    def summary(self) -> Json:
        """summary.json; empty while the run goes on."""
        return {} if self.status == "running" else read_json(self.folder / "summary.json")

    @property
    def slots(self) -> "DataFrame":
        """A row for each round, slot and user: loss, utility, weight, bytes, seconds, status."""
        return self._frame("slots")

    @property
    def rounds(self) -> "DataFrame":
        """A row for each round and user: means, validation, fairness, regret."""
        return self._frame("rounds")

    @property
    def events(self) -> "DataFrame":
        """What happened to whom."""
        from pandas import DataFrame

        return DataFrame([*read_events(self.folder / "events.jsonl")[0]])

    @property
    def compared(self) -> "dict[str, Run]":
        """Runs that stand beside it, by name."""
        return {path.parent.name: Run(path.parent) for path in sorted(self.folder.glob("*/manifest.json"))}

    def plot(self, what: str = "fairness", *others: "Run") -> Picture:
        """A chart of the report, of this run, those compared with it, and others. Raises ValueError, naming them."""
        made, _ = charts(read_runs([self.folder, *(other.folder for other in others)]))
        known = {chart.key: chart for chart in made}
        if what not in known:
            raise ValueError(f"no chart {what!r} of {self.folder}; there are {', '.join(known)}")
        with style():
            return Picture(picture(known[what]))

    def report(self, *others: "Run", out: str | Path | None = None) -> Path:
        """Writes report.html into `out`, or the run's directory, and says where it is."""
        folders = [self.folder, *(other.folder for other in others)]
        return build(folders, out=None if out is None else Path(out)).html

    @property
    def _manifest(self) -> Json:
        return read_json(self.folder / "manifest.json")

    def _frame(self, name: str) -> "DataFrame":
        table, _ = read_table(self.folder, name, live=self.status == "running", needed=True)
        frame: DataFrame = table.to_pandas()
        return frame


def run(
    scenario: str | Path,
    changes: Mapping[str, Any] | None = None,
    *,
    out: str | Path | None = None,
    transport: str | None = None,
    address: str | None = None,
    seed: int | None = None,
    stop_after: int | None = None,
    quiet: bool = False,
) -> Run:
    """What `equiran run` does. changes: values by path, such as {"edge.aggregator.alpha": 2.0}.

    An interrupt stops it between two slots, its state saved. Raises ScenarioErrors, BadScenario, RunError.
    """
    sets = [f"{path}={json.dumps(value)}" for path, value in (changes or {}).items()]
    loaded = load(Path(scenario), sets, seed, transport)
    folder = Path(out) if out else run_folder(loaded.scenario.name)
    _Going(loaded, folder, address, stop_after, quiet=quiet).to_its_end()
    return Run(folder)


class _Going:
    """A run on a thread of its own: a notebook has an event loop already, and interrupts come to the main thread."""

    def __init__(self, loaded: Loaded, folder: Path, address: str | None, stop_after: int | None, *, quiet: bool):
        self._what = loaded, folder, address
        self._stop_after, self._quiet = stop_after, quiet
        self._interrupts = Interrupts()
        self._failure: BaseException | None = None
        self._over = Event()

    def to_its_end(self) -> None:
        thread = Thread(target=self._run, name="run")
        thread.start()
        while not self._over.is_set():
            try:
                self._over.wait(_LOOK)
            except KeyboardInterrupt:
                self._interrupts.number = SIGINT
        thread.join()
        if self._failure is not None:
            raise self._failure

    def _run(self) -> None:
        try:
            with Screen(self._quiet).watching(self._interrupts) as watcher:
                run_loaded(*self._what, watcher, self._stop_after)
        except BaseException as error:
            self._failure = error
        finally:
            self._over.set()
