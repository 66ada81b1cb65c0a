"""Runs on Ray: it places the edge and the user hosts, watches them and brings the records home.

Only this and `ray_up` know Ray. No tensor of the slot loop goes through Ray; actors are given and give bytes and JSON.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, NoReturn

from safetensors.torch import load, save

from edge_server.judge import RunFailed
from edge_server.state import Flat
from sim import checkpoints
from sim.actors import EdgeActor, HostActor, News
from sim.blueprint import Blueprint, devices
from sim.checkpoints import joined, taken_apart
from sim.keys import keys_of, pack_connections, pack_guard
from sim.local import LOOPBACK, At, Hooks, Outcome, ProcessLost
from sim.placement import Node, node_of_edge, nodes_of_hosts, shares
from sim.ray_up import ray_itself, ray_up
from sim.ray_words import in_one_line, last_line
from sim.reach import Head, listens
from sim.recipe import to_recipe
from sim.step import Step

_POLL = 0.2
"""Seconds between two looks at whether the caller wants to stop."""

_LAST_WORDS = 1.0
"""Seconds to wait for a host's own reason after the edge has lost a user."""

_SIGN_OF_LIFE = 5.0
"""Seconds that a process has to answer, once something has failed; of one that is dead Ray tells sooner."""


_HOST_GRACE, _EDGE_GRACE = 10.0, 60.0
"""Seconds that an actor lives on after a failure, for us to hear of it; then it ends itself, if we no longer can."""


class Cluster:
    """A Ray that is up. `local`: started by us, on this machine alone."""

    def __init__(self, local: bool):
        self._local = local

    @classmethod
    @contextmanager
    def start(cls, address: str | None) -> Iterator["Cluster"]:
        """Start Ray here, or reach the one at `address` (or RAY_ADDRESS); on leaving, nothing of ours is left."""
        address = address or os.environ.get("RAY_ADDRESS")
        with ray_up(address):
            yield cls(local=address is None)

    def run(self, design: Blueprint, step: Step, hooks: Hooks) -> Outcome:
        """All rounds of one run. Raises RunFailed, naming the user or the actor at fault."""
        return _Run(design, step, hooks, self._local).go()


class _Name(NamedTuple):
    """What an actor is called. node: the address of its machine, empty where there is but one."""

    who: str
    node: str

    def __str__(self) -> str:
        return f"{self.who} on node {self.node}" if self.node else self.who


