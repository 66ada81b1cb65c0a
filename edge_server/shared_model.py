"""The encoder as the edge runs it: one batched pass over all users, one weighted backward pass, O(d) memory."""

import hashlib
import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from edge_server.device import PerUser, Staging
from protos.cut import along

_DIVISIBLE = 1e-12
"""A weight below this is not divided out of a feature gradient."""


class SharedModel:
    """Owns an encoder whose parameters are views of one flat theta [d], and their gradients of one flat [d].

    A slot is forward, backward, and feature gradients if asked for. The encoder must not mix samples
    (`encoder_checks`). Parameter order is the encoder's own. finite: all outputs of the last `forward` are.
    device: where theta, its gradient and the passes are; what users sent and are sent is on the CPU.
    """

    def __init__(self, encoder: nn.Module, feature_gradients: bool, device: str = "cpu") -> None:
        """Raises NoDevice."""
        self._staging = Staging(device)
        self._encoder = encoder.to(device)
        self._with_feature_gradients = feature_gradients
        self._theta, self._gradient = _flatten(encoder)
        self._linear = encoder if type(encoder) is nn.Linear and not feature_gradients else None
        self._sizes: list[int] = []
        self._counts = torch.tensor(self._sizes)
        self._features: Tensor | None = None
        self._outputs: Tensor | None = None
        self._unweighted: PerUser = []
        self._gramian: Tensor | None = None
        self.finite = True

    @property
    def theta(self) -> Tensor:
        """A copy of the parameters [d], in the run's type, on the CPU."""
        return self._theta.to("cpu", copy=True)

    @property
    def live_theta(self) -> Tensor:
        """The parameters [d] themselves, where the encoder is, to be read before they change."""
        return self._theta

    def load(self, theta: Tensor) -> None:
        """Sets the parameters from theta [d], any floating type; forgets a slot that was not finished."""
        if theta.shape != self._theta.shape:
            raise ValueError(f"theta has shape {list(theta.shape)}; this encoder takes {list(self._theta.shape)}")
        self._theta.copy_(theta)
        self._outputs = self._features = None

    def digest(self) -> bytes:
        """SHA-256 of the parameters, little-endian, in the encoder's own order: 32 bytes."""
        values = self._theta.cpu().numpy()
        return hashlib.sha256(values.astype(values.dtype.newbyteorder("<")).tobytes()).digest()

    def forward(self, features: Sequence[Tensor | None]) -> PerUser:
        """Outputs [B_k, ...] of every present user from features [B_k, ...], in one pass over the joined batch.

        Users may differ in B_k. The graph is kept for one `backward`.
        """
        self._outputs = self._features = self._gramian = None
        self._set_sizes([0 if f is None else f.shape[0] for f in features])
        joined = self._up(features)
        if joined is None:
            return [None] * len(features)
        if self._with_feature_gradients:
            joined = joined.detach().requires_grad_()
        with torch.set_grad_enabled(self._linear is None):
            self._features, self._outputs = joined, self._encoder(joined)
        outputs = self._staging.down(self._outputs.detach())
        self.finite = math.isfinite(outputs.sum().item()) or bool(outputs.isfinite().all())
        return _split(outputs, self._sizes, features)

    def evaluate(self, features: Sequence[Tensor | None]) -> PerUser:
        """Outputs as in `forward`, without a graph; a slot under way is left alone."""
        joined = self._up(features)
        if joined is None:
            return [None] * len(features)
        with torch.no_grad():
            outputs = self._staging.down(self._encoder(joined))
        return _split(outputs, [0 if f is None else f.shape[0] for f in features], features)

    def backward(self, output_gradients: Sequence[Tensor | None], weights: Tensor) -> Tensor:
        """Gradient [d] of sum_k -w_k loss_k where the encoder is, in one pass; valid until the next `backward`.

        output_gradients: dloss_k/doutput_k [B_k, ...], None for a user that dropped out (its weight is not read).
        weights [K]: w, below 0 for descent. Raises RuntimeError without a `forward` since the last call or `load`,
        ValueError on a gradient whose shape is not that of the user's outputs.
        """
        self._gradient.zero_()
        self._unweighted = [None] * len(output_gradients)
        outputs, inputs = self._outputs, self._features
        self._outputs = self._features = None
        if all(g is None for g in output_gradients):
            return self._gradient
        if outputs is None or inputs is None:
            raise RuntimeError("backward needs a forward pass first: no outputs are waiting for gradients")
        scale = self._row_weights(output_gradients, weights, outputs.dtype)
        joined = self._joined(output_gradients, outputs)
        exact = self._exact_feature_gradients(outputs, inputs, joined, scale)
        self._differentiate(outputs, inputs, self._staging.up([joined * _beside(scale, joined)]))
        if inputs.grad is not None:
            unweighted = self._staging.down(inputs.grad) / _beside(scale, inputs) if exact is None else exact
            self._unweighted = _split(unweighted, self._sizes, output_gradients)
        return self._gradient

    def _differentiate(self, outputs: Tensor, inputs: Tensor, slopes: Tensor) -> None:
        """Gradients of all parameters from slopes [N, ...] at the outputs; of one linear layer without a graph."""
        if self._linear is None:
            torch.autograd.backward(along(outputs, slopes))
            return
        for parameter, gradient in zip(self._linear.parameters(), (slopes.T @ inputs, slopes.sum(0)), strict=False):
            _known(parameter.grad).copy_(gradient)

    def gramian(self, output_gradients: Sequence[Tensor | None]) -> Tensor:
        """Inner products [K, K] float64 of the users' gradients of their own losses; zeros where no gradient is given.

        Asked for between `forward` and `backward`, else RuntimeError; what follows is left alone, and asked again it is
        the same. Every user's rows go through the encoder once more by themselves, for each group of parameters, and a
        group is at most as large as the largest parameter p: K^2 + K p numbers in float64 are held, not K d.
        """
        if self._gramian is None:
            self._gramian = self._inner_products(output_gradients)
        return self._gramian

    def _inner_products(self, output_gradients: Sequence[Tensor | None]) -> Tensor:
        if self._features is None or self._outputs is None:
            raise RuntimeError("the Gramian needs a forward pass first: no outputs are waiting for gradients")
        self._check_shapes(output_gradients, self._outputs)
        features = self._features.detach().split_with_sizes(self._sizes)
        gradients = self._staging.each(output_gradients)
        rows = [(x, g) for x, g in zip(features, gradients, strict=True) if g is not None]
        given = torch.tensor([g is not None for g in output_gradients])
        total = torch.zeros(len(given), len(given), dtype=torch.float64)
        groups = [(group, sum(p.numel() for p in group)) for group in _groups(list(self._encoder.parameters()))]
        room = self._theta.new_empty(len(rows) * max(size for _, size in groups), dtype=torch.float64)
        for group, size in groups:
            found = room[: len(rows) * size].view(len(rows), size)
            total[given.outer(given)] += self._products(rows, group, found).flatten()
        return total

    def user_gradients(self, output_gradients: Sequence[Tensor | None]) -> Tensor:
        """The users' gradients of their own losses [K, d], in the run's type, on the CPU; zeros where none is given.

        Between `forward` and `backward`, whose graph is left alone; RuntimeError without one. K d numbers are held.
        """
        found = self._theta.new_zeros(len(output_gradients), self._theta.numel())
        for k, slopes in self._slopes(output_gradients):
            found[k].copy_(torch.cat([slope.reshape(-1) for slope in slopes]))
        return found.cpu()

    def gradient_norms(self, output_gradients: Sequence[Tensor | None]) -> Tensor:
        """The norms of the users' gradients of their own losses [K] float64, as `user_gradients`, in O(d) memory."""
        found = torch.zeros(len(output_gradients), dtype=torch.float64)
        for k, slopes in self._slopes(output_gradients):
            parts = [torch.linalg.vector_norm(slope, dtype=torch.float64) for slope in slopes]
            found[k] = torch.linalg.vector_norm(torch.stack(parts))
        return found

    def _slopes(self, output_gradients: Sequence[Tensor | None]) -> Iterator[tuple[int, Sequence[Tensor]]]:
        """k, and the gradients of all parameters from user k's own rows alone, of each user that gives one."""
        if self._features is None or self._outputs is None:
            raise RuntimeError("users' gradients need a forward pass first: no outputs are waiting for gradients")
        self._check_shapes(output_gradients, self._outputs)
        features = self._features.detach().split_with_sizes(self._sizes)
        parameters = list(self._encoder.parameters())
        for k, (x, gradient) in enumerate(zip(features, self._staging.each(output_gradients), strict=True)):
            if gradient is not None:
                yield k, torch.autograd.grad(along(self._encoder(x), gradient), parameters, materialize_grads=True)

    def _products(self, rows: list[tuple[Tensor, Tensor]], group: list[nn.Parameter], found: Tensor) -> Tensor:
        """Inner products [P, P] in a group of parameters; rows: features and output gradients of P users.

        found [P, p], float64: room for the gradients.
        """
        for row, (x, gradient) in zip(found, rows, strict=True):
            slopes = torch.autograd.grad(along(self._encoder(x), gradient), group, materialize_grads=True)
            row.copy_(torch.cat([slope.reshape(-1) for slope in slopes]))
        return (found @ found.T).cpu()

    def _exact_feature_gradients(self, outputs: Tensor, inputs: Tensor, joined: Tensor, scale: Tensor) -> Tensor | None:
        """dloss/dinput [N, ...] by a pass of its own, where a weight is too small to be divided out; else None."""
        if not inputs.requires_grad or float(scale.abs().min()) >= _DIVISIBLE:
            return None
        slopes = self._staging.up([joined])
        return self._staging.down(torch.autograd.grad(along(outputs, slopes), inputs, retain_graph=True)[0])

    def feature_gradients(self) -> PerUser:
        """dloss_k/dfeatures_k [B_k, ...] of the last `backward`, unweighted: divided by -w_k (maths.md A2.15).

        A weight of 0, or next to it, costs one more pass. None for users that gave no output gradient, and for
        everyone when they were not asked for.
        """
        return self._unweighted

    def _set_sizes(self, sizes: list[int]) -> None:
        if sizes != self._sizes:
            self._sizes, self._counts = sizes, torch.tensor(sizes)

    def _row_weights(self, given: Sequence[Tensor | None], weights: Tensor, dtype: torch.dtype) -> Tensor:
        """-w of every row's user [N]; 1 for a user that dropped out."""
        scale = -weights
        dropped = [g is None for g in given]
        if True in dropped:
            scale = torch.where(torch.tensor(dropped), 1.0, scale)
        return scale.to(dtype).repeat_interleave(self._counts, output_size=sum(self._sizes))

    def _up(self, features: Sequence[Tensor | None]) -> Tensor | None:
        present = [f for f in features if f is not None]
        return self._staging.up(present) if present else None

    def _joined(self, given: Sequence[Tensor | None], outputs: Tensor) -> Tensor:
        """The output gradients of all rows [N, ...], on the CPU; zeros for a user that dropped out."""
        self._check_shapes(given, outputs)
        blocks = [
            torch.zeros(size, *outputs.shape[1:], dtype=outputs.dtype) if gradient is None else gradient
            for gradient, size in zip(given, self._sizes, strict=True)
            if size
        ]
        return torch.cat(blocks)

    def _check_shapes(self, given: Sequence[Tensor | None], outputs: Tensor) -> None:
        row = outputs.shape[1:]
        for k, (gradient, size) in enumerate(zip(given, self._sizes, strict=True)):
            if gradient is not None and gradient.shape != (size, *row):
                raise ValueError(
                    f"user {k}: output gradient has shape {list(gradient.shape)}, its outputs {[size, *row]}"
                )


