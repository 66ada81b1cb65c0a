"""The charts of a report, from runs to panels; a chart whose columns are not recorded is left out."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import numpy as np

from sim.report.columns import Floats, Ints
from sim.report.lines import Dots, Line, band_panel, dot_panel, line_panel, window
from sim.report.read import Run
from sim.report.style import MUTED, Chart, Panel, run_colour, run_dash, run_marker
from sim.report.tables import FEW_USERS, mean, user_bytes, utilities
from sim.report.words import number

Numbered = Sequence[tuple[int, Run]]
Mark = tuple[float, str]
Sizes = tuple[int, Run, dict[str, dict[str, int]]]


def charts(runs: Sequence[Run]) -> tuple[list[Chart], list[str]]:
    """The charts these runs can fill, and one line for each that they cannot."""
    numbered = [(index, run) for index, run in enumerate(runs) if len(run.rounds.numbers)]
    made, missing = [], []
    for title, make in _CHARTS:
        chart = make(numbered)
        if chart is not None:
            made.append(chart)
        elif title != _RADIO or any(run.scenario.get("radio") for _, run in numbered):
            missing.append(title)
    return made, missing


def _fairness(runs: Numbered) -> Chart | None:
    panels = []
    for column, of_what in (("fairness", "mean utilities"), ("val_fairness", "validation utilities")):
        panels += _shared_panels(runs, column, f"Fairness of {of_what}, per round")
        panels += _shared_panels(runs, column, f"Fairness of {of_what}, accumulated", accumulate=True)
    caption = "Alpha-fair value of the users' utilities: of each round, and summed up over the rounds so far."
    return _chart("fairness", "Fairness", _with_means(caption, runs, "fairness"), panels, runs)


def _losses(runs: Numbered) -> Chart | None:
    caption = "Mean training loss of each round, at the models served in its slots."
    return _chart("losses", "Losses", caption, _user_panels(runs, "mean_loss", "loss"), runs)


def _utilities(runs: Numbered) -> Chart | None:
    caption = "Mean utility of each round, l_max − loss."  # noqa: RUF001
    panels = _user_panels(runs, "mean_utility", "utility", marks=_box(runs))
    marks = " Dotted lines, where in view, are the scenario's u_min and u_max." if _box(runs) else ""
    return _chart("utilities", "Utilities", caption + marks, panels, runs)


def _weights(runs: Numbered) -> Chart | None:
    panels = _user_panels(runs, "w_mean", "weight |w|", from_zero=True)
    panels += _shared_panels(runs, "sum_w", "Sum of weights", from_zero=True)
    caption = _with_means("Each user's training weight |w|, mean of a round, and the sum over users.", runs, "sum_w")
    return _chart("weights", "Weights", caption, panels, runs)


def _inside(runs: Numbered) -> Chart | None:
    panels: list[Panel] = []
    sums = [
        _run_line(runs, index, run, np.arange(len(run.slots.sum_w_by_slot)), run.slots.sum_w_by_slot, rough=False)
        for index, run in runs
        if run.slots is not None and run.slots.sum_w_by_slot is not None
    ]
    if sums:
        panels.append(line_panel("Sum of weights by slot", sums, x_label="slot", from_zero=True))
    for user in _users(runs) if _few(runs) else ():
        lines = [
            _run_line(runs, index, run, np.arange(len(y)), y[:, run.rounds.users.index(user)], rough=False)
            for index, run in runs
            if user in run.rounds.users and run.slots is not None and (y := run.slots.loss_by_slot) is not None
        ]
        if lines:
            panels.append(line_panel(f"{user}: loss by slot", lines, x_label="slot", limits=_slot_limits(runs)))
    caption = "The course of a round, slot by slot, mean over all recorded rounds."
    return _chart("inside", "Inside a round", caption, panels, runs)


def _regret(runs: Numbered) -> Chart | None:
    panels = _shared_panels(runs, "regret", "Regret, per round")
    if not panels:
        return None
    means, bounds = _mean_regrets(runs), _bounds(runs)
    log = bool(bounds) and any((line.y > 0).any() for line in means)
    title = "Mean regret so far" + (", and its bound" if bounds else "")
    panels.append(line_panel(title, means + bounds, log=log))
    hidden = sum(int((line.y <= 0).sum()) for line in means) if log else 0
    caption = "Fairness of the oracle's fixed model less that of the models served; it may be negative."
    note = f" The logarithmic axis cannot show {hidden} values at or below zero." if hidden else ""
    return _chart("regret", "Regret", _with_means(caption, runs, "regret") + note, panels, runs)


def _mean_regrets(runs: Numbered) -> list[Line]:
    """R_t of every round t: the mean of the regrets up to it."""
    lines = []
    for index, run in runs:
        regret = run.rounds.shared("regret")
        if regret is not None:
            so_far = np.nancumsum(regret) / np.maximum(1, np.cumsum(np.isfinite(regret)))
            lines.append(_run_line(runs, index, run, run.rounds.numbers, so_far, rough=False))
    if lines and len(runs) == 1:
        lines = [replace(line, label="regret") for line in lines]
    return lines


def _bounds(runs: Numbered) -> list[Line]:
    """Theorem 1's bound, dotted in its run's colour."""
    return [
        Line(f"bound {run.label}" if len(runs) > 1 else "bound", run_colour(index), run.rounds.numbers, bound,
             (0, (1, 1.5)), 1.1, rough=False)
        for index, run in runs
        if (bound := run.rounds.shared("bound")) is not None
    ]  # fmt: skip


def _validation(runs: Numbered) -> Chart | None:
    panels = _user_panels(runs, "val_loss", "validation loss")
    panels += _user_panels(runs, "val_accuracy", "validation accuracy", limits=(-0.02, 1.02))
    caption = "On each round's clean validation set, after its last slot."
    return _chart("validation", "Validation", caption, panels, runs)


def _bytes(runs: Numbered) -> Chart | None:
    sizes = [(index, run, user_bytes(run)) for index, run in runs if user_bytes(run)]
    if not sizes:
        return None
    same = len(sizes) > 1 and all(size == sizes[0][2] for *_, size in sizes)
    panels = [
        _bytes_panel("Bytes up, to the edge", "up", sizes, same=same),
        _bytes_panel("Bytes down, to the user", "down", sizes, same=same),
    ]
    caption = "Serialised slot messages over the whole run." + (" The same in all runs." if same else "")
    return _chart("bytes", "Bytes", caption, panels, runs)


def _bytes_panel(title: str, way: str, sizes: Sequence[Sizes], *, same: bool) -> Panel:
    users = list(dict.fromkeys(user for *_, size in sizes for user in size))
    groups = [
        Dots(
            run.label,
            run_colour(index),
            run_marker(index),
            np.array([size.get(user, {}).get(way, 0) for user in users], np.int64),
        )
        for index, run, size in sizes
    ]
    if same:
        groups = [Dots("", MUTED, "o", groups[0].values)]
    if len(users) <= FEW_USERS:
        return dot_panel(title, users, groups)
    lines = [
        Line(one.label if len(groups) > 1 else "", one.colour, np.arange(len(users)), np.sort(one.values) / 1e6,
             run_dash(index), rough=False)
        for index, one in enumerate(groups)
    ]  # fmt: skip
    return line_panel(f"{title}, MB, users sorted", lines, x_label="users", from_zero=True)


def _shared_panels(
    runs: Numbered, column: str, title: str, *, accumulate: bool = False, from_zero: bool = False
) -> list[Panel]:
    """One panel with a line per run, or none where no run has the column."""
    lines = []
    for index, run in runs:
        y = run.rounds.shared(column)
        if y is not None:
            shown = np.nancumsum(y) if accumulate else y
            lines.append(_run_line(runs, index, run, run.rounds.numbers, shown, rough=not accumulate))
    return [line_panel(title, lines, from_zero=from_zero)] if lines else []


def _user_panels(
    runs: Numbered,
    column: str,
    what: str,
    *,
    from_zero: bool = False,
    limits: tuple[float, float] | None = None,
    marks: Sequence[Mark] = (),
) -> list[Panel]:
    """A panel per user with a line per run; with many users a panel per run with bands over users."""
    found = [(index, run, y) for index, run in runs if (y := run.rounds.per_user(column)) is not None]
    limits = limits or _limits([y for *_, y in found], from_zero=from_zero)
    if not _few(runs):
        return [
            band_panel(f"{run.label}: {what}" if len(runs) > 1 else what.capitalize(), run.rounds.numbers, y,
                       run_colour(index), _named(run), limits=limits)
            for index, run, y in found
        ]  # fmt: skip
    panels = []
    for user in _users(runs):
        lines = [
            _run_line(runs, index, run, run.rounds.numbers, y[:, run.rounds.users.index(user)])
            for index, run, y in found
            if user in run.rounds.users
        ]
        if any(np.isfinite(line.y).any() for line in lines):
            panels.append(line_panel(f"{user}: {what}", lines, limits=limits, marks=marks))
    return panels


def _run_line(runs: Numbered, index: int, run: Run, x: Floats | Ints, y: Floats, *, rough: bool = True) -> Line:
    label = run.label if len(runs) > 1 else ""
    several = len(runs) > 1
    width = 2.4 if several and index == 0 else 1.4
    marker = run_marker(index) if several else ""
    return Line(label, run_colour(index), x, y, run_dash(index), width, rough, marker, index % 5 / 5)


def _named(run: Run) -> list[tuple[str, int]]:
    """The users with the lowest and the highest mean utility."""
    known = [(value, user) for user, value in utilities(run).items() if value is not None]
    if not known:
        return []
    places = {user: place for place, user in enumerate(run.rounds.users)}
    (_, worst), (_, best) = min(known), max(known)
    return [(f"worst {worst}", places[worst]), (f"best {best}", places[best])]


def _limits(found: Iterable[Floats], *, from_zero: bool = False) -> tuple[float, float] | None:
    """One range for all panels of a measure, 5 % wider than the values."""
    values = [y[np.isfinite(y)] for y in found]
    together = np.concatenate(values) if values else np.zeros(0)
    if len(together) == 0:
        return None
    low, high = 0.0 if from_zero else float(together.min()), float(together.max())
    room = 0.05 * (high - low) or 0.05 * max(abs(high), 1e-6)
    return 0.0 if from_zero else low - room, high + room


def _slot_limits(runs: Numbered) -> tuple[float, float] | None:
    slots = [run.slots for _, run in runs if run.slots is not None]
    return _limits([each.loss_by_slot for each in slots if each.loss_by_slot is not None])


def _box(runs: Numbered) -> list[Mark]:
    """u_min and u_max where all runs agree on them."""
    marks = []
    for name in ("u_min", "u_max"):
        told = {run.aggregator.get(name) for _, run in runs}
        marks += [(float(value), name) for value in told if len(told) == 1 and isinstance(value, int | float)]
    return marks


def _users(runs: Numbered) -> list[str]:
    return list(dict.fromkeys(user for _, run in runs for user in run.rounds.users))


def _few(runs: Numbered) -> bool:
    return len(_users(runs)) <= FEW_USERS


def _with_means(caption: str, runs: Numbered, column: str) -> str:
    """The caption with each run's mean of a column over its rounds."""
    told = [(run.label, mean(run.rounds.shared(column))) for _, run in runs]
    parts = [
        f"{label} {number(value)}" if len(runs) > 1 else number(value) for label, value in told if value is not None
    ]
    of_what = "sum of weights" if column == "sum_w" else column
    return f"{caption} Mean {of_what} over rounds: {', '.join(parts)}." if parts else caption


