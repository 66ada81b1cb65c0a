"""golden.yaml gives the golden trace of maths.md A3 over every transport, to every printed digit."""

from pathlib import Path

import numpy as np
import pytest
import yaml

import reference as ref
import runs

HALF_DIGIT = {"rtol": 0, "atol": 5.1e-7}


@pytest.mark.parametrize("transport", ["memory", "grpc", "ray"])
def test_golden_trace(run_on_ray, tmp_path: Path, transport: str) -> None:
    tree = yaml.safe_load(runs.GOLDEN.read_text())
    for user in tree["users"]:
        user["task"]["path"] = str(runs.GOLDEN.parent / user["task"]["path"])
    result = run_on_ray(tmp_path, tree, transport)
    with np.load(result.folder / "parameters.npz") as found:
        assert {name: found[name].shape for name in found.files} == {
            "theta": (2, 4, 2),
            "x": (3, 2),
            "w": (2, 4, 2),
            "theta_star": (2, 2),
        }
        np.testing.assert_allclose(found["theta"][:, :3], ref.GOLDEN_THETA, **HALF_DIGIT)
        np.testing.assert_allclose(found["w"][:, :3], ref.GOLDEN_W, **HALF_DIGIT)
        np.testing.assert_allclose(found["theta_star"], ref.GOLDEN_STARS, **HALF_DIGIT)
        np.testing.assert_allclose(found["x"], [[0, 0], ref.GOLDEN_STARS[0], ref.GOLDEN_X3], **HALF_DIGIT)
    # the bits of this machine type are not ours to print, but the three transports must agree on them
    assert result.digest == run_on_ray(tmp_path / "again", tree, "memory").digest
