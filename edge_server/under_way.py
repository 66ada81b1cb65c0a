"""A round that is under way: what its slots have left so far, taken and given back."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any

import numpy as np
from torch import Tensor

from edge_server.last_heard import LastHeard
from edge_server.outer import ServedMean
from edge_server.record import RoundRecord
from edge_server.referee import Referee
from edge_server.state import Flat, below, flattened, restored

_RECORD, _SERVED, _LAST, _SEEN = "round.record", "round.served", "round.last.", "round.seen."


@dataclass
class UnderWay:
    """served: the mean of the models that were served, where somebody wants it. last: None where nobody's is used."""

    record: RoundRecord
    last: LastHeard | None
    referee: Referee | None = None
    served: ServedMean = field(default_factory=ServedMean)

    def state(self) -> Flat:
        """A copy of all of it, by name."""
        beside = {_LAST: self.last, _SEEN: self.referee}
        own = {name + key: values for name, part in beside.items() if part for key, values in part.state().items()}
        return flattened(self.record, _RECORD) | flattened(self.served, _SERVED) | own

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Goes on from what `state` gave, in the arrays that there are. Raises OtherShape where they are others."""
        _fill(self.record, state, _RECORD)
        self.served = restored(self.served, state, _SERVED)
        if self.last:
            self.last.restore(below(_LAST, state))
        if self.referee:
            self.referee.restore(below(_SEEN, state))


def _fill(into: Any, state: Mapping[str, Tensor], name: str) -> None:
    """Others hold a record's arrays, too: they stay the same ones. What is known only after a round is left alone."""
    for part in fields(into):
        value, path = getattr(into, part.name), f"{name}.{part.name}"
        if is_dataclass(value):
            _fill(value, state, path)
        elif isinstance(value, np.ndarray):
            value[...] = restored(value, state, path)
        elif value is not None:
            setattr(into, part.name, restored(value, state, path))
