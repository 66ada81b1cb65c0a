"""Reading what users send: each function gives values that are safe to use, or a BadField."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from edge_server.attendance import Refused
from edge_server.plan import RunPlan, UserPlan
from edge_server.record import PHASES
from protos import PROTOCOL
from protos import edge_pb2 as pb
from protos.codings import Coding
from protos.narrow import overflow
from protos.tensors import BadTensor, NotFinite, Spec, unpack, unpack_together, wire_dtype
from protos.wire import BadBytes, parsed

_SHA256 = 32
"""Bytes of a SHA-256."""
_FIELDS = 16
"""Of a user's message, at most: ours has two."""


class BadField(NamedTuple):
    """A field of a slot message that cannot be used, and the reason in one line."""

    field: str
    code: pb.Rejected.Code
    reason: str


class Feedback(NamedTuple):
    """What one user made of its outputs: loss at them, gradient [B, ...output_shape] of that loss."""

    loss: float
    gradient: Tensor


class Report(NamedTuple):
    """A user's validation: mean loss, and the share of right answers (NaN for regression)."""

    loss: float
    accuracy: float


def parse(data: bytes) -> pb.UserMessage:
    """The message in `data`. Raises Refused if it is none."""
    try:
        return parsed(pb.UserMessage, data, _FIELDS)
    except BadBytes as error:
        raise Refused("INVALID_ARGUMENT", str(error)) from error


def read_join(data: bytes, plan: RunPlan) -> pb.Join:
    """The Join in `data`. Raises Refused unless run, protocol and sizes are as planned."""
    message = parse(data)
    join = message.join
    if message.HasField("ahead"):
        raise Refused("INVALID_ARGUMENT", f"user {join.user!r} sent features beside its Join")
    if join.protocol != PROTOCOL:
        raise Refused("FAILED_PRECONDITION", f"protocol {join.protocol}, but this edge speaks {PROTOCOL}")
    if join.run != plan.run:
        raise Refused("NOT_FOUND", f"run {join.run!r} is not served here")
    if user := plan.named.get(join.user):
        _agree(join, user)
    if join.sends_ahead and plan.slot_by_slot:
        raise Refused("INVALID_ARGUMENT", f"users are drawn slot by slot, so {join.user!r} cannot send features ahead")
    if join.sends_ahead and join.wants_feature_gradient:
        raise Refused("INVALID_ARGUMENT", f"user {join.user!r} trains its front, so it cannot send features ahead")
    return join


def require_hash(leave: pb.Leave) -> None:
    """Raises Refused unless the Leave's SHA-256 has 32 bytes: nothing else may travel there."""
    if len(leave.parameters_sha256) != _SHA256:
        reason = f"parameters_sha256 has {len(leave.parameters_sha256)} bytes, a SHA-256 has {_SHA256}"
        raise Refused("INVALID_ARGUMENT", reason)


def read_tensor(said: pb.Tensor, spec: Spec, field: str) -> Tensor | BadField:
    """The tensor of `field`, if dtype, shape, length and values are as they must be."""
    try:
        return unpack(said, spec)
    except NotFinite as error:
        return BadField(field, pb.Rejected.NOT_FINITE, str(error))
    except BadTensor as error:
        return BadField(field, pb.Rejected.INVALID, str(error))


def read_tensors(said: Sequence[pb.Tensor], specs: Sequence[Spec], field: str) -> list[Tensor | BadField]:
    """The tensors of `field`, as `read_tensor` gives each; those of one spec in one go."""
    found: list[Tensor | BadField] = [BadField(field, pb.Rejected.INVALID, "")] * len(said)
    for spec, places in _by_spec(specs):
        for place, tensor in zip(places, _read_alike([said[place] for place in places], spec, field), strict=True):
            found[place] = tensor
    return found


def _by_spec(specs: Sequence[Spec]) -> list[tuple[Spec, list[int]]]:
    """Where each spec stands; equal ones are one object (`agreed`)."""
    groups: dict[int, tuple[Spec, list[int]]] = {}
    for place, spec in enumerate(specs):
        groups.setdefault(id(spec), (spec, []))[1].append(place)
    return [*groups.values()]


