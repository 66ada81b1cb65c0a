"""What keys of a scenario must agree on with each other; each check tolerates a tree that is wrong elsewhere."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from sim.fault_checks import fault_problems
from sim.overrides import USER_CAP, is_crowd, name_of
from sim.security import missing, read_token
from sim.yaml_lines import Node, Problem, Scalar, get

RESERVED = frozenset({"checkpoints"})
_CLASS_LABELS = ("nine_minus", "permutation")


class Here(NamedTuple):
    """What of a scenario is on this machine, and its files with it: its edge, and users (None: all)."""

    edge: bool = True
    users: frozenset[str] | None = None

    def has(self, user: Node) -> bool:
        """This user is here."""
        return self.users is None or name_of(user) in self.users


EVERYTHING = Here()


def cross_problems(root: Node, here: Here = EVERYTHING) -> Iterator[Problem]:
    """Every disagreement between keys of the tree, and files that are not there."""
    yield from _user_count(root)
    yield from _user_names(root)
    yield from _participation(root)
    yield from _weights(root)
    for path, user in _users(root):
        yield from _adversaries(root, path, user)
        if here.has(user) or (path == "users.template" and here.users):
            yield from _data(path, user)
    yield from _convexity(root)
    yield from _step(root)
    yield from _learned(root)
    yield from _compressed(root)
    yield from _inexact(root)
    yield from _robust(root)
    yield from _deadline(root)
    yield from _quarantined(root)
    yield from _comparison_names(root)
    yield from _server_tasks(root)
    yield from _trained_beside(root)
    yield from _secured(root, here)
    yield from fault_problems(root)


def _users(root: Node) -> list[tuple[str, Node]]:
    """Each user as written with its path; a crowd counts once."""
    users = get(root, "users")
    if users and is_crowd(users):
        template = get(users, "template")
        return [("users.template", template)] if template else []
    if users and isinstance(users.value, list):
        return [(f"users.{i}", user) for i, user in enumerate(users.value)]
    return []


def _count(root: Node) -> int | None:
    users = get(root, "users")
    if users and is_crowd(users):
        count = _value(users, "count")
        return count if isinstance(count, int) else None
    return len(users.value) if users and isinstance(users.value, list) else None


def _value(node: Node, *path: str | int) -> Scalar:
    """The scalar at `path`, or None."""
    found = get(node, *path)
    return None if found is None or isinstance(found.value, dict | list) else found.value


def _user_count(root: Node) -> Iterator[Problem]:
    users, count = get(root, "users"), _count(root)
    if users and count == 0:
        yield Problem(users.where, "users", "must hold at least one user")
    if users and count is not None and count > USER_CAP:
        yield Problem(users.where, "users", f"must hold at most {USER_CAP} users, got {count}")


def _participation(root: Node) -> Iterator[Problem]:
    drawn, count = get(root, "participation", "users"), _count(root)
    if drawn and type(drawn.value) is int and count is not None and drawn.value > count:
        yield Problem(drawn.where, "participation.users", f"cannot draw {drawn.value} of {count} users")
    per, step = get(root, "participation", "per"), _value(root, "edge", "primal", "step")
    if per and per.value == "slot" and step in ("theory", "guess"):
        message = f"step: {step} is for users who take part in all slots of a round; draw per round, or give a number"
        yield Problem(per.where, "participation.per", message)


def _user_names(root: Node) -> Iterator[Problem]:
    seen: dict[str, str] = {}
    for path, user in _users(root):
        name, place = name_of(user), get(user, "name")
        if name and place and name in seen:
            yield Problem(place.where, f"{path}.name", f"{name!r} is already the name of {seen[name]}")
        elif name:
            seen[name] = path


def _weights(root: Node) -> Iterator[Problem]:
    weights, count = get(root, "edge", "aggregator", "weights"), _count(root)
    if weights and isinstance(weights.value, list) and count is not None and len(weights.value) != count:
        message = f"{len(weights.value)} weights for {count} users; give one per user, or `equal`"
        yield Problem(weights.where, "edge.aggregator.weights", message)


def _adversaries(root: Node, path: str, user: Node) -> Iterator[Problem]:
    adversary = get(user, "adversary")
    if adversary is None:
        return
    several = isinstance(adversary.value, list)
    schedules = adversary.value if isinstance(adversary.value, list) else [adversary]
    for index, schedule in enumerate(schedules):
        here = f"{path}.adversary.{index}" if several else f"{path}.adversary"
        yield from _block(root, here, schedule)
        yield from _labels(here, schedule, user)


def _block(root: Node, path: str, schedule: Node) -> Iterator[Problem]:
    block, slots = get(schedule, "block"), _value(root, "slots")
    if block and type(block.value) is int and type(slots) is int and block.value > slots >= 1:
        yield Problem(block.where, f"{path}.block", f"a block of {block.value} is longer than the round, {slots} slots")


def _labels(path: str, schedule: Node, user: Node) -> Iterator[Problem]:
    labels, classes = get(schedule, "labels"), _has_classes(user)
    if labels is None or classes is None:
        return
    if classes and labels.value == "sign":
        yield Problem(labels.where, f"{path}.labels", "sign flips real labels, and this task has classes")
    if not classes and labels.value in _CLASS_LABELS:
        yield Problem(labels.where, f"{path}.labels", f"{labels.value} needs classes, and this task has none; use sign")


def _has_classes(user: Node) -> bool | None:
    kind = _value(user, "task", "kind")
    if kind == "arrays":
        return {"cross_entropy": True, "squared": False}.get(str(_value(user, "task", "loss")))
    return {"rainbow": True, "kernel_regression": False}.get(str(kind))


def _data(path: str, user: Node) -> Iterator[Problem]:
    file = get(user, "task", "path")
    if file is None or not isinstance(file.value, str) or _value(user, "task", "kind") != "arrays":
        return
    if not file.value.endswith(".npz"):
        yield Problem(file.where, f"{path}.task.path", f"{file.value!r} is not an .npz file")
    elif not Path(file.value).is_file():
        yield Problem(file.where, f"{path}.task.path", f"no such file: {file.value}")


_CONVEX = {
    ("meta", "target"): "oracle",
    ("primal", "step"): "theory",
    ("primal", "gradient"): "worst_case",
    ("primal", "limit"): "inverse_smoothness",
}


def _convexity(root: Node) -> Iterator[Problem]:
    for path, word in _CONVEX.items():
        if (node := get(root, "edge", *path)) and node.value == word:
            for lack in _not_convex(root):
                yield Problem(node.where, ".".join(("edge", *path)), f"{word} needs a convex problem on a box: {lack}")


def _step(root: Node) -> Iterator[Problem]:
    step = get(root, "edge", "primal", "step")
    domain = get(root, "edge", "primal", "domain")
    if step and step.value == "guess" and not (domain and isinstance(domain.value, dict)):
        lack = "guess needs to know D: give edge.primal.domain as {box: c} or {ball: r}"
        yield Problem(step.where, "edge.primal.step", lack)
    for key, word in (("gradient", "worst_case"), ("limit", "inverse_smoothness")):
        node = get(root, "edge", "primal", key)
        if node and node.value == word and (step is None or step.value not in ("theory", "guess")):
            yield Problem(node.where, f"edge.primal.{key}", f"{word} is for step: theory and step: guess")


def _learned(root: Node) -> Iterator[Problem]:
    """The learned step and the learned outer rule are one rule."""
    step, rule = get(root, "edge", "primal", "step"), get(root, "edge", "meta", "rule")
    free, learned = (step and step.value) == "free", (rule and rule.value) == "learned"
    if step and free and not learned:
        yield Problem(step.where, "edge.primal.step", "free learns with the outer rule: set edge.meta.rule to learned")
    if rule and learned and not free:
        yield Problem(rule.where, "edge.meta.rule", "learned needs edge.primal.step: free")
    curvature = get(root, "edge", "primal", "curvature")
    if curvature and curvature.value == "exact" and not free:
        yield Problem(curvature.where, "edge.primal.curvature", "exact is for step: free")


def _compressed(root: Node) -> Iterator[Problem]:
    """The theorem's constants are those of exact messages."""
    compression, step = get(root, "compression"), get(root, "edge", "primal", "step")
    if compression and compression.value is not None and step and step.value in ("theory", "guess"):
        message = f"step: {step.value} knows nothing of rounded messages; give edge.primal.step as a number, or free"
        yield Problem(compression.where, "compression", message)


