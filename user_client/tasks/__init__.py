"""Tasks: one seeded stream of jobs per file. To add one: a config class, a file here, a line in `build_task`."""

from user_client import config as settings
from user_client.tasks.arrays import Arrays
from user_client.tasks.base import Place, Task
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
