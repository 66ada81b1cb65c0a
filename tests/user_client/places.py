"""Where the users of these tests stand."""

from pathlib import Path

from pydantic import TypeAdapter

from user_client import config as settings
from user_client.tasks import build_task
from user_client.tasks.base import Place, Task


def place(**changes) -> Place:
    usual = {
        "name": "a",
        "index": 0,
        "users": 2,
        "rounds": 4,
        "slots": 6,
        "seed": 11,
        "shared_seed": 5,
        "folder": Path(),
    }
    return Place(**{**usual, **changes})


def task(config: dict, **changes) -> Task:
    return build_task(TypeAdapter(settings.Task).validate_python(config), place(**changes))


def user_config(task: dict, head: dict, front: dict | str = "none", adversary=()) -> settings.User:
    return settings.User.model_validate(
        {"name": "a", "task": task, "head": head, "front": front, "adversary": adversary}
    )
