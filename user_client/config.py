"""What a scenario may say about a user; the tree is put together in `sim.scenario`."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator


class Config(BaseModel):
    """Frozen; unknown keys, NaN and infinities are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]
Own = Annotated[str, Field(pattern=r"^[\w.]+:\w+$")]
"""`module:Class`, a part of somebody's own."""
Args = dict[str, int | float | str | bool]
"""What goes to its constructor by name."""


class Custom(Config):
    """Your own class, as `module:Class`; `args` go to its constructor."""

    kind: Own
    args: Args = {}


class Holdout(Config):
    """Losses come from `holdout` further samples of the slot, gradients from its batch (footnote 1)."""

    holdout: Count


class KernelRegression(Config):
    """Sinusoidal regression on polynomial features (maths.md A3), one sample per slot unless `batch` says more.

    stream: sinusoid (users 0, 2, .. see the sine, users 1, 3, .. the cosine), conflict (user 0 is the minority),
    half (label noise on even users in a round's first half, on odd users in its second).
    drift: how far the phase moves between a round's first and last slot, in rad.
    similarity: rounds differ (1 - similarity) times as much as in the paper; 1 redraws nothing but samples.
    """

    kind: Literal["kernel_regression"]
    stream: Literal["sinusoid", "conflict", "half"] = "sinusoid"
    drift: float = 0.0
    similarity: Annotated[float, Field(ge=0, le=1)] = 0.0
    batch: Count = 1
    feedback: Literal["batch"] | Holdout = "batch"


class Rainbow(Config):
    """Rainbow MNIST (maths.md A4), or its offline stand-in over the digits inside scikit-learn."""

    kind: Literal["rainbow"]
    digits: Literal["mnist", "bundled"]
    tasks: Literal["own", "common"] = "own"
    batch: Count = 25
    validation: Annotated[int, Field(ge=0)] | None = None
    feedback: Literal["batch"] | Holdout = "batch"


class Arrays(Config):
    """Your own data, from an .npz file (contract.md)."""

    kind: Literal["arrays"]
    path: str
    loss: Literal["squared", "cross_entropy"]
    features: Literal["none", "polynomial3"] = "none"


class PingPong(Config):
    """Labels turn hostile in some blocks of a round; blocks are counted from 0."""

    kind: Literal["ping_pong"]
    labels: Literal["nine_minus", "sign", "permutation"]
    block: Literal["sqrt"] | Count = "sqrt"
    hostile: Literal["odd", "even", "alternate", "every", "random"] = "odd"


class Inflation(Config):
    """The loss that is reported is `factor` times the true one; the gradient stays honest."""

    kind: Literal["inflation"]
    factor: Positive = 3.0


class GradientAttack(Config):
    """What goes up in place of the output gradient: `factor` times itself, its opposite, or noise of its norm."""

    kind: Literal["gradient"]
    attack: Literal["sign_flip", "scale", "random"]
    factor: Positive = 1.0

    @model_validator(mode="after")
    def _does_something(self) -> "GradientAttack":
        if self.attack == "scale" and self.factor == 1:
            raise ValueError("attack scale with factor 1 is the honest gradient; give another factor")
        return self


class ConvPool(Config):
    """LeNet's first convolution, ReLU and pool, owned by the user."""

    kind: Literal["conv_pool"]
    channels: Count = 10
    trainable: bool = True
    step: Positive | None = None


class MlpFront(Config):
    """Fully connected layers with ReLU on the flattened input."""

    kind: Literal["mlp"]
    hidden: tuple[Count, ...] = ()
    width: Count = 64
    trainable: bool = True
    step: Positive | None = None


class CustomFront(Config):
    """Your own front, as `module:Class`; `args` go to its constructor, after the shape of one input sample."""

    kind: Own
    args: Args = {}
    trainable: bool = True
    step: Positive | None = None


Start = Literal["carried", "fresh"]
"""The head that a round starts with: the last round's, or the first round's once more."""


class LinearHead(Config):
    """One fully connected layer; `outputs` defaults to the task's classes (1 for regression)."""

    kind: Literal["linear"]
    step: Positive = 0.1
    outputs: Count | None = None
    start: Start = "carried"


class MlpHead(Config):
    """Fully connected layers with ReLU between them."""

    kind: Literal["mlp"]
    hidden: tuple[Count, ...] = (32,)
    step: Positive = 0.1
    outputs: Count | None = None
    start: Start = "carried"


class CustomHead(Config):
    """Your own head, as `module:Class`; `args` go to its constructor, after the encoder's shape and the task's need."""

    kind: Own
    args: Args = {}
    step: Positive = 0.1
    start: Start = "carried"


class IdentityHead(Config):
    """The edge's outputs are the predictions."""

    kind: Literal["identity"]


Task = Annotated[KernelRegression | Rainbow | Arrays, Field(discriminator="kind")] | Custom
Adversary = Annotated[PingPong | Inflation | GradientAttack, Field(discriminator="kind")] | Custom
Front = Literal["none"] | Annotated[ConvPool | MlpFront, Field(discriminator="kind")] | CustomFront
Head = Annotated[LinearHead | MlpHead | IdentityHead, Field(discriminator="kind")] | CustomHead


class Churn(Config):
    """In each round after the first, away with probability `churn`, for the whole round."""

    churn: Annotated[float, Field(ge=0, lt=1)]


class Privacy(Config):
    """Every sample's output gradient is cut to norm `clip`, and Gaussian noise of deviation noise * clip added."""

    clip: Positive
    noise: Annotated[float, Field(ge=0)] = 0.0


class User(Config):
    """One user: data, front, head, what may turn it hostile, when it is there. `l_max` defaults to the edge's u_max."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}$")]
    l_max: float | None = None
    task: Task
    adversary: Adversary | tuple[Adversary, ...] = ()
    front: Front = "none"
    head: Head
    presence: Literal["always"] | Churn = "always"
    privacy: Privacy | None = None
