"""Tasks: one seeded stream of jobs per file. Yours by `module:Class`, called with its Place and `args`."""

from functools import partial

from user_client import config as settings
from user_client.custom import build_custom
from user_client.tasks.arrays import Arrays
from user_client.tasks.base import Place, Task
from user_client.tasks.checks import check_task
from user_client.tasks.kernel_regression import KernelRegression
from user_client.tasks.rainbow import Rainbow


def build_task(config: settings.Task, place: Place) -> Task:
    """The task that `config` describes, for the user at `place`.

    Raises ValueError or FileNotFoundError with one line where the data do not fit the scenario or are missing.
    """
    match config:
        case settings.KernelRegression():
            return KernelRegression(config, place)
        case settings.Rainbow():
            return Rainbow(config, place)
        case settings.Arrays():
            return Arrays(config, place)
        case settings.Custom():
            task: Task = build_custom(config, "task", place, check=partial(check_task, place=place))
            return task
