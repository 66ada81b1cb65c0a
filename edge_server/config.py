"""What a scenario may say about the edge; the tree is put together in `sim.scenario`."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from edge_server.config_base import Args, Config, Count, Own, Positive
from edge_server.power_config import RoutedMtl


class Linear(Config):
    """output = features @ theta (+ bias)."""

    kind: Literal["linear"]
    bias: bool = False
    initial: Literal["zeros", "default"] = "zeros"
    outputs: Count = 1


class Mlp(Config):
    """Fully connected layers with ReLU after each, the last included; `width` is the output."""

    kind: Literal["mlp"]
    hidden: tuple[Count, ...] = (64,)
    width: Count = 50


class Lenet(Config):
    """LeNet's convolutions and one fully connected layer of `width` units (maths.md A4)."""

    kind: Literal["lenet"]
    width: Count = 50


class Custom(Config):
    """Your own `torch.nn.Module`, as `module:Class`; `args` go to its constructor."""

    kind: Own
    args: Args = {}  # noqa: RUF012 - pydantic copies it


class Scoring(Config):
    """What every aggregator takes: these three score the run."""

    alpha: Annotated[float, Field(ge=0, le=10)] = 1.0
    u_min: Positive = 1.0
    u_max: Positive

    @model_validator(mode="after")
    def _ordered(self) -> "Scoring":
        if self.u_min >= self.u_max:
            raise ValueError(f"u_min ({self.u_min:g}) must be below u_max ({self.u_max:g})")
        return self


class ScaleTo(Config):
    """Weights of a slot are scaled so that they add up to `sum`."""

    sum: Positive


class OwoFmtl(Scoring):
    """Primal-dual aggregator of OWO-FMTL, Eqs. (5) and (9)."""

    kind: Literal["owo_fmtl"]
    dual: Literal["ogd", "follow_the_leader"] = "ogd"
    horizon: Literal["slot", "round", "run"] = "round"
    index: Literal["slot", "round"] = "slot"
    scale: Literal["none", "mean"] | ScaleTo = "none"


class Constant(Scoring):
    """Constant weights: positive numbers in user order, or `equal` = 1/K each."""

    kind: Literal["constant"]
    weights: Literal["equal"] | tuple[Positive, ...] = "equal"


class ScaleInvariant(Scoring):
    """Weights 1/(K loss): descent on the mean log-loss."""

    kind: Literal["scale_invariant"]


class QFfl(Scoring):
    """Weights loss^q / K (q-FFL)."""

    kind: Literal["q_ffl"]
    q: Annotated[float, Field(ge=0)] = 1.0


class Afl(Scoring):
    """Max-min: weights on the simplex climb by `step` times the losses (AFL)."""

    kind: Literal["afl"]
    step: Positive = 0.1


class Cagrad(Scoring):
    """CAGrad: the direction that serves the worst-off user best, within `c` of the mean gradient."""

    kind: Literal["cagrad"]
    c: Annotated[float, Field(ge=0, lt=1)] = 0.5


class Gramian(Scoring):
    """Rules without options that look at the inner products of the users' encoder gradients."""

    kind: Literal["mgda", "pcgrad", "nash_mtl", "fairgrad", "imtl_g", "aligned_mtl", "upgrad"]


class ParameterFree(Scoring):
    """Weights that answer predicted round means; how far earlier rounds count is learned."""

    kind: Literal["parameter_free"]


class CustomAggregator(Scoring):
    """Your own aggregator, as `module:Class`; `args` go to its constructor, after the alpha-fair family."""

    kind: Own
    args: Args = {}  # noqa: RUF012 - pydantic copies it


class Box(Config):
    """Every coordinate in [-box, box]."""

    box: Positive


class Ball(Config):
    """Euclidean norm at most `ball`."""

    ball: Positive


Domain = Literal["none"] | Box | Ball


class Primal(Config):
    """The step (5): its size, its domain Theta, and an optional cap on the weighted gradient's norm.

    gradient, limit: for `theory` and `guess`, where G comes from, and whether eta may exceed 1/L (maths.md A2.10).
    curvature: for `free`, from the weighted gradient alone, or from every user's own (K times the memory).
    """

    step: Positive | Literal["theory", "guess", "free"] = 0.1
    curvature: Literal["joint", "exact"] = "joint"
    gradient: Literal["measured", "worst_case"] = "measured"
    limit: Literal["none", "inverse_smoothness"] = "none"
    domain: Domain = "none"
    cap: Positive | None = None


class StepTowards(Config):
    """x + step * (theta_star - x)."""

    step: Annotated[float, Field(gt=0, le=1)]


class CustomOuter(Config):
    """Your own outer rule, as `module:Class`; `args` go to its constructor, after x_1."""

    kind: Own
    args: Args = {}  # noqa: RUF012 - pydantic copies it


class Meta(Config):
    """The outer loop (7): its rule, what stands for theta_star, and its domain X."""

    rule: Literal["running_mean", "continue", "scratch", "learned"] | StepTowards | CustomOuter = "running_mean"
    target: Literal["last", "average", "oracle"] = "last"
    domain: Domain = "none"


class NormClip(Config):
    """Every user's encoder gradient is cut to norm `at` before it is weighted."""

    kind: Literal["norm_clip"]
    at: Positive


class Median(Config):
    """The median of all users' weighted contributions, by coordinate, times their number."""

    kind: Literal["median"]


class TrimmedMean(Config):
    """Their mean without the `share` smallest and the `share` largest of each coordinate, times their number."""

    kind: Literal["trimmed_mean"]
    share: Annotated[float, Field(gt=0, lt=0.5)] = 0.2


class MultiKrum(Config):
    """The users whose gradients have the closest neighbours, all but `byzantine` of them."""

    kind: Literal["multi_krum"]
    byzantine: Count


Encoder = Annotated[Linear | Mlp | Lenet, Field(discriminator="kind")] | Custom
BuiltIn = OwoFmtl | ParameterFree | Constant | ScaleInvariant | QFfl | Afl | Cagrad | Gramian
Aggregator = Annotated[BuiltIn, Field(discriminator="kind")] | CustomAggregator
Robust = Annotated[NormClip | Median | TrimmedMean | MultiKrum, Field(discriminator="kind")]


class Quarantine(Config):
    """Who was rejected `strikes` times for what it sent is not heard any more."""

    strikes: Count


class Edge(Config):
    """The edge server: shared encoder, aggregator, inner step, outer rule, and what it trains beside them.

    device: where the encoder is. max_norm: of a message's features or gradient; beyond it they are rejected.
    """

    encoder: Encoder
    device: Literal["cpu", "cuda"] = "cpu"
    aggregator: Aggregator
    robust: Robust | None = None
    primal: Primal = Primal()
    meta: Meta = Meta()
    max_norm: Positive | None = None
    quarantine: Quarantine | None = None
    server_tasks: tuple[RoutedMtl, ...] = ()
