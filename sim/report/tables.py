"""What the page says in numbers; every one is in the records or a sum or mean of them."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from sim.report.columns import Floats
from sim.report.read import Run

FEW_USERS = 8
"""Up to this many users each is shown; above, the five worst and the five best."""
AIR = ("up_seconds", "down_seconds", "up_joules", "down_joules", "edge_flops")
"""What a radio's bill has of each user."""
_MEANS = ("utility", "loss", "weight", "val_loss", "val_accuracy")


@dataclass(frozen=True)
class Row:
    """One run in one line; None where the records do not say. Bytes are totals of slot messages, times seconds.

    capped: slots in which the scenario's gradient cap was used; None without a cap. virtual_seconds: on the radio's
    clock. missed: slots of users beyond the deadline; None without one. leaks: of each user by measure, empty where
    nothing was measured.
    """

    run: str
    dir: str
    status: str
    seed: int | None
    transport: str
    rounds: int
    slots: int | None
    users: int
    fairness: float | None
    val_fairness: float | None
    utility: dict[str, float | None]
    mean_utility: float | None
    worst_user: str | None
    worst_utility: float | None
    jain: float | None
    price_of_fairness: float | None
    sum_w: float | None
    regret: float | None
    capped: float | None
    bytes: dict[str, dict[str, int]]
    virtual_seconds: float | None
    missed: float | None
    leaks: dict[str, dict[str, float | None]]
    wall_seconds: float | None
    slots_per_second: float | None
    digest: str | None

    @property
    def all_bytes(self) -> int | None:
        """Of all users, up and down."""
        return sum(each["up"] + each["down"] for each in self.bytes.values()) if self.bytes else None


@dataclass(frozen=True)
class UserRow:
    """One user of one run: means over rounds, last validation, totals over slots; None where not recorded.

    user_seconds: from outputs to feedback. With a radio: seconds and joules of its messages on the air, and operations
    at the edge.
    """

    run: int
    user: str
    utility: float | None
    loss: float | None
    weight: float | None
    val_loss: float | None
    val_accuracy: float | None
    up: int | None
    down: int | None
    applied: float | None
    not_applied: float | None
    out_of_range: float | None
    user_seconds: float | None
    up_seconds: float | None
    down_seconds: float | None
    up_joules: float | None
    down_joules: float | None
    edge_flops: float | None


def row(run: Run) -> Row:
    """The summary's numbers where the run wrote one, else the same sums over the rounds there are so far."""
    utility = utilities(run)
    known = {user: value for user, value in utility.items() if value is not None}
    worst = min(known, key=lambda user: known[user], default=None)
    summary, manifest = run.summary, run.manifest
    return Row(
        run=run.label,
        dir=str(run.folder),
        status=str(manifest.get("status", "unknown")),
        seed=manifest.get("seed"),
        transport=str(manifest.get("transport", "unknown")),
        rounds=len(run.rounds.numbers),
        slots=run.scenario.get("slots"),
        users=len(run.rounds.users),
        fairness=_told(summary.get("fairness_mean"), mean(run.rounds.shared("fairness"))),
        val_fairness=mean(run.rounds.shared("val_fairness")),
        utility=utility,
        mean_utility=mean(np.array(list(known.values()))),
        worst_user=summary.get("worst_user", worst),
        worst_utility=_told(summary.get("worst_utility"), None if worst is None else known[worst]),
        jain=_told(summary.get("jain"), _jain(list(known.values()))),
        price_of_fairness=_told(summary.get("price_of_fairness"), None),
        sum_w=mean(run.rounds.shared("sum_w")),
        regret=_told(summary.get("regret_mean"), mean(run.rounds.shared("regret"))),
        capped=_capped(run),
        bytes=user_bytes(run),
        virtual_seconds=_told(summary.get("virtual_seconds"), None),
        missed=summary.get("deadline_misses") if run.scenario.get("deadline") else None,
        leaks=summary.get("leaks") or {},
        wall_seconds=_told(summary.get("wall_seconds"), None),
        slots_per_second=_told(summary.get("slots_per_second"), None),
        digest=summary.get("digest") or manifest.get("digest"),
    )


def utilities(run: Run) -> dict[str, float | None]:
    """Each user's mean utility over the run, in user order."""
    told = run.summary.get("utility_mean")
    if isinstance(told, dict):
        return {user: _told(value, None) for user, value in told.items()}
    return dict(zip(run.rounds.users, _column_means(run, "mean_utility"), strict=True))


