"""What a process needs to build its part of a run, as one line of JSON: nothing is pickled."""

import json
from dataclasses import asdict
from typing import Any

import torch

from edge_server.absence import Absence, Log, Return
from edge_server.participation import Draw
from edge_server.plan import RunPlan, UserPlan
from protos.codings import Codings
from sim.blueprint import Blueprint
from sim.fault_schedule import Strike
from sim.scenario import Scenario
from sim.step import Step


def to_recipe(design: Blueprint, step: Step) -> str:
    """The design of a run and its inner step as JSON; without a state to go on from, which is bytes beside it."""
    plan = asdict(design.plan)
    for user in plan["users"]:
        user["dtype"] = str(user["dtype"]).removeprefix("torch.")
    scenario = design.scenario.model_dump(mode="json", by_alias=True)
    content = {"scenario": scenario, "plan": plan, "spent": sorted(design.spent), "step": step.to_dict()}
    return json.dumps(content)


def from_recipe(recipe: str) -> tuple[Blueprint, Step]:
    """The design and the step that `to_recipe` wrote."""
    content = json.loads(recipe)
    plan = content["plan"]
    users = tuple(_user_plan(user) for user in plan.pop("users"))
    draw, absence = plan.pop("draw"), _absence(plan.pop("absence"))
    before, so_far = (tuple(strikes) for strikes in plan.pop("struck"))
    planned = RunPlan(users=users, draw=draw and Draw(**draw), absence=absence, struck=(before, so_far), **plan)
    spent = frozenset(Strike(*strike) for strike in content["spent"])
    scenario = Scenario.model_validate(content["scenario"])
    return Blueprint(scenario, planned, spent=spent), Step.from_dict(content["step"])


def _absence(absence: dict[str, Any]) -> Absence:
    log = absence.pop("log")
    returns = (Return(tuple(at), k, tuple(of)) for at, k, of in log["returns"])
    return Absence(**absence, log=Log(log["rounds"], tuple(tuple(entry) for entry in log["entries"]), tuple(returns)))


def _user_plan(user: dict[str, Any]) -> UserPlan:
    user |= {name: tuple(user[name]) for name in ("feature_shape", "output_shape", "away")}
    codings = Codings.from_dict(user["codings"])
    return UserPlan(**{**user, "dtype": getattr(torch, user["dtype"]), "codings": codings})
