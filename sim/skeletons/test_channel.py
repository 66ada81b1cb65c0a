import numpy as np

from edge_server.radio.gains import Site
from edge_server.radio.own import OwnGains
from sim.skeletons.channel import Walking

SITE = Site(seeds=[3, 4], rounds=400, slots=10)


def test_it_passes_the_checks_of_the_edge_in_any_order() -> None:
    one, other = (OwnGains(Walking(SITE), SITE, "channel") for _ in range(2))
    later, first = one.round(7), one.round(0)
    assert np.array_equal(other.round(0), first)
    assert np.array_equal(other.round(7), later)


def test_shadowing_has_its_spread_and_its_memory() -> None:
    fading = Walking(SITE, sigma_db=0.0)
    walking = Walking(SITE, sigma_db=6.0, r=0.9)
    shadow = 10 * np.log10(np.stack([walking.round(t) / fading.round(t) for t in range(SITE.rounds)]))
    assert abs(shadow.std() - 6.0) < 0.5
    correlation = np.corrcoef(shadow[:, 3].ravel(), shadow[:, 4].ravel())[0, 1]
    assert abs(correlation - 0.9) < 0.05
