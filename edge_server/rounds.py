"""Algorithm 1 of OWO-FMTL: rounds, slots, and the three updates. Nothing here knows how users are reached."""

import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from time import perf_counter
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from edge_server.aggregators import Aggregator, Slot
from edge_server.air import Air
from edge_server.boundary import Boundary, Keeper, Remembered, given_back
from edge_server.cell import Cell
from edge_server.compute import Compute
from edge_server.domains import Domain
from edge_server.judge import RunFailed
from edge_server.last_heard import LastHeard
from edge_server.messages import Feedback
from edge_server.outer import Hindsight, OuterLoop, OwnOuter, ServedMean
from edge_server.parameter_free import Descent, Learner
from edge_server.primal_dual import cap_gradient, primal_step
from edge_server.radio.radio import Radio
from edge_server.record import ABSENT, APPLIED, LATE, REJECTED, Event, Floats, RoundRecord, Trace
from edge_server.referee import Referee, Seen
from edge_server.robust import Robust
from edge_server.scoring import Scorer
from edge_server.shared_model import SharedModel
from edge_server.state import Flat
from edge_server.step_size import Guess
from edge_server.under_way import UnderWay

Oracle = Callable[[int], Hindsight]
"""Gives round t's best model in hindsight; exists only where a simulation knows all users' data."""


@dataclass(frozen=True)
class InnerStep:
    """Eq. (5)'s step eta, its domain Theta, and the largest norm of a weighted gradient (None: no cap).

    guess: where eta is that of a guessed D*. limit: what eta may not exceed (None: no limit).
    """

    eta: float
    domain: Domain
    cap: float | None
    guess: Guess | None = None
    limit: float | None = None

    def after(self, x: Tensor, theta_star: Tensor) -> "InnerStep":
        """The step of the next round, after one from x [d] to theta_star [d]; only a guess can change."""
        if self.guess is None:
            return self
        guess = self.guess.after(x, theta_star)
        eta = guess.eta if self.limit is None else min(guess.eta, self.limit)
        return replace(self, eta=eta, guess=guess)