def _chart(key: str, title: str, caption: str, panels: Sequence[Panel], runs: Numbered) -> Chart | None:
    if not panels:
        return None
    widths = {window(len(run.rounds.numbers)) for _, run in runs} - {1}
    smooth = key not in ("bytes", "inside") and widths
    note = f" Lines are centred means over {max(widths)} rounds; each round is drawn faintly." if smooth else ""
    by_user = key in ("losses", "utilities", "weights", "validation") and not _few(runs)
    bands = " Bands: all users, and the middle 80 %." if by_user else ""
    return Chart(key, title, caption + note + bands, tuple(panels))


def _radio(runs: Numbered) -> Chart | None:
    panels = _by_clock(runs, "fairness", "mean utilities") + _by_clock(runs, "val_fairness", "validation utilities")
    panels += _user_panels(runs, "power_mean", "downlink power, W", from_zero=True)
    panels += _user_panels(runs, "air_mean", "s on the air per slot", from_zero=True)
    if any(np.nanmax(found) > 0 for _, run in runs if (found := run.rounds.per_user("late_share")) is not None):
        panels += _user_panels(runs, "late_share", "share of slots late", limits=(-0.02, 1.02))
    caption = "On the virtual clock: when a fairness was reached, and each round's mean power and seconds on the air."
    return _chart("radio", "Radio", caption, panels, runs)


def _by_clock(runs: Numbered, column: str, of_what: str) -> list[Panel]:
    lines = [
        _run_line(runs, index, run, clock, y, rough=False)
        for index, run in runs
        if (clock := run.rounds.shared("virtual_seconds")) is not None and (y := run.rounds.shared(column)) is not None
    ]
    title = f"Fairness of {of_what} by virtual time"
    return [line_panel(title, lines, x_label="virtual s")] if lines else []


_RADIO = "radio"
_CHARTS: tuple[tuple[str, Callable[[Numbered], Chart | None]], ...] = (
    ("fairness", _fairness),
    ("utilities", _utilities),
    ("losses", _losses),
    ("weights", _weights),
    ("the course of a round (slots)", _inside),
    ("validation", _validation),
    ("regret", _regret),
    ("bytes", _bytes),
    (_RADIO, _radio),
)
