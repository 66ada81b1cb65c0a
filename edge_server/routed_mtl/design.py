"""The options of one training run of the routed multi-task network; the defaults are the paper's, as settled."""

from dataclasses import dataclass
from typing import Literal, get_args

Scheme = Literal["routed", "single", "naive", "zero_padding", "equivariant"]
Inputs = Literal["amplitude", "power", "log_gain"]
Index = Literal["integer", "one_hot"]
Schedule = Literal["constant", "cosine"]
SecondStage = Literal["continue", "reinit"]
Dual = Literal["projected", "printed"]

PAPER_USERS = (5, 8, 10, 12, 15, 18, 20)
"""Of either problem, a task each."""

_CHOICES = {
    "scheme": get_args(Scheme),
    "inputs": get_args(Inputs),
    "index": get_args(Index),
    "schedule": get_args(Schedule),
    "second_stage": get_args(SecondStage),
    "dual": get_args(Dual),
}
_AT_LEAST_ONE = ("batch", "places")
_POSITIVE = ("rate", "dual_rate", "w3")


@dataclass(frozen=True)
class Design:
    """Options that compose. Raises ValueError, one line, for one that cannot be.

    scheme: `routed` (bDNN + rDNN), or a rival of the same size: `single` (K separate networks), `naive` (one network
    that is told the task), `zero_padding` (told the task and which places are padding), `equivariant` (a deep set).
    inputs: |h|, |h|^2 or ln |h|^2. index: how naive and zero_padding are told the task.
    skip: one learned scalar s per task, logits += s ln |h|^2. straight_through: hard masks forward, soft backward.
    schedule: of the Adam rate, within a stage. stages: (t1, t2) of Algorithm 1; a rival takes t1 + t2 in one stage.
    second_stage: stage 2 continues from the weights of stage 1, or draws them anew (Algorithm 1, line 12).
    dual: `projected` is max(0, lambda + step g); `printed` is Eq. (18), which never falls.
    w3: weight of the supervised loss. batch: samples per task and step. tasks_per_step: None for all, or how many are
    drawn uniformly for each step. places: width of the input and output layers, the largest N it can take.
    calibrate: a published policy shifts each task's logits so that it meets its mean power.
    """

    scheme: Scheme = "routed"
    inputs: Inputs = "amplitude"
    index: Index = "integer"
    skip: bool = False
    straight_through: bool = False
    schedule: Schedule = "constant"
    stages: tuple[int, int] = (5000, 5000)
    second_stage: SecondStage = "continue"
    dual: Dual = "projected"
    w3: float = 10.0
    rate: float = 1e-3
    dual_rate: float = 1e-3
    batch: int = 32
    tasks_per_step: int | None = None
    places: int = 20
    calibrate: bool = False
    seed: int = 0
    device: str = "cpu"

    def __post_init__(self) -> None:
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                raise ValueError(f"design: {name} must be one of {', '.join(choices)}, got {getattr(self, name)!r}")
        for name in _AT_LEAST_ONE:
            if getattr(self, name) < 1:
                raise ValueError(f"design: {name} must be at least 1, got {getattr(self, name)}")
        for name in _POSITIVE:
            if not 0 < getattr(self, name) < float("inf"):
                raise ValueError(f"design: {name} must be positive and finite, got {getattr(self, name)}")
        if min(self.stages) < 0 or sum(self.stages) < 1:
            raise ValueError(f"design: stages must be (t1, t2), not negative and not both 0, got {self.stages}")
        if self.tasks_per_step is not None and self.tasks_per_step < 1:
            raise ValueError(f"design: tasks_per_step must be at least 1, got {self.tasks_per_step}")

    @property
    def steps(self) -> int:
        """All steps, t1 + t2."""
        return sum(self.stages)
