"""An inner step and an outer loop that need no step size, horizon or scale (docs/decisions/0010-parameter-free.md)."""

from edge_server.parameter_free.descent import Descent
from edge_server.parameter_free.learner import Learner
from edge_server.parameter_free.tangents import Curvature

__all__ = ["Curvature", "Descent", "Learner"]
