"""What rules without memory share: nothing is carried from slot to slot."""

from dataclasses import replace

from edge_server.aggregators.base import State, equal_weights


class Memoryless:
    """Starts from w = -1/K and leaves it alone, so that this is what an absent user holds."""

    def start(self, users: int) -> State:
        """-1/K for each of `users`."""
        return State.of(equal_weights(users))

    def begin_round(self, state: State) -> State:
        """Counts the round."""
        return replace(state, slot=0, rounds=state.rounds + 1)

    def step(self, state: State, slot: object) -> State:  # noqa: ARG002 - the protocol's argument
        """Counts the slot."""
        return replace(state, slot=state.slot + 1)