def _read_alike(said: Sequence[pb.Tensor], spec: Spec, field: str) -> Sequence[Tensor | BadField]:
    try:
        return unpack_together(said, spec).unbind()
    except BadTensor:
        return [read_tensor(one, spec, field) for one in said]


def sendable(outputs: Tensor, coding: Coding) -> Tensor | BadField:
    """`outputs`, the model's answer to one user's features, unless a finite model overflowed on them.

    So it did where they do not fit into the `coding` in which they are to travel.
    """
    if not math.isfinite(outputs.sum().item()) and not bool(outputs.isfinite().all()):
        return BadField("features", pb.Rejected.NOT_FINITE, "they are finite, but the model's outputs on them are not")
    if told := overflow(outputs, coding):
        return BadField("features", pb.Rejected.NOT_FINITE, f"the model's outputs on them reach {told}")
    return outputs


def bounded(tensor: Tensor, limit: float | None, field: str) -> BadField | None:
    """Why `tensor` cannot be used, if its Euclidean norm is above `limit` (None: no limit)."""
    if limit is None or (norm := float(torch.linalg.vector_norm(tensor, dtype=torch.float64))) <= limit:
        return None
    return BadField(field, pb.Rejected.INVALID, f"its norm is {norm:.4g}, edge.max_norm is {limit:.4g}")


def read_feedback(said: Sequence[pb.Feedback], users: Sequence[UserPlan]) -> list[Feedback | BadField]:
    """Losses and gradients [B, ...output_shape] of these users, or what is wrong with them."""
    gradients = read_tensors([one.gradient for one in said], [user.gradient for user in users], "gradient")
    return [_feedback(one.loss, gradient) for one, gradient in zip(said, gradients, strict=True)]


def _feedback(loss: float, gradient: Tensor | BadField) -> Feedback | BadField:
    if not math.isfinite(loss):
        return _not_finite(loss, "loss")
    return gradient if isinstance(gradient, BadField) else Feedback(loss, gradient)


def read_report(said: pb.Report) -> Report | BadField:
    """Validation loss and accuracy."""
    if not math.isfinite(said.loss):
        return _not_finite(said.loss, "loss")
    if not said.HasField("accuracy"):
        return Report(said.loss, math.nan)
    if not 0 <= said.accuracy <= 1:
        return BadField("accuracy", pb.Rejected.INVALID, f"{said.accuracy} is not in [0, 1]")
    return Report(said.loss, said.accuracy)


def _not_finite(value: float, field: str) -> BadField:
    return BadField(field, pb.Rejected.NOT_FINITE, f"it is {value}")


def _agree(join: pb.Join, user: UserPlan) -> None:
    said = {
        "dtype": join.dtype,
        "feature_shape": tuple(join.feature_shape[: len(user.feature_shape) + 1]),
        "batch": join.batch,
        "validation_batch": join.validation_batch,
        "wants_feature_gradient": join.wants_feature_gradient,
    }
    planned = {
        "dtype": wire_dtype(user.dtype),
        "feature_shape": user.feature_shape,
        "batch": user.batch,
        "validation_batch": user.validation_batch,
        "wants_feature_gradient": user.trainable_front,
    }
    for field, value in said.items():
        if value != planned[field]:
            reason = f"user {user.name!r} has {field} {value}, but the scenario says {planned[field]}"
            raise Refused("INVALID_ARGUMENT", reason)
    _agree_on_codings(join, user)


def _agree_on_codings(join: pb.Join, user: UserPlan) -> None:
    for phase, spec in zip(PHASES, (user.features, user.outputs, user.gradient, user.feature_gradient), strict=True):
        said, planned = getattr(join.codings, phase), spec.described
        if said != planned:
            reason = f"user {user.name!r} has codings.{phase} {_words(said)}, but the scenario says {_words(planned)}"
            raise Refused("INVALID_ARGUMENT", reason)


def _words(coding: pb.Coding) -> str:
    kind = pb.DType.Name(coding.dtype) if coding.dtype in pb.DType.values() else str(coding.dtype)
    numbers = "whole" if coding.dtype == pb.DTYPE_UNSPECIFIED else kind
    return f"{numbers}, {coding.kept} kept" if coding.kept else numbers
