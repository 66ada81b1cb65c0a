"""How a run ended, as the command says it."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from sim.caller import Result, Watcher
from sim.console import Interrupts, Screen, Stopped, say, say_json, say_table
from sim.served import go_on

if TYPE_CHECKING:
    from sim.power_recorder import PowerResult

_MANY = 0.5
"""Share of utilities out of range that is worth a note; far more than the 3 to 15 % of a run that learns."""


def ran(go: Callable[[Watcher], Result], *, as_json: bool, quiet: bool) -> None:
    """A run with slots under the eyes of whoever called it. Raises typer.Exit when it was interrupted."""
    screen = Screen(quiet)
    with Interrupts().caught() as interrupts:
        try:
            with screen.watching(interrupts) as watcher:
                result = go(watcher)
        except Stopped as error:
            screen.note("stopped before the run began")
            raise typer.Exit(interrupts.exit_code) from error
        warn(result, screen)
        tell(result, as_json=as_json)
        if result.status == "stopped" and interrupts.asked():
            raise typer.Exit(interrupts.exit_code)


def warn(result: Result, screen: Screen) -> None:
    """Notes what the numbers do not show: users left out of slots, utilities that the dual box was not made for."""
    for one in (result, *result.compared):
        for user, utility in one.summary["utility_mean"].items():
            if utility is None and one.summary["rounds"] and one.summary["fairness_mean"] is None:
                screen.note(f"note: {one.name}: user {user!r} was never heard in time, so fairness is not defined")
        if rejected := one.summary["rejected"]:
            screen.note(
                f"note: {one.name}: {rejected} slots of users were rejected; {one.folder}/events.jsonl names them"
            )
        share = one.summary["out_of_range_share"]
        if share is not None and share > _MANY:
            known = "below u_min are many early in training"
            screen.note(f"note: {one.name}: {share:.0%} of the utilities were outside [u_min, u_max]; {known}")


def tell(result: Result, *, as_json: bool) -> None:
    """The table of a run and those compared with it, or one JSON object."""
    if as_json:
        say_json(_as_dict(result))
        return
    say_table([_row(one) for one in (result, *result.compared)], f"{result.name}: {_standing(result)}")
    for one in (result, *result.compared):
        for task in one.summary["server_tasks"]:
            say(_described(task, one.folder))
    if result.status == "stopped":
        say(f"go on with: {go_on(result.folder)}")
    say(str(result.folder))


def tell_power(result: "PowerResult", *, as_json: bool) -> None:
    """The same for a power trainer."""
    told = {"name": result.name, "dir": str(result.folder), "status": result.status, "digest": result.digest}
    if as_json:
        say_json({**told, "steps": result.steps, **(result.power or {})})
        return
    if result.power is None:
        say(f"{result.name}: {result.status} after {result.steps} steps; go on with: equiran resume {result.folder}")
    else:
        say_table([_power_row(task) for task in result.power["tasks"]], f"{result.name}: {result.status}")
    say(str(result.folder))


def _as_dict(result: Result) -> dict[str, Any]:
    content = {"name": result.name, "dir": str(result.folder), "status": result.status, "digest": result.digest}
    compared = {"compare": [_as_dict(other) for other in result.compared]} if result.compared else {}
    return {**result.summary, **content, **compared}


def _power_row(task: dict[str, Any]) -> dict[str, Any]:
    return {
        "task": f"{task['problem']}/{task['n']}",
        "mean gap": task["gap_mean"],
        "p99": task["gap_p99"],
        "rate": task["rate"],
        "% of opt.": task["percent_of_optimum"],
        "violation": task["violation_mean"],
        "max": task["violation_max"],
    }


def _described(task: dict[str, Any], folder: Path) -> str:
    """An entry of summary.json's `server_tasks` in one line."""
    policy = folder / "policy.safetensors"
    taken = "?" if task["steps_taken"] is None else task["steps_taken"]
    kind = "untrained policy" if taken == 0 else "policy"
    where = f"{kind} in {policy}" if policy.exists() else "no policy"
    return f"{task['kind']}: {task['status']}, {taken} of {task['steps']} steps, {where}"


def _standing(result: Result) -> str:
    """The status; of a stopped run how far it came: the last of those that began."""
    last = (result, *result.compared)[-1]
    if result.status != "stopped":
        return result.status
    which = "" if last is result else f"{last.name} "
    return f"{which}stopped after {last.summary['rounds']} of {last.summary['rounds_planned']} rounds"


def _row(result: Result) -> dict[str, Any]:
    """With a radio: virtual seconds, and slots that users missed, in place of what the machine took."""
    summary = result.summary
    on_air = summary["virtual_seconds"] is not None
    sum_w = summary["sum_w_mean"]
    own = {"sum |w|": sum_w, "virtual s": summary["virtual_seconds"], "missed": summary["deadline_misses"]}
    here = {"Jain": summary["jain"], "sum |w|": sum_w, "slots/s": summary["slots_per_second"]}
    return {
        "run": result.name,
        "fairness": summary["fairness_mean"],
        "val. fairness": summary["val_fairness_mean"],
        "worst u": summary["worst_utility"],
        **(own if on_air else here),
        "digest": (result.digest or "-")[:8],
    }