class _Run:
    def __init__(self, design: Blueprint, step: Step, hooks: Hooks, local: bool):
        ray = self._ray = ray_itself()
        self._hooks, self._local = hooks, local
        here = not ray.util.client.ray.is_connected()
        self._head = Head(ray.get_runtime_context().gcs_address) if here else None
        recipe = to_recipe(design, step)
        nodes = _nodes(ray, here)
        edge_node = node_of_edge(nodes, ray.get_runtime_context().get_node_id())
        gpus = _gpus(design, edge_node)
        self._interface = LOOPBACK if local else edge_node.address
        placed = shares(len(design.plan.users), design.scenario.hosts, int(sum(node.cores for node in nodes)) or 1)
        keys = keys_of(design.scenario.security)
        self._guard = pack_guard(keys.guard(self._interface))
        shown = [pack_connections(keys.connections([design.plan.users[k].name for k in share])) for share in placed]
        edge, task, users = _states(design)
        self._edge = self._on(edge_node, EdgeActor, gpus).remote(recipe, edge, task, checkpoints.LEAST, _EDGE_GRACE)
        self._edge_name = self._name("the edge", edge_node)
        self._hosts: dict[Any, _Name] = {}
        self._connections: dict[Any, bytes] = {}
        hosts = zip(placed, nodes_of_hosts(len(placed), nodes, edge_node), shown, strict=True)
        for share, node, connections in hosts:
            host = self._on(node, HostActor).remote(recipe, share, users(share), _HOST_GRACE)
            self._hosts[host] = self._name(f"users {_range(design, share)}", node)
            self._connections[host] = connections
        self._users, self._patience = len(design.plan.users), design.plan.patience
        self._lives: dict[Any, _Name] = {}

    def _on(self, node: Node, actor: type, gpus: int = 0) -> Any:
        """The actor's class, to be made on this node. It asks for no core: the slots' processes wait for each other."""
        pinned = self._ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(node.id, soft=False)
        options = {"num_cpus": 0, "num_gpus": gpus, "max_restarts": 0, "max_concurrency": 4}
        return self._ray.remote(actor).options(**options, scheduling_strategy=pinned)

    def _name(self, who: str, node: Node) -> "_Name":
        return _Name(who, "" if self._local else node.address)

    def go(self) -> Outcome:
        try:
            address = self._made(self._edge.listen.remote(self._interface, self._guard), self._edge_name)
            self._prepare()
            self._tell_places()
            self._lives = {
                host.live.remote(address, self._connections[host]): name for host, name in self._hosts.items()
            }
            self._edge.run.remote()
            return self._watch()
        finally:
            for actor in (self._edge, *self._hosts):
                self._ray.kill(actor)

    def _tell_places(self) -> None:
        for name in (self._edge_name, *self._hosts.values()):
            if name.node:
                self._hooks.on_event({"event": "placed", **name._asdict()})

    def _prepare(self) -> None:
        """Wait until every host has built its users: only then does the edge's patience begin."""
        preparing = {host.prepare.remote(): name for host, name in self._hosts.items()}
        for reference, name in preparing.items():
            if failure := self._made(reference, f"the host of {name}"):
                raise RunFailed(f"node {name.node}: {failure.decode()}" if name.node else failure.decode())

    def _made(self, reference: Any, who: object) -> bytes:
        """What `who` says once it is there, which may take long: a GPU may be busy, users may be many."""
        while not self._ray.wait([reference], timeout=_POLL)[0]:
            if self._hooks.stop():
                raise RunFailed(f"stopped while {who} was not ready yet: no slot was begun")
        return self._get(reference, who)

    def _watch(self) -> Outcome:
        """Bring home what the edge tells until it is done; a host that fails ends the run."""
        pending = self._edge.news.remote()
        stopping = paused = False
        while True:
            if self._head:
                self._head.check()
            if self._hooks.stop() and not stopping:
                stopping = True
                self._edge.stop.remote()
            if self._hooks.pause() != paused:
                paused = not paused
                self._edge.pause.remote(paused)
            ready, _ = self._ray.wait([pending, *self._lives], num_returns=1, timeout=_POLL)
            for reference in ready:
                if reference != pending:
                    self._check_host(reference)
                    continue
                news = News.unpack(self._get(pending, self._edge_name))
                self._tell(news)
                if news.outcome:
                    return news.outcome
                pending = self._edge.news.remote()

    def _tell(self, news: News) -> None:
        for event in news.events:
            self._hooks.on_event(event)
        for record in news.rounds:
            self._hooks.on_round(record)
        for task in news.tasks:
            if self._hooks.on_task:
                self._hooks.on_task(task)
        if news.boundary and self._hooks.saver:
            at, edge = news.boundary
            self._hooks.saver.save(at, lambda: edge, self._users_at(at))
            self._edge.saved.remote()
        if news.failure:
            self._fail(news.failure)

    def _fail(self, failure: str) -> NoReturn:
        """End the run for this reason, unless a process is gone or a host knows better. Raises RunFailed."""
        silent = self._silent()
        if told := self._host_failure():
            raise RunFailed(told)
        if silent and not self._local:
            raise ProcessLost(f"{failure}; no answer from {', '.join(silent)}")
        raise RunFailed(failure)

    def _users_at(self, at: At) -> list[Flat]:
        """Every user's state before this slot, in scenario order."""
        asked = {host.states.remote(): name for host, name in self._hosts.items()}
        late = f"did not come to {at} within patience ({self._patience:g} s)"
        self._ray.wait([*asked], num_returns=len(asked), timeout=self._patience + _LAST_WORDS)
        found: Flat = {}
        for reference, name in asked.items():
            if not self._ray.wait([reference], timeout=0)[0] or not (
                data := self._get(reference, f"the host of {name}")
            ):
                self._fail(f"{name} {late}")
            found |= load(data)
        return taken_apart(found, self._users)

    def _check_host(self, life: Any) -> None:
        """A user that lost its edge does not know why: it may be dead."""
        if failure := self._get(life, f"the host of {self._lives.pop(life)}"):
            self._silent()
            raise RunFailed(failure.decode())

    def _host_failure(self) -> str | None:
        """Why a user left, where its host knows better than the edge, which only saw the stream break."""
        lives = [*self._lives]
        ended = self._ray.wait(lives, num_returns=len(lives), timeout=_LAST_WORDS)[0] if lives else []
        failures = [self._get(life, f"the host of {self._lives[life]}") for life in ended]
        return next((failure.decode() for failure in failures if failure), None)

    def _silent(self) -> list[str]:
        """Who does not answer: their machines, or the ways to them, may be gone. Raises ProcessLost for who is dead."""
        everybody = {self._edge: str(self._edge_name)}
        everybody |= {host: f"the host of {name}" for host, name in self._hosts.items()}
        asked = {actor.__ray_ready__.remote(): who for actor, who in everybody.items()}
        answered, silent = self._ray.wait([*asked], num_returns=len(asked), timeout=_SIGN_OF_LIFE)
        for reference in answered:
            self._get(reference, asked[reference])
        return [asked[reference] for reference in silent]

    def _get(self, reference: Any, who: object) -> bytes:
        try:
            data: bytes = self._ray.get(reference)
        except self._ray.exceptions.RayTaskError as error:
            raise RunFailed(f"{who} failed: {last_line(error)}") from error
        except self._ray.exceptions.RayError as error:
            if "creation task" in str(error):
                raise RunFailed(f"{who} cannot start: {last_line(error)}") from error
            raise ProcessLost(f"{who} died: {in_one_line(error)}") from error
        return data


