"""What each benchmark prints for people."""

from typing import Any

from sim.bench import power as powers
from sim.bench import start as starts
from sim.console import say, say_table


def slot(found: dict[str, Any]) -> None:
    """The slot beside its floor, then what was asked for besides."""
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


def scale(found: dict[str, Any]) -> None:
    """A row for every number of users: the slot, the edge, the largest host."""
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


def sweep(found: dict[str, Any]) -> None:
    """Fig. 2's runs, and their time in all."""
    say_table(found["runs"], f"Fig. 2, {found['rounds']} rounds; seconds")
    scaled = f", scaled from {found['rounds']} rounds" if found["scaled"] else ""
    shared = f"{found['process_seconds']:.0f} s over all processes, {found['pre_pass_seconds']:.0f} s in pre-passes"
    say(f"{found['seconds']:.0f} s by the clock, {shared}{scaled}")
    say(f"machine: {_machine(found)}")


def beside_slots(found: dict[str, Any]) -> None:
    """Both rates alone and together, and whether the digest stayed."""
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


def start(found: dict[str, Any]) -> None:
    """Both starts beside their floors."""
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


def power(found: dict[str, Any]) -> None:
    """A step, one solution, and the network's answer."""
    training = ("train_step_ms", "loop_step_ms", "speedup", "hard_step_ms", "train_10k_steps_s")
    solving = ("solver_us_per_instance", "solver_us_batch1", "reference_solver_us")
    say_table([_only(found, *training)], f"training: {found['tasks']} tasks, one thread")
    say_table([_only(found, *solving)], f"solving one instance of P3, N = {found['users']}")
    say_table([_only(found, "infer_us_batch1", "infer_us_per_sample_10k")], "the network's answer to it")
    low, high = found["speedup_quartiles"]
    say(f"speedup = loop_step / train_step; half of the blocks between {low:.2f} and {high:.2f}")
    _end_of_power(found)


def complexity(found: dict[str, Any]) -> None:
    """Section III-C, table by table."""
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
    _end_of_power(found)


def _end_of_power(found: dict[str, Any]) -> None:
    if found["note"] is not None:
        say(found["note"])
    say(f"machine: {_machine(found)}")


def _only(row: dict[str, Any], *keys: str) -> dict[str, Any]:
    return {key: row[key] for key in keys}


def _machine(found: dict[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in found["machine"].items())
