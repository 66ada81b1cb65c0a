"""What a process needs to build its part of a run, as one line of JSON: nothing is pickled."""

import json
from dataclasses import asdict
from typing import Any

import torch

from edge_server.participation import Draw
from edge_server.plan import RunPlan, UserPlan
from protos.codings import Codings
from sim.build import Blueprint
from sim.scenario import Scenario
from sim.step import Step


def to_recipe(design: Blueprint, step: Step) -> str:
    """The design of a run and its inner step as JSON; without a state to go on from, which is bytes beside it."""
    plan = asdict(design.plan)
    for user in plan["users"]:
        user["dtype"] = str(user["dtype"]).removeprefix("torch.")
    scenario = design.scenario.model_dump(mode="json", by_alias=True)
    content = {"scenario": scenario, "plan": plan, "step": step.to_dict()}
    return json.dumps(content)


def from_recipe(recipe: str) -> tuple[Blueprint, Step]:
    """The design and the step that `to_recipe` wrote."""
    content = json.loads(recipe)
    plan = content["plan"]
    users = tuple(_user_plan(user) for user in plan.pop("users"))
    draw = plan.pop("draw")
    planned = RunPlan(users=users, draw=draw and Draw(**draw), **plan)
    return Blueprint(Scenario.model_validate(content["scenario"]), planned), Step.from_dict(content["step"])


def _user_plan(user: dict[str, Any]) -> UserPlan:
    user |= {name: tuple(user[name]) for name in ("feature_shape", "output_shape", "away")}
    codings = Codings.from_dict(user["codings"])
    return UserPlan(**{**user, "dtype": getattr(torch, user["dtype"]), "codings": codings})