def user_bytes(run: Run) -> dict[str, dict[str, int]]:
    """{user: {up, down}}; empty where neither the summary nor the slots say."""
    told = run.summary.get("bytes")
    if isinstance(told, dict):
        return {user: {"up": round(value["up"]), "down": round(value["down"])} for user, value in told.items()}
    if run.slots is None or run.slots.bytes_up is None or run.slots.bytes_down is None:
        return {}
    pairs = zip(run.rounds.users, run.slots.bytes_up, run.slots.bytes_down, strict=True)
    return {user: {"up": round(up), "down": round(down)} for user, up, down in pairs}


def user_rows(run: Run, index: int) -> list[UserRow]:
    """Every user of a run, in user order."""
    utility, sizes, bill = utilities(run), user_bytes(run), run.summary.get("bill") or {}
    loss, weight = _column_means(run, "mean_loss"), _column_means(run, "w_mean")
    val_loss, accuracy = _last(run, "val_loss"), _last(run, "val_accuracy")
    rows = []
    for k, user in enumerate(run.rounds.users):
        size = sizes.get(user, {})
        air = [_told(bill.get(user, {}).get(name), None) for name in AIR]
        rows.append(
            UserRow(index, user, utility.get(user), loss[k], weight[k], val_loss[k], accuracy[k],
                    size.get("up"), size.get("down"), *_answers(run, k), *air)
        )  # fmt: skip
    return rows


def extremes(rows: Sequence[UserRow]) -> list[UserRow]:
    """All rows if they are few; else the five lowest and the five highest mean utilities, lowest first."""
    if len(rows) <= FEW_USERS:
        return list(rows)
    ranked = sorted(rows, key=lambda row: np.inf if row.utility is None else row.utility)
    return ranked[:5] + ranked[-5:]


def together(rows: Sequence[UserRow]) -> UserRow:
    """All users of a run in one row: means of the measures, totals of everything else."""
    told: dict[str, Any] = {}
    for name in (field.name for field in fields(UserRow) if field.name not in ("run", "user")):
        known = [value for row in rows if (value := getattr(row, name)) is not None]
        told[name] = (mean(np.array(known)) if name in _MEANS else sum(known)) if known else None
    return UserRow(run=rows[0].run, user="all users", **told)


def mean(values: Floats | None) -> float | None:
    """Mean of the finite values; None if there are none."""
    finite = values[np.isfinite(values)] if values is not None else np.zeros(0)
    return float(finite.mean()) if len(finite) else None


def _answers(run: Run, user: int) -> tuple[float | None, float | None, float | None, float | None]:
    """Slots of this user: applied, not applied, utility out of range; and its seconds to answer."""
    if run.slots is None:
        return None, None, None, None
    counts = {status: float(by_user[user]) for status, by_user in run.slots.statuses.items()}
    outside, busy = run.slots.out_of_range, run.slots.user_seconds
    applied = counts.pop("applied", 0.0)
    return (
        applied,
        sum(counts.values()),
        None if outside is None else float(outside[user]),
        None if busy is None else float(busy[user]),
    )


def _capped(run: Run) -> float | None:
    primal = (run.scenario.get("edge") or {}).get("primal")
    counts = run.rounds.shared("capped")
    if not isinstance(primal, dict) or primal.get("cap") is None or counts is None:
        return None
    return float(np.nansum(counts))


def _told(value: Any, otherwise: float | None) -> float | None:
    """A number from a JSON file if it is one and finite."""
    if isinstance(value, int | float) and not isinstance(value, bool) and np.isfinite(value):
        return float(value)
    return otherwise


def _jain(values: list[float]) -> float | None:
    """Jain's index (sum u)^2 / (K sum u^2)."""
    u = np.array(values)
    return float(u.sum() ** 2 / (len(u) * (u**2).sum())) if len(u) and (u != 0).any() else None


def _column_means(run: Run, name: str) -> list[float | None]:
    found = run.rounds.per_user(name)
    if found is None:
        return [None] * len(run.rounds.users)
    return [mean(found[:, k]) for k in range(found.shape[1])]


def _last(run: Run, name: str) -> list[float | None]:
    """The last round's finite value of each user."""
    found = run.rounds.per_user(name)
    if found is None:
        return [None] * len(run.rounds.users)
    return [_last_finite(found[:, k]) for k in range(found.shape[1])]


def _last_finite(values: Floats) -> float | None:
    finite = values[np.isfinite(values)]
    return float(finite[-1]) if len(finite) else None
