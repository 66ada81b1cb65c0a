"""`equiran bench`: what each benchmark is asked and what it prints."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from edge_server.judge import RunFailed
from sim.bench import power as powers
from sim.bench import power_beside as besides
from sim.bench import power_complexity as complexities
from sim.bench import scale as scales
from sim.bench import slot as slots_
from sim.bench import start as starts
from sim.bench import sweep as sweeps
from sim.bench.power_share import PolicyName, policy_share
from sim.bench.power_turns import Effort
from sim.bench.process import WorkerFailed
from sim.console import Screen, fail, say, say_json, say_table
from sim.json_files import write_json
from sim.overrides import USER_CAP
from sim.placement import Hosts
from sim.planning import PartError
from sim.suggest import did_you_mean

app = typer.Typer(no_args_is_help=True)

Json = Annotated[bool, typer.Option("--json", help="one JSON object on stdout, nothing else there")]
Tell = Callable[[dict[str, Any]], None]


def _place(out: Path | None) -> Path | None:
    """The file to be, whose folder there is before anything is measured."""
    try:
        if out is not None:
            out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _refused(f"--out {out}: {error.strerror}") from error
    if out is not None and out.is_dir():
        raise _refused(f"--out {out}: this is a folder, give a file")
    return out


Out = Annotated[
    Path | None, typer.Option("--out", metavar="FILE", callback=_place, help="keep the JSON object in this file, too")
]

_QUICK_ROUNDS = 8
_HOSTS = "auto|per_user|N"
_MOST_HOSTS = 64
_POWER = Effort()
_SLOT = slots_.Load(users=2, batch=25, encoder="lenet", slots=1, hosts="auto")
_COMPLEXITY = Effort(blocks=10, seconds=0.03)


@app.command()
def slot(
    users: Annotated[int, typer.Option(min=1, max=64, help="users, each on a stream of its own")] = 2,
    batch: Annotated[int, typer.Option(min=1, max=1000, help="images per user and slot")] = 25,
    encoder: Annotated[slots_.Encoder, typer.Option(help="the shared model")] = "lenet",
    slots: Annotated[int, typer.Option(min=1, help="slots to measure of each kind")] = 500,
    hosts: Annotated[str, typer.Option(metavar=_HOSTS, help="processes for the users, as in a scenario")] = "auto",
    policy: Annotated[PolicyName | None, typer.Option(help="what a radio with this power policy adds")] = None,
    peer_style: Annotated[
        bool, typer.Option("--peer-style", help="also: an encoder copy per user, and unary calls that each waits for")
    ] = False,
    mtls: Annotated[
        bool, typer.Option("--mtls", help="what TLS with certificates on both sides adds, in turns")
    ] = False,
    as_json: Json = False,
    out: Out = None,
) -> None:
    """Measure a slot over gRPC beside the same maths in one process and a bare echo, turn by turn.

    Example: equiran bench slot --users 8 --batch 25 --encoder lenet
    """
    load = slots_.Load(users, batch, encoder, slots, _hosts(hosts), peer_style, mtls)
    try:
        found = slots_.report(load, slots_.measure(load))
    except WorkerFailed as error:
        fail(str(error))
        raise typer.Exit(1) from error
    if policy is not None:
        found["power"] = policy_share(policy, users, slots_.message_sizes(load), found["wire_ms"])
    _tell(found, _tell_slot, as_json, out)


def _tell(found: dict[str, Any], tell: Tell, as_json: bool, out: Path | None) -> None:
    if out is not None:
        write_json(out, found, in_order=True)
    say_json(found) if as_json else tell(found)


def _hosts(said: str) -> Hosts:
    match said:
        case "auto" | "per_user":
            return said
        case number if number.isdecimal() and int(number) > 0:
            return int(number)
    raise _refused(f"--hosts {said}: give auto, per_user or a number of processes")


def _tell_slot(found: dict[str, Any]) -> None:
    keys = ("users", "hosts", "wire_ms", "monolithic_ms", "echo_ms", "ratio")
    say_table([{key: found[key] for key in keys}], f"a slot: {found['encoder']}, batch {found['batch']}")
    say_table([found["breakdown"]], "of which, over gRPC")
    if power := found.get("power"):
        say_table([power], "a radio beside it: one call of the policy, and everything the radio does in a slot")
    if "peer_ms" in found:
        say_table([_only(found, "peer_ms", "peer_ratio")], "an encoder copy per user")
        low, high = found["peer_ratio_quartiles"]
        say(f"peer_ratio = peer / wire; half of the {found['blocks']} blocks between {low:.2f} and {high:.2f}")
    if "mtls_ms" in found:
        low, high = found["mtls_cost_quartiles"]
        cost = f"{found['mtls_cost']:+.1%}; half of the blocks between {low:+.1%} and {high:+.1%}"
        say(f"with mtls {found['mtls_ms']:.2f} ms, {cost}")
    low, high = found["ratio_quartiles"]
    say(f"ratio = (wire - monolithic) / echo; half of the {found['blocks']} blocks between {low:.2f} and {high:.2f}")
    say(f"machine: {_machine(found)}")


@app.command()
def scale(
    users: Annotated[str, typer.Option(metavar="K,K,..", help="users, a row for each number")] = "2,32,256,1000",
    hosts: Annotated[str, typer.Option(metavar=_HOSTS, help="processes for the users, as in a scenario")] = "auto",
    encoder: Annotated[
        slots_.Encoder, typer.Option(help="linear: kernel regression; else Rainbow over bundled digits")
    ] = "linear",
    aggregator: Annotated[str, typer.Option(metavar="NAME", help="the edge's rule: docs/aggregators.md")] = "owo_fmtl",
    slots: Annotated[int, typer.Option(min=1, help="slots to measure of each kind")] = 50,
    trunk: Annotated[bool, typer.Option("--trunk", help="the users of a host share a stream")] = False,
    as_json: Json = False,
    out: Out = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="no progress")] = False,
) -> None:
    """Measure a slot as users become many, beside a bare echo turn by turn, and the memory of edge and hosts.

    Example: equiran bench scale --users 2,32,256 --encoder lenet --aggregator mgda --slots 10
    """
    rule, note = _aggregator(aggregator), Screen(quiet).note
    loads = [_bearable(scales.Load(count, _hosts(hosts), encoder, rule, slots, trunk)) for count in _counts(users)]
    try:
        found = scales.report([(load, _measured(load, note)) for load in loads])
    except PartError as error:
        raise _refused(f"--aggregator {aggregator}: {error}") from error
    except WorkerFailed as error:
        fail(str(error))
        raise typer.Exit(1) from error
    _tell(found, _tell_scale, as_json, out)


def _counts(said: str) -> list[int]:
    counts = [int(number) if number.strip().isdecimal() else 0 for number in said.split(",")]
    if min(counts) < 1 or max(counts) > USER_CAP:
        raise _refused(f"--users {said}: give numbers of users, each from 1 to {USER_CAP}, such as 2,32,256")
    return counts


def _aggregator(said: str) -> str:
    if said not in scales.AGGREGATORS:
        known = ", ".join(scales.AGGREGATORS) + did_you_mean(said, scales.AGGREGATORS)
        raise _refused(f"--aggregator {said}: there is no such rule; there are: {known}")
    return said


def _bearable(load: scales.Load) -> scales.Load:
    if len(load.placed) > _MOST_HOSTS:
        raise _refused(
            f"--hosts {load.hosts}: {len(load.placed)} processes for {load.users} users, at most {_MOST_HOSTS}"
        )
    return load


def _refused(why: str) -> typer.Exit:
    fail(why)
    return typer.Exit(2)


def _measured(load: scales.Load, note: Callable[[str], None]) -> scales.Measured:
    design = scales.design_of(load)
    where = "1 host" if len(load.placed) == 1 else f"{len(load.placed)} hosts"
    note(f"{load.aggregator}, {load.users} users on {where}: {design.plan.rounds} blocks of {design.plan.slots} slots")
    return scales.measure(load, design)


def _tell_scale(found: dict[str, Any]) -> None:
    rows, what = found["rows"], f"{found['aggregator']}, {found['encoder']}, d = {found['parameters']}"
    time = ("users", "hosts", "ms_per_slot", "user_steps_per_s", "echo_ms", "ratio_to_echo")
    edge = ("users", "edge_ms", "rule_ms", "edge_base_mb", "edge_rss_mb", "rule_mb")
    host = ("users", "hosts", "host_rss_mb", "host_kb_per_user", "join_s")
    say_table([_only(row, *time) for row in rows], f"a slot: {what}")
    say_table([_only(row, *edge) for row in rows], "the edge; MB of 10^6 bytes")
    say_table([_only(row, *host) for row in rows], "the largest host")
    say("edge_ms: the edge's own work in a slot; rule_ms: of which making the weights")
    say("edge_rss_mb: peak while slots ran; edge_base_mb: before the first user came")
    say("rule_mb: what making the weights took for a moment, beyond what the edge held")
    say("host_kb_per_user: by how much it grew, per user; join_s: from the first Join to the last")
    say(f"machine: {_machine(found)}")


@app.command()
def sweep(
    quick: Annotated[bool, typer.Option("--quick", help=f"{_QUICK_ROUNDS} rounds instead of {sweeps.ROUNDS}")] = False,
    as_json: Json = False,
    out: Out = None,
) -> None:
    """Measure the whole of Fig. 2: every m, alpha and environment, one seed, in memory, one run per core.

    Example: equiran bench sweep --quick
    """
    rounds = _QUICK_ROUNDS if quick else sweeps.ROUNDS
    found = sweeps.report(*sweeps.measure(rounds), rounds)
    _tell(found, _tell_sweep, as_json, out)


def _tell_sweep(found: dict[str, Any]) -> None:
    say_table(found["runs"], f"Fig. 2, {found['rounds']} rounds; seconds")
    scaled = f", scaled from {found['rounds']} rounds" if found["scaled"] else ""
    shared = f"{found['process_seconds']:.0f} s over all processes, {found['pre_pass_seconds']:.0f} s in pre-passes"
    say(f"{found['seconds']:.0f} s by the clock, {shared}{scaled}")
    say(f"machine: {_machine(found)}")


@app.command()
def power(
    complexity: Annotated[
        bool, typer.Option("--complexity", help="instead: training, growth with N and B, masks and memory, row by row")
    ] = False,
    beside_slots: Annotated[
        bool, typer.Option("--beside-slots", help="instead: the rates of slots and of a trainer, alone and together")
    ] = False,
    as_json: Json = False,
    out: Out = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="no progress")] = False,
) -> None:
    """Measure a step of fourteen power tasks beside a loop over them, and inference beside solvers, on one thread.

    Example: equiran bench power --complexity
    """
    if complexity and beside_slots:
        raise _refused("--complexity and --beside-slots: give one of them")
    if beside_slots:
        found = _beside_slots()
        _tell(found, _tell_beside, as_json, out)
    elif complexity:
        found = complexities.report(_COMPLEXITY, Screen(quiet).note)
        _tell(found, _tell_complexity, as_json, out)
    else:
        found = powers.report(powers.measure(_POWER))
        _tell(found, _tell_power, as_json, out)


def _beside_slots() -> dict[str, Any]:
    try:
        return besides.report(_SLOT, besides.Effort())
    except (WorkerFailed, RunFailed) as error:
        fail(str(error))
        raise typer.Exit(1) from error


def _tell_beside(found: dict[str, Any]) -> None:
    rows = [
        {
            "per second": name,
            "alone": found[f"{name}_alone_per_s"],
            "together": found[f"{name}_together_per_s"],
            "ratio": found[f"{name}_ratio"],
            "bar": found[f"{name}_bar"],
        }
        for name in ("slots", "steps")
    ]
    say_table(rows, f"slots ({found['encoder']}, {found['users']} users, batch {found['batch']}) and a power trainer")
    for name in ("slots", "steps"):
        low, high = found[f"{name}_ratio_quartiles"]
        say(f"{name}: half of the {found['turns']} turns between {low:.2f} and {high:.2f}")
    same = "the same" if found["same_digest"] else "DIFFERENT"
    say(f"digest without {found['digest_without']}")
    say(f"and beside it  {found['digest_beside']}: {same}, {found['digest_steps']} steps meanwhile")
    say(f"machine: {_machine(found)}")


@app.command()
def start(
    turns: Annotated[int, typer.Option(min=1, help="turns of each kind to measure")] = 5,
    as_json: Json = False,
    out: Out = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="no progress")] = False,
) -> None:
    """Measure the cold start of a run to its first slot, in memory and on Ray, beside importing torch and Ray's start.

    Example: equiran bench start --turns 3
    """
    try:
        found = starts.report(starts.measure(turns, Screen(quiet).note))
    except WorkerFailed as error:
        fail(str(error))
        raise typer.Exit(1) from error
    _tell(found, _tell_start, as_json, out)


def _tell_start(found: dict[str, Any]) -> None:
    keys = ("first_slot_s", "floor_s", "ratio", "bar")
    rows = [{"transport": kind, **{key: found[f"{kind}_{key}"] for key in keys}} for kind in starts.KINDS]
    say_table(rows, "from nothing to the first slot")
    for kind in starts.KINDS:
        low, high = found[f"{kind}_ratio_quartiles"]
        bar = found[f"{kind}_bar"]
        met = f"{'within' if found[f'{kind}_ratio'] <= bar else 'above'} our bar of {bar:g}"
        say(f"{kind}: {met}; half of the {found['turns']} turns between {low:.2f} and {high:.2f}")
    say("floor: import torch; with ray, ray.init and one actor that imports torch")
    say(f"machine: {_machine(found)}")


def _tell_power(found: dict[str, Any]) -> None:
    training = ("train_step_ms", "loop_step_ms", "speedup", "hard_step_ms", "train_10k_steps_s")
    solving = ("solver_us_per_instance", "solver_us_batch1", "reference_solver_us")
    say_table([_only(found, *training)], f"training: {found['tasks']} tasks, one thread")
    say_table([_only(found, *solving)], f"solving one instance of P3, N = {found['users']}")
    say_table([_only(found, "infer_us_batch1", "infer_us_per_sample_10k")], "the network's answer to it")
    low, high = found["speedup_quartiles"]
    say(f"speedup = loop_step / train_step; half of the blocks between {low:.2f} and {high:.2f}")
    _tell_power_end(found)


def _tell_complexity(found: dict[str, Any]) -> None:
    training, growth, cuts = found["training"], found["scaling"], found["sparse"]
    times = ("tasks", "routed_ms", "routed_hard_ms", "singles_ms", "one_by_one_ms")
    say_table([_only(row, *times) for row in training], "training: a step of K tasks")
    ratios = [key for key in training[0] if key not in times]
    say_table([_only(row, "tasks", *ratios) for row in training], "training: ratios")
    networks = ("users", "full_width_us", "network_us")
    solvers = ("users", *(key for key in growth["rows"][0] if key not in networks))
    say_table([_only(row, *solvers) for row in growth["rows"]], "one instance of P3 as N grows: solvers")
    say_table([_only(row, *networks) for row in growth["rows"]], "and networks")
    say_table([{"time of": kind, **fit} for kind, fit in growth["slopes"].items()], "slopes of ln time on ln N")
    say_table(found["inference"], "one instance, B at once")
    say_table(cuts["rows"], "a batch through cut layers")
    say_table([cuts["trained_density"]], "bits in use")
    for kind, batches in cuts["break_even_density"].items():
        wins = ", ".join(f"B = {batch}: {density or 'at no density'}" for batch, density in batches.items())
        say(f"{kind}'s sparse layers beat dense ones up to a density of: {wins}")
    say_table(found["memory"], f"memory: {len(powers.PAPER)} tasks")
    _tell_power_end(found)


def _only(row: dict[str, Any], *keys: str) -> dict[str, Any]:
    return {key: row[key] for key in keys}


def _tell_power_end(found: dict[str, Any]) -> None:
    if found["note"] is not None:
        say(found["note"])
    say(f"machine: {_machine(found)}")


def _machine(found: dict[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in found["machine"].items())
