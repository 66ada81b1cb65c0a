"""The processes of a run as plain classes: one edge, and hosts that carry users. Ray wraps them in `sim.cluster`.

Ray's workers import the classes from here, and all that they stand on with them.
"""

from sim.allocator import nothing_collected

with nothing_collected():
    from sim.actors.edge import EdgeActor
    from sim.actors.host import HostActor
    from sim.actors.news import News

__all__ = ["EdgeActor", "HostActor", "News"]