def _inexact(root: Node) -> Iterator[Problem]:
    """Nor does it hold where gradients are not those of the losses."""
    step = _value(root, "edge", "primal", "step")
    if step not in ("theory", "guess"):
        return
    for path, user in _users(root):
        privacy, adversary = get(user, "privacy"), get(user, "adversary")
        several = adversary.value if adversary and isinstance(adversary.value, list) else [adversary]
        attacks = [one for one in several if one and _value(one, "kind") == "gradient"]
        if privacy and privacy.value is not None:
            yield Problem(privacy.where, f"{path}.privacy", _NO_THEORY.format(step, "blurred"))
        if attacks:
            yield Problem(attacks[0].where, f"{path}.adversary", _NO_THEORY.format(step, "false"))


_NO_THEORY = "step: {} knows nothing of {} gradients; give edge.primal.step as a number, or free"


def _robust(root: Node) -> Iterator[Problem]:
    """A robust rule's step is not that of the weighted gradient, and multi-Krum needs enough users."""
    rule, step, count = get(root, "edge", "robust"), _value(root, "edge", "primal", "step"), _count(root)
    if rule and rule.value is not None and step in ("theory", "guess", "free"):
        message = f"step: {step} is for the weighted sum of gradients; give edge.primal.step as a number"
        yield Problem(rule.where, "edge.robust", message)
    bad = get(root, "edge", "robust", "byzantine")
    if bad and type(bad.value) is int and count is not None and count < 2 * bad.value + 3:
        message = f"{bad.value} needs at least {2 * bad.value + 3} users, there are {count}"
        yield Problem(bad.where, "edge.robust.byzantine", message)