def _gpus(design: Blueprint, node: Node) -> int:
    """How many the edge asks for on its node. Raises RunFailed where it has too few."""
    wanted = int(any(device != "cpu" for device in devices(design.scenario)))
    if node.gpus < wanted:
        told = f"the edge is to use a GPU, but Ray knows of none on node {node.address}, where it would go"
        raise RunFailed(f"{told}; give that node one, or set device to cpu in edge and its server_tasks")
    return wanted


def _states(design: Blueprint) -> tuple[bytes, bytes, Callable[[list[int]], bytes]]:
    """What the edge, its server task, and the users of a host go on from; empty at the start of a run."""
    state = design.state
    if state is None:
        return b"", b"", lambda _share: b""
    return save(state.edge), state.task or b"", lambda share: save(joined({k: state.users[k] for k in share}))


def _nodes(ray: Any, here: bool) -> list[Node]:
    """The machines that are up, by the addresses that Ray knows them by. here: we can see for ourselves.

    Ray takes its time to call a machine lost: until then, those that do not listen are left out.
    """
    alive = [node for node in ray.nodes() if node["Alive"]]
    heard = [node for node in alive if here and listens(node["NodeManagerAddress"], node["NodeManagerPort"])]
    return [
        Node(node["NodeID"], node["NodeManagerAddress"], has.get("CPU", 0), has.get("GPU", 0), has.get("edge", 0) > 0)
        for node, has in ((node, node["Resources"]) for node in heard or alive)
    ]


def _range(design: Blueprint, share: list[int]) -> str:
    first, last = design.plan.users[share[0]].name, design.plan.users[share[-1]].name
    return repr(first) if first == last else f"{first!r} to {last!r}"
