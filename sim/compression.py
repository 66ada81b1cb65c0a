"""What a scenario may say about tensors that travel in fewer bytes."""

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from edge_server.config_base import Config
from protos.codings import WHOLE, Coding, Codings

if TYPE_CHECKING:
    from edge_server.plan import RunPlan

Rounded = Literal["float16", "bfloat16", "int8"]


class TopK(Config):
    """Only the `share` of values that are largest by magnitude; above a half, sending all takes fewer bytes.

    error_feedback: what a slot leaves out is added to the next slot's gradient.
    """

    kind: Literal["top_k"]
    share: Annotated[float, Field(gt=0, le=0.5)] = 0.1
    error_feedback: bool = True


class Compression(Config):
    """Of the four tensors of a slot; `none` sends them whole. Features and outputs are never thinned out."""

    features: Literal["none"] | Rounded = "none"
    outputs: Literal["none"] | Rounded = "none"
    feedback: Literal["none"] | Rounded | TopK = "none"
    acknowledgement: Literal["none"] | Rounded | TopK = "none"


Said = Literal["none"] | Rounded | Compression | None
"""One word for all four tensors, or one for each."""


def codings(said: Said) -> Codings:
    """How a run's tensors travel."""
    if said is None or said == "none":
        return WHOLE
    if isinstance(said, str):
        one = Coding(said)
        return Codings(one, one, one, one)
    return Codings(*(_coding(getattr(said, name)) for name in Compression.model_fields))


def _coding(said: str | TopK) -> Coding:
    match said:
        case TopK():
            return Coding("top_k", said.share, said.error_feedback)
        case "float16" | "bfloat16" | "int8":
            return Coding(said)
        case _:
            return Coding()


def savings(plan: "RunPlan", said: Said) -> dict[str, dict[str, Any]] | None:
    """By tensor: its coding, and the bytes of a slot of all users as they travel and whole; null without compression.

    A tensor that nobody sends has none.
    """
    if said is None or said == "none":
        return None
    by_phase = (
        [user.features for user in plan.users],
        [user.outputs for user in plan.users],
        [user.gradient for user in plan.users],
        [user.feature_gradient for user in plan.users if user.trainable_front],
    )
    return {
        name: {
            "coding": getattr(codings(said), name).kind.replace("full", "none"),
            "bytes_per_slot": sum(spec.nbytes for spec in specs),
            "whole_bytes_per_slot": sum(spec.whole for spec in specs),
        }
        for name, specs in zip(Compression.model_fields, by_phase, strict=True)
    }