def _flatten(encoder: nn.Module) -> tuple[Tensor, Tensor]:
    """Moves all parameters and their gradients into one flat tensor each; the encoder then only views them."""
    parameters = list(encoder.parameters())
    theta = torch.cat([p.detach().reshape(-1) for p in parameters])
    gradient = torch.zeros_like(theta)
    sizes = [p.numel() for p in parameters]
    for parameter, values, slopes in zip(
        parameters, theta.split_with_sizes(sizes), gradient.split_with_sizes(sizes), strict=True
    ):
        shape = parameter.shape
        parameter.data = values.view(shape)
        parameter.grad = slopes.view(shape)
    return theta, gradient


def _known(gradient: Tensor | None) -> Tensor:
    assert gradient is not None
    return gradient


def _groups(parameters: list[nn.Parameter]) -> list[list[nn.Parameter]]:
    """All parameters in few groups, largest first, none larger than the largest parameter."""
    limit = max(parameter.numel() for parameter in parameters)
    groups: list[list[nn.Parameter]] = []
    for parameter in sorted(parameters, key=lambda p: -p.numel()):
        room = (g for g in groups if sum(p.numel() for p in g) + parameter.numel() <= limit)
        fitting = next(room, None)
        if fitting is None:
            groups.append([parameter])
        else:
            fitting.append(parameter)
    return groups


def _split(joined: Tensor, sizes: list[int], wanted: Sequence[Tensor | None]) -> PerUser:
    blocks = iter(joined.split_with_sizes([size for size in sizes if size]))
    found = [next(blocks) if size else None for size in sizes]
    return [None if w is None else block for w, block in zip(wanted, found, strict=True)]


def _beside(scale: Tensor, rows: Tensor) -> Tensor:
    """scale [N] shaped to multiply rows [N, ...]."""
    return scale.view(-1, *(1,) * (rows.ndim - 1))
