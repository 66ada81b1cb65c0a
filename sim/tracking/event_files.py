"""A run for TensorBoard: event files in the folder `tensorboard` of its directory."""

from collections.abc import Sequence

from sim.tracking.about import About, Outcome
from sim.tracking.numbers import Told

FOLDER = "tensorboard"
_SUMMARY = "summary"


class EventFiles:
    """Takes the place of event files that are there."""

    def __init__(self, about: About) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._about, folder = about, about.folder / FOLDER
        for earlier in folder.glob("events.out.tfevents.*"):
            earlier.unlink()
        self._writer = SummaryWriter(str(folder))
        self._writer.add_text("scenario", "".join(f"    {line}\n" for line in about.text.splitlines()))

    def tell(self, rounds: Sequence[Told]) -> None:
        """Scalars, on disk when it returns."""
        for told in rounds:
            for name, value in told.values.items():
                self._writer.add_scalar(name, value, told.round)
        self._writer.flush()

    def end(self, outcome: Outcome) -> None:
        """The settings beside what they came to."""
        settings = {**self._about.settings, "status": outcome.status, "digest": str(outcome.digest)}
        totals = {f"{_SUMMARY}/{name}": value for name, value in outcome.totals.items()}
        self._writer.add_hparams(settings, totals, run_name=".")
        self._writer.close()
