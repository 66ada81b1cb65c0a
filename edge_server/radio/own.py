"""A source of gains of somebody's own: held to what `Gains` says, round by round."""

from dataclasses import dataclass

import numpy as np

from edge_server.radio.gains import Floats, Gains, Site


@dataclass(frozen=True)
class OwnGains:
    """name: what the scenario calls it. Raises ValueError, one line, where equal rounds have other gains."""

    source: Gains
    site: Site
    name: str

    def __post_init__(self) -> None:
        first, last = self.round(0), self.site.rounds - 1
        self.round(last)
        if not np.array_equal(first, self.round(0)):
            raise ValueError(
                f"channel {self.name}: round 0 has other gains when it is asked for again; "
                "make generators anew from the seeds and the round, and keep no state"
            )

    def round(self, t: int) -> Floats:
        """|h|^2 [m, K], checked. Raises ValueError, one line."""
        try:
            found: object = self.source.round(t)
        except Exception as error:
            raise ValueError(f"channel {self.name}: round {t}: {type(error).__name__}: {error}") from error
        shape = (self.site.slots, len(self.site.seeds))
        if not isinstance(found, np.ndarray) or (found.shape, found.dtype) != (shape, np.float64):
            got = f"{list(found.shape)} {found.dtype}" if isinstance(found, np.ndarray) else type(found).__name__
            raise ValueError(
                f"channel {self.name}: round {t} gives {got}; expected [slots, users] = {[*shape]} float64"
            )
        if (bad := np.argwhere(~((found > 0) & np.isfinite(found)))).size:
            slot, user = (int(i) for i in bad[0])
            told = f"{found[slot, user]:g} for user {user} in slot {slot}"
            raise ValueError(f"channel {self.name}: round {t} gives {told}; gains are positive and finite")
        return found

    def sample(self) -> Floats:
        """|h|^2 [T m, K]: all slots of the run."""
        return np.concatenate([self.round(t) for t in range(self.site.rounds)])
