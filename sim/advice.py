"""What a valid scenario's owner should know before it runs: said aloud by `validate`, never an error."""

from collections.abc import Iterator

from edge_server.config import OwoFmtl
from sim.scenario import Scenario
from user_client.config import Arrays, KernelRegression, User

RATIO = 4.0
ALPHA = 2.0
SLOTS = 8


def advice(scenario: Scenario) -> list[str]:
    """One sentence for each thing worth knowing (maths.md A2)."""
    return [*_raw_inputs(scenario), *_dual_overshoot(scenario), *_few_slots(scenario), *_oracle(scenario)]


def _raw_inputs(scenario: Scenario) -> Iterator[str]:
    names = [user.name for user in scenario.users if user.front == "none" and not _sends_features(user)]
    if names:
        shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
        yield f"front: none sends the raw inputs of {shown} to the edge; a front keeps them with the user"


def _sends_features(user: User) -> bool:
    polynomial = isinstance(user.task, Arrays) and user.task.features == "polynomial3"
    return polynomial or isinstance(user.task, KernelRegression)


def _dual_overshoot(scenario: Scenario) -> Iterator[str]:
    rule = scenario.edge.aggregator
    if not isinstance(rule, OwoFmtl) or rule.dual != "ogd" or rule.alpha == 0 or rule.horizon == "slot":
        return
    reasons = [f"u_max/u_min is {rule.u_max / rule.u_min:g}"] * (rule.u_max / rule.u_min > RATIO)
    reasons += [f"alpha is {rule.alpha:g}"] * (rule.alpha > ALPHA)
    if reasons:
        yield (
            f"{' and '.join(reasons)}: the ogd dual bounces between the ends of its box for many slots; keep "
            f"u_max/u_min <= {RATIO:g} and alpha <= {ALPHA:g}, or use `dual: follow_the_leader`"
        )


def _few_slots(scenario: Scenario) -> Iterator[str]:
    """Dual weights of a round are worth something from about so many slots on (maths.md A2.6)."""
    drawn, rule = scenario.participation, scenario.edge.aggregator
    if drawn == "all" or drawn.per == "round" or not isinstance(rule, OwoFmtl) or rule.horizon != "round":
        return
    heard = scenario.slots * drawn.users / len(scenario.users)
    if heard < SLOTS:
        yield (
            f"a round hears a user in {heard:.2g} slots in the mean, and its dual weight starts afresh with each: "
            "use edge.aggregator.horizon run or slot, or draw per round"
        )


def _oracle(scenario: Scenario) -> Iterator[str]:
    edge = scenario.edge
    asked = [
        key
        for key, value, word in (
            ("edge.meta.target: oracle", edge.meta.target, "oracle"),
            ("edge.primal.step: theory", edge.primal.step, "theory"),
        )
        if value == word
    ]
    for key in asked:
        yield f"{key} needs every user's data in one place: in simulation only, refused by serve and join"