def _quarantined(root: Node) -> Iterator[Problem]:
    """Who is drawn is drawn among all: a round of users in quarantine alone could not be used."""
    quarantine, drawn = get(root, "edge", "quarantine"), get(root, "participation")
    if quarantine and quarantine.value is not None and drawn and drawn.value != "all":
        message = "users are drawn among all, those in quarantine too: take one of quarantine and participation away"
        yield Problem(quarantine.where, "edge.quarantine", message)


def _deadline(root: Node) -> Iterator[Problem]:
    """Lateness is judged by the radio's virtual clock, or by the edge's own."""
    deadline, radio, failure = get(root, "deadline"), get(root, "radio"), get(root, "on_user_failure")
    least, count = get(root, "min_users"), _count(root)
    if least and count and isinstance(least.value, int) and least.value > count:
        yield Problem(least.where, "min_users", f"{least.value}, but this scenario has {count} users")
    given = deadline is not None and deadline.value is not None
    on_air = radio is not None and radio.value is not None
    if given and failure and not on_air and failure.value in ("wait", "stale"):
        message = f"{failure.value} needs a radio, whose clock judges who is late; without one, say drop or fail"
        yield Problem(failure.where, "on_user_failure", message)
    if failure and failure.value == "stale" and not given:
        message = f"{failure.value} is for users who miss a deadline: give `deadline`"
        yield Problem(failure.where, "on_user_failure", message)
    measured, power = get(root, "radio", "compute"), get(root, "radio", "power")
    if given and measured and measured.value == "measured":
        message = "measured times differ from run to run, and with a deadline so would the numbers; give seconds"
        yield Problem(measured.where, "radio.compute", message)
    if power and power.value == "sum_capacity" and (not given or (failure and failure.value == "wait")):
        message = "sum_capacity gives some users no power, and they would be waited for without end"
        yield Problem(power.where, "radio.power", f"{message}: give `deadline` and drop them")


def _not_convex(root: Node) -> Iterator[str]:
    if get(root, "edge", "primal", "domain", "box") is None:
        yield "give edge.primal.domain as {box: c}"
    if _value(root, "edge", "encoder", "kind") != "linear":
        yield "edge.encoder.kind must be linear"
    if _value(root, "edge", "encoder", "bias") is True:
        yield "edge.encoder.bias must be false"
    for path, user in _users(root):
        if _value(user, "head", "kind") != "identity":
            yield f"{path}.head.kind must be identity"
        if get(user, "front") and _value(user, "front") != "none":
            yield f"{path}.front must be none"
        if _has_classes(user):
            yield f"{path}.task must have the squared loss"


def _server_tasks(root: Node) -> Iterator[Problem]:
    tasks = get(root, "edge", "server_tasks")
    for index, task in enumerate(tasks.value[1:] if tasks and isinstance(tasks.value, list) else [], start=1):
        yield Problem(task.where, f"edge.server_tasks.{index}", "a run trains at most one; give it its own scenario")


def _trained_beside(root: Node) -> Iterator[Problem]:
    """A power policy that this run trains needs a trainer, and one whose bits do not differ from run to run."""
    pace, tasks = get(root, "radio", "power", "steps_per_round"), get(root, "edge", "server_tasks")
    if pace is None or pace.value is None:
        return
    if tasks is None or tasks.value == []:
        message = "there is nobody to train the policy: give edge.server_tasks a routed_mtl, or a path as policy"
        yield Problem(pace.where, "radio.power.steps_per_round", message)
    device = get(root, "edge", "server_tasks", 0, "device")
    if device and device.value != "cpu":
        message = "a GPU's bits differ from run to run, and with steps_per_round so would the numbers; use cpu"
        yield Problem(device.where, "edge.server_tasks.0.device", message)


def _comparison_names(root: Node) -> Iterator[Problem]:
    compare = get(root, "compare")
    seen: set[str] = set()
    for index, entry in enumerate(compare.value if compare and isinstance(compare.value, list) else []):
        name, place = name_of(entry), get(entry, "name")
        if not name or not place:
            continue
        if name.casefold() in seen:
            yield Problem(place.where, f"compare.{index}.name", f"{name!r} is already the name of a comparison")
        if name.casefold() in RESERVED:
            yield Problem(place.where, f"compare.{index}.name", f"{name!r} is a folder that the run itself writes")
        seen.add(name.casefold())


def _secured(root: Node, here: Here) -> Iterator[Problem]:
    """What security names is there, and can be used."""
    for key in ("file", "env"):
        place = get(root, "security", key)
        if place and isinstance(place.value, str) and _value(root, "security", "kind") == "token":
            try:
                read_token(place.value if key == "file" else None, place.value)
            except ValueError as error:
                yield Problem(place.where, f"security.{key}", str(error))
    folder = get(root, "security", "folder")
    if here.edge and folder and isinstance(folder.value, str) and (lacks := missing(folder.value)):
        message = f"{folder.value} has no {', '.join(lacks)}; make them with: equiran certs {folder.value}"
        yield Problem(folder.where, "security.folder", message)