@dataclass
class Rounds:
    """A run at the edge. State between slots: `model` (theta), `duals` (w), `outer` (x), and `learner` if there is one.

    robust: stands in the place of the weighted sum of the users' gradients.
    learner: takes the place of `inner.eta`, and gives `outer`, whose rule is then `continue`, its target.
    before_round: waits for what a round needs from beside the slots; False where the run is to stop first.
    pause: awaited before slot i of round t, which may begin when it returns.
    keeper: who saves the run. boundary: the last one where it could be saved, None without a keeper.
    referee: takes notes of what the edge sees.
    """

    cell: Cell
    model: SharedModel
    aggregator: Aggregator
    outer: OuterLoop | OwnOuter
    inner: InnerStep
    target: Literal["last", "average", "oracle"]
    scorer: Scorer
    compute: Compute
    on_round: Callable[[RoundRecord], None]
    on_event: Callable[[Event], None]
    robust: Robust | None = None
    oracle: Oracle | None = None
    learner: Learner | None = None
    trace: bool = False
    radio: Radio | None = None
    before_round: Callable[[int], Awaitable[bool]] | None = None
    pause: Callable[[int, int], Awaitable[None]] | None = None
    keeper: Keeper | None = None
    referee: Referee | None = None

    def __post_init__(self) -> None:
        plan = self.cell.plan
        self.duals = self.aggregator.start(len(plan.users))
        self._l_max = np.array([user.l_max for user in plan.users])
        self._present = self.cell.present
        self.boundary: Boundary | None = None
        self._left: Mapping[str, Tensor] | None = None
        self._air = Air(self.cell, self.radio, self.on_event)
        names = [user.name for user in plan.users]
        self._last = LastHeard(names) if self.radio and self.radio.late == "stale" else None

    async def run(self) -> list[bytes]:
        """All rounds; SHA-256 of every user's parameters, in scenario order. Raises RunFailed."""
        await self.cell.assemble()
        await self._ready(self.cell.plan.first)
        for t in range(self.cell.plan.first, self.cell.plan.rounds):
            await self.round(t)
            if self.cell.stopping:
                break
            if self.keeper and self.boundary and t + 1 < self.cell.plan.rounds and self.keeper.due(0):
                await self.keeper.keep(self.boundary)
        return await self.cell.farewell()

    async def round(self, t: int) -> None:
        """Round t: m slots from x_t, then the outer step (7)."""
        under_way, first = self._begin(t)
        record = under_way.record
        for i in range(first, self.cell.plan.slots):
            if self.pause is not None:
                await self.pause(t, i)
            if self.target == "average":
                under_way.served = under_way.served.add(self.model.live_theta)
            await self.slot(t, i, record)
            await self._keep(t, i + 1, under_way)
            if self.cell.stopping:
                return
        self._rest(record)
        await self._validate(t, record)
        hindsight = await self.compute(self._end, t, under_way.served)
        self._finish(record, hindsight)
        if self.keeper:
            self._mark(t + 1)
        self.cell.end_round(t, stop=t + 1 == self.cell.plan.last or not await self._ready(t + 1))

    def _begin(self, t: int) -> tuple[UnderWay, int]:
        """Round t at x_t, or as it was left in its midst, and the slot that comes first."""
        record = RoundRecord.empty(t, self.cell.plan.slots, len(self.cell.plan.users))
        record.eta = self.inner.eta
        self._air.begin_round(record)
        if self._last:
            self._last.begin_round()
        under_way, left, self._left = UnderWay(record, self._last, self.referee), self._left, None
        if left is None:
            self.model.load(self.outer.x)
            self.duals = self.aggregator.begin_round(self.duals)
        self._start_trace(record)
        if left is not None:
            under_way.restore(left)
        return under_way, 0 if left is None else self.cell.plan.first_slot

    async def _keep(self, t: int, i: int, under_way: UnderWay) -> None:
        """Before slot i: saves the run if it is due, and remembers where it stands if it is to stop."""
        if self.keeper is None:
            return
        if self.cell.stopping:
            self._mark(t, i, under_way.state)
        elif i < self.cell.plan.slots and self.keeper.due(i):
            self.cell.post.let_go()
            await self.keeper.keep(self._mark(t, i, under_way.state))

    def _mark(self, t: int, i: int = 0, under_way: Callable[[], Flat] = dict) -> Boundary:
        residuals, cell = self.scorer.residuals, self.cell
        strikes = cell.strikes if i else (cell.strikes[1], cell.strikes[1])
        of_cell = cell.post.owed, strikes, cell.tally, cell.door
        self.boundary = Boundary(t, i, self._remembered, residuals, len(residuals), *of_cell, under_way)
        return self.boundary

    async def _ready(self, t: int) -> bool:
        """Round t may begin, if there is one."""
        return self.before_round is None or t == self.cell.plan.rounds or await self.before_round(t)

    async def slot(self, t: int, i: int, record: RoundRecord) -> None:
        """Slot i: serve theta_i, learn what it was worth, then both steps from the old values.

        Users who wait for no gradient take their own steps, and make their next features, beside the edge's.
        """
        started = perf_counter()
        features = self._air.features(i, await self.cell.features(t, i))
        self._present = self.cell.present
        forward = perf_counter()
        outputs = await self.compute(self.model.forward, features)
        if (usable := self.cell.usable(features, outputs, finite=self.model.finite)) is not features:
            outputs = await self.compute(self.model.forward, usable)
        sent = perf_counter()
        feedback = self._air.feedback(i, await self.cell.feedback(t, i, outputs), self.cell.answered - sent)
        backward, received = perf_counter(), feedback
        feedback = await self._with_last(record.round, i, usable, feedback)
        if not self.cell.plan.trains_fronts:
            self.cell.acknowledge(t, i)
        feature_gradients = await self.compute(self._step, i, feedback, record)
        done = perf_counter()
        record.t_edge[i] = sent - forward + done - backward
        record.t_user[i] = np.where(self.cell.answered < sent, math.nan, self.cell.answered - sent)
        if self.cell.plan.trains_fronts:
            self.cell.acknowledge(t, i, feature_gradients)
        record.account(i, self.cell.tally.take())
        record.t_slot[i] = perf_counter() - started
        await self._air.end(i, record, sent - forward, done - backward)
        if self.referee is not None:
            gradients = [None if f is None else f.gradient for f in received]
            await self.compute(self.referee.slot, t, i, Seen(usable, outputs, gradients))

    async def _with_last(
        self, t: int, i: int, features: Sequence[Tensor | None], feedback: Sequence[Feedback | None]
    ) -> Sequence[Feedback | None]:
        """`feedback`, with what late users said last in this round; the graph is then that of what is used."""
        if self._last is None:
            return feedback
        self._last.keep(i, features, feedback)
        filled = self._last.filled(np.flatnonzero(self._air.late).tolist(), features, feedback)
        for event in filled.events:
            self.on_event({**event, "round": t, "slot": i})
        if filled.events:
            await self.compute(self.model.forward, filled.features)
        return filled.feedback

    def _step(self, i: int, feedback: Sequence[Feedback | None], record: RoundRecord) -> Sequence[Tensor | None]:
        """Eqs. (5) and (9). Returns each user's unweighted feature gradient. A late user's dual weight is held."""
        used = np.array([math.nan if f is None else f.loss for f in feedback])
        losses = np.where(self._air.late, math.nan, used)
        utilities = torch.from_numpy(self._l_max - losses)
        gradients = [None if f is None else f.gradient for f in feedback]
        slot = Slot(torch.from_numpy(losses), utilities, partial(self.model.gramian, gradients))
        w = self._weights(slot, record.round, i)
        exact = self.learner is not None and self.learner.curvature == "exact"
        per_user = self.model.user_gradients(gradients) if exact else None
        gradient = self._combined(gradients, w, record)
        self._primal_step(gradient, w, torch.from_numpy(used), per_user, record, i)
        self.duals = self.aggregator.step(self.duals, slot)
        self._write(record, i, used, slot, w)
        return self.model.feature_gradients()

    def _weights(self, slot: Slot, t: int, i: int) -> Tensor:
        try:
            return self.aggregator.weights(self.duals, slot)
        except ValueError as error:
            raise RunFailed(f"edge.aggregator has no weights in round {t}, slot {i}: {error}") from error

    def _combined(self, gradients: Sequence[Tensor | None], w: Tensor, record: RoundRecord) -> Tensor:
        """sum_k -w_k g_k [d], or what a robust rule makes of these contributions."""
        if self.robust is None:
            return self.model.backward(gradients, w)
        combined = self.robust(self.model, gradients, w)
        if combined.held_back is not None:
            record.held_back = np.nan_to_num(record.held_back) + combined.held_back.numpy()
        return combined.gradient

    def _primal_step(
        self, gradient: Tensor, w: Tensor, losses: Tensor, per_user: Tensor | None, record: RoundRecord, i: int
    ) -> None:
        norm = float(torch.linalg.vector_norm(gradient))
        if not math.isfinite(norm):
            norm = float(torch.linalg.vector_norm(gradient, dtype=torch.float64))
        if not math.isfinite(norm):
            raise _diverged("the weighted gradient", record.round, i)
        record.gradient_norm = max(record.gradient_norm, norm)
        if self.inner.cap is not None:
            gradient, capped = cap_gradient(gradient, self.inner.cap)
            record.capped += capped
        if self.learner is None:
            theta = primal_step(self.model.live_theta, gradient, self.inner.eta, self.inner.domain)
        else:
            descent = Descent.of(gradient.cpu(), w, losses, per_user)
            theta, self.learner = self.learner.step(self.model.theta, descent, self.inner.domain)
            record.eta, record.pull = self.learner.eta, self.learner.pull
        if not math.isfinite(theta.sum().item()) and not bool(theta.isfinite().all()):
            raise _diverged("theta after the step", record.round, i)
        self.model.load(theta)

    def _rest(self, record: RoundRecord) -> None:
        """A learner leaves an average of the round behind."""
        if self.learner is not None:
            self.model.load(self.learner.average)
            if record.trace is not None:
                record.trace.theta[-1] = self.model.theta.numpy()

    async def _validate(self, t: int, record: RoundRecord) -> None:
        features = await self.cell.validation_features()
        outputs = [None if x is None else await self.compute(self._evaluate, x) for x in features]
        usable = self.cell.usable(features, outputs, finite=False)
        outputs = [None if x is None else y for x, y in zip(usable, outputs, strict=True)]
        for k, report in enumerate(await self.cell.reports(t, outputs)):
            if report is not None:
                record.val_loss[k], record.val_accuracy[k] = report
        record.left_out[-1] = self.cell.left_out

    def _evaluate(self, features: Tensor) -> Tensor | None:
        return self.model.evaluate([features])[0]

    def _end(self, t: int, served: ServedMean) -> Hindsight | None:
        """The outer step, and the best model in hindsight where somebody knows it."""
        hindsight = self.oracle(t) if self.oracle else None
        self._outer_step(served, hindsight)
        return hindsight

    def _outer_step(self, served: ServedMean, hindsight: Hindsight | None) -> None:
        x, theta_star = self.outer.x, self._theta_star(served, hindsight)
        if self.learner is not None:
            self.learner = self.learner.after(theta_star)
        try:
            self.outer = self.outer.next(theta_star if self.learner is None else self.learner.x)
        except FloatingPointError as error:
            raise RunFailed(str(error)) from error
        self.inner = self.inner.after(x, theta_star)

    def _theta_star(self, served: ServedMean, hindsight: Hindsight | None) -> Tensor:
        if self.target == "average":
            return served.mean().cpu()
        if self.target == "oracle" and hindsight is not None:
            return hindsight.theta
        return self.model.theta

    def _write(self, record: RoundRecord, i: int, used: Floats, slot: Slot, w: Tensor) -> None:
        """used [K]: losses of those whose gradient was used; a late user's last one counts there, and not in `slot`."""
        record.loss[i] = losses = slot.losses.numpy()
        unheard = np.isnan(losses)
        record.utility[i] = slot.utilities.numpy()
        record.weight[i] = np.where(np.isnan(used), np.nan, -w.numpy())
        record.out_of_range[i] = self.aggregator.fairness.out_of_range(slot.utilities).numpy()
        missed = np.where(self._air.late, LATE, REJECTED)
        record.status[i] = np.where(self._present, np.where(unheard, missed, APPLIED), ABSENT)
        record.left_out[i] = self.cell.left_out
        if record.trace is not None:
            record.trace.w[i] = w.numpy()
            record.trace.theta[i + 1] = self.model.theta.numpy()

    def _start_trace(self, record: RoundRecord) -> None:
        if self.trace:
            slots, users = record.loss.shape
            theta = np.empty((slots + 1, len(self.outer.x)))
            theta[0] = self.model.theta.numpy()
            record.trace = Trace(theta, np.empty((slots + 1, users)), self.outer.x.numpy())

    def _finish(self, record: RoundRecord, hindsight: Hindsight | None) -> None:
        if not (record.status == APPLIED).any():
            raise RunFailed(
                f"round {record.round} had no slot that could be used: every user was rejected or late in all of them; "
                "raise `deadline` if they were late"
            )
        self.scorer.score(record, hindsight)
        record.returns = self.cell.door.take()
        record.leaks = None if self.referee is None else self.referee.take()
        self._air.end_round(record.round)
        if record.capped:
            self.on_event({"event": "capped", "round": record.round, "slots": record.capped})
        if record.trace is not None:
            nobody = Slot.of(torch.full_like(self.duals.w, math.nan), 0.0)
            record.trace.w[-1] = self.aggregator.weights(self.duals, nobody).numpy()
            record.trace.x_next = self.outer.x.numpy()
            record.trace.theta_star = None if hindsight is None else hindsight.theta.numpy()
        self.on_round(record)

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Goes on from a boundary's state. Raises OtherShape when it is that of another run."""
        found, self.scorer.residuals, owed = given_back(self._remembered, state)
        self.outer, self.duals, self.learner = found.outer, found.duals, found.learner
        self.inner = replace(self.inner, eta=found.eta, guess=found.guess)
        self.model.load(found.theta)
        self.cell.post.owe(owed)
        self.cell.tally.restore(state)
        self.cell.door.restore(state)
        self._left = state if self.cell.plan.first_slot else None
        if self.radio:
            self.radio.clock = found.clock

    @property
    def _remembered(self) -> Remembered:
        clock = self.radio.clock if self.radio else 0.0
        inner = self.inner
        return Remembered(self.outer, self.duals, inner.eta, inner.guess, self.learner, self.model.theta, clock)


def _diverged(what: str, t: int, i: int) -> RunFailed:
    advice = "lower edge.primal.step or set edge.primal.cap"
    return RunFailed(f"{what} of round {t}, slot {i} is not finite; nothing was changed: {advice}")
