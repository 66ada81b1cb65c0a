"""What must be true after a simulated run, as lines that say what is not."""

from collections import Counter
from collections.abc import Iterator

from simulated_run import SLACK, Rehearsal

from user_client.link import LinkBroken, StreamCut

_UNPROVEN = 6
"""Messages that the edge may keep for one user."""


def wrong(run: Rehearsal) -> list[str]:
    """Everything that is wrong with a run that has ended."""
    lines = [*run.lines, *run.network.bugs]
    lines += (surprise for session in run.everybody for surprise in session.surprises)
    if run.edge.unproven > _UNPROVEN:
        lines.append(f"the edge kept {run.edge.unproven} messages for one user")
    if run.case.design.plan.absence.drops:
        return [*lines, *_without_some(run)]
    lines += _steps(run)
    return [*lines, *(_of_a_failure(run) if run.failure else _of_an_end(run))]


def _steps(run: Rehearsal) -> Iterator[str]:
    """Every user does what it does in a quiet run, and nothing twice; whoever fails stops on the way."""
    for session in run.everybody:
        calls, due = session.user.calls, run.quiet.calls[run.case.names.index(session.name)]
        if calls != due[: len(calls)] or (session.done and len(calls) < len(due)):
            yield f"{session.name} did {calls}, and not {due}"


def _without_some(run: Rehearsal) -> Iterator[str]:
    """Slots go on without those who are not heard: still everybody applies what counts, and nothing else, once."""
    before = run.revivals.before if run.revivals else {}
    for k, session in enumerate(run.sessions):
        lives = [*before.get(k, ()), session]
        calls = [call for life in lives for call in life.user.calls]
        applied = [(k, t, i) for call, t, i in calls if call == "apply" and t in run.edge.rounds_written]
        due = {one for one in run.edge.applied if one[0] == k}
        whole = session.done and len(lives) == 1
        if len(applied) > len({*applied}) or not due >= {*applied} or (whole and due > {*applied}):
            yield f"{session.name} applied {applied}, and not {sorted(due)}"
    if run.failure and "\n" in str(run.failure):
        yield f"a failure of several lines: {run.failure}"
    yield from _followed(run)
    yield from _misunderstood(run)


def _misunderstood(run: Rehearsal) -> Iterator[str]:
    """Streams break, but neither side says what makes no sense to the other."""
    for host in run.hosts:
        process = host.process
        error = process.exception() if process and process.done() and not process.cancelled() else None
        for one in error.exceptions if isinstance(error, ExceptionGroup) else [error] if error else []:
            if run.doom is None and not isinstance(one, StreamCut) and not (run.revivals and _turned_away(one)):
                yield f"{host.names} ended with {one!r}"


def _turned_away(error: Exception) -> bool:
    """A process that came anew when nobody was let in any more."""
    return "the run ended before this process could take part" in str(error)


def _followed(run: Rehearsal) -> Iterator[str]:
    """Once it is known who was left out, everything can be had again to the bit."""
    again = run.followed
    if run.edge.numbers != again.edge.numbers[: len(run.edge.numbers)]:
        yield "the run that follows its attendance has other losses or weights"
    whole = len(run.edge.rounds_written) == run.case.design.plan.rounds
    known = [pair for pair in zip(run.digests, again.digests, strict=False) if whole and pair[0]]
    if any(one != other for one, other in known):
        yield "the run that follows its attendance has other digests"


def _of_an_end(run: Rehearsal) -> Iterator[str]:
    if run.digests != run.quiet.digests:
        yield "other digests than in a quiet run"
    if (run.edge.numbers, run.edge.sizes) != (run.quiet.edge.numbers, run.quiet.edge.sizes):
        yield "other losses, weights or bytes than in a quiet run"
    if not run.hopeless:
        yield from _lost_hosts(run)
        yield from _counts(run)


def _lost_hosts(run: Rehearsal) -> Iterator[str]:
    """Everybody comes to the goodbye; of two processes of one name at least one, and the edge turns the other away."""
    done = {session.name for session in run.everybody if session.done}
    if missing := set(run.case.names) - done:
        yield f"{sorted(missing)} never heard goodbye"
    twice = {name for rival in run.rivals for name in rival.host.names}
    for host in run.all_hosts:
        error = host.process.exception() if host.process else None
        told = isinstance(error, ExceptionGroup) and all(isinstance(e, LinkBroken) for e in error.exceptions)
        if error is not None and not (told and twice >= set(host.names)):
            yield f"{host.names} ended with {error!r}"


def _counts(run: Rehearsal) -> Iterator[str]:
    """Every message was taken once; what came twice was counted; nobody joined twice, or was rejected otherwise."""
    edge, named = run.edge, {rival.session.name for rival in run.rivals}
    for k, session in enumerate(run.sessions):
        taken = edge.cell.post.conversations[k].taken
        if session.name not in named and taken != session._said:
            yield f"{session.name} said {session._said} messages, {taken} were taken in"
    if Counter(event["user"] for event in edge.of("join")) != Counter(run.case.names):
        yield f"joined: {edge.of('join')}"
    if len(edge.of("duplicate")) > 2 * run.network.repeated * len(run.case.names):
        yield f"{len(edge.of('duplicate'))} duplicates, but {run.network.repeated} messages were repeated"
    if edge.of("rejected") != run.quiet.edge.of("rejected"):
        yield "others were rejected than in a quiet run"


def _of_a_failure(run: Rehearsal) -> Iterator[str]:
    """It was foreseen; one line says who and where; it came in time, and nothing stopped half-way."""
    told, doomed, plan = str(run.failure), run.case.names, run.case.design.plan
    foreseen = run.edge.stop_at is not None or plan.absence.policy == "fail"
    if not run.hopeless:
        yield f"the run failed: {told}"
        return
    if run.doom and not foreseen:
        doomed = next(host.names for host in run.hosts if run.doom[0] in host.names)
    if "\n" in told or not any(repr(name) in told for name in doomed) or " round " not in told:
        yield f"a failure that does not say who and where: {told}"
    if run.doomed_at is None and not foreseen:
        yield f"the run failed before doom: {told}"
    elif run.doomed_at is not None and run.failed_at > run.doomed_at + plan.patience + SLACK:
        yield f"failed at {run.failed_at:g} s, doom came at {run.doomed_at:g} s"
    if run.edge.state not in run.quiet.edge.states:
        yield "model and duals are not those of any moment of a quiet run"
