"""Whether a server task can be trained here, before anything starts."""

from edge_server.power_config import RoutedMtl
from edge_server.routed_mtl.publishing import publish
from edge_server.routed_mtl.samples import draw_samples
from edge_server.routed_mtl.training import Trainer


def rehearsed(task: RoutedMtl, seed: int) -> Trainer:
    """A trainer on two samples of each of its tasks, which shows that they can be built, trained on and published.

    Raises ValueError or NotConverged, one line, where they cannot.
    """
    tasks, design = task.built_tasks(), task.design(seed)
    trainer = Trainer(tasks, design, draw_samples(tasks, 2, design.seed, design.places))
    publish(trainer)
    return trainer
