"""How much labels and inputs show in what a user sends: measures of one batch."""

import numpy as np
from numpy.typing import NDArray

from edge_server.record import Floats

Labels = NDArray[np.generic]


def norm_likeness(gradients: Floats) -> Floats:
    """-| ||g_a|| - ||g_b|| | for all pairs of the rows of gradients [B, n]; [B, B]."""
    norms: Floats = np.linalg.norm(gradients, axis=1)
    apart: Floats = np.abs(norms[:, None] - norms)
    return -apart


def direction_likeness(gradients: Floats) -> Floats:
    """The cosine between all pairs of the rows of gradients [B, n]; [B, B], 0 with a row that is 0."""
    norms = np.linalg.norm(gradients, axis=1, keepdims=True)
    unit: Floats = np.divide(gradients, norms, out=np.zeros_like(gradients), where=norms > 0)
    cosines: Floats = unit @ unit.T
    return cosines


def label_auc(likeness: Floats, labels: Labels) -> float:
    """What one known label is worth: the others are ranked by how alike they are to that sample.

    likeness [B, B], labels [B]. The AUC of that ranking for "has the same label", mean over the samples that have both
    kinds beside them; .5 is chance, whatever the shares of the labels. NaN where no sample has. The attacks by norm and
    by direction of Li et al., "Label leakage and protection in two-party split learning", ICLR 2022, for any number of
    classes.
    """
    from scipy.stats import rankdata

    count = len(labels)
    others = ~np.eye(count, dtype=bool)
    same = (labels[:, None] == labels)[others].reshape(count, count - 1)
    alike = same.sum(axis=1)
    judged = (alike > 0) & (alike < count - 1)
    if not judged.any():
        return np.nan
    same, alike = same[judged], alike[judged]
    ranks = rankdata(likeness[others].reshape(count, count - 1)[judged], axis=1)
    above = (ranks * same).sum(axis=1) - alike * (alike + 1) / 2
    return float((above / (alike * (count - 1 - alike))).mean())


def distance_correlation(x: Floats, z: Floats) -> float:
    """The bias-corrected squared distance correlation of the rows of x [B, n] and z [B, p]; NaN below B = 4.

    1 where z is x, turned and scaled or not; about 0 where they are independent, and then as often below it as above.
    (A.B) / sqrt((A.A) (B.B)) for the U-centred distances: Szekely and Rizzo, "Partial distance correlation with methods
    for dissimilarities", Annals of Statistics 42, 2014. 0 where all rows of one are equal.
    """
    if len(x) < 4:
        return np.nan
    a, b = _centred(x), _centred(z)
    scale = float(np.sqrt((a * a).sum() * (b * b).sum()))
    return float((a * b).sum()) / scale if scale > 0 else 0.0


def _centred(rows: Floats) -> Floats:
    """The U-centred Euclidean distances between rows [B, n]; [B, B]."""
    from scipy.spatial.distance import pdist, squareform

    distances, count = squareform(pdist(rows)), len(rows)
    sums = distances.sum(axis=1)
    centred: Floats = distances - (sums[:, None] + sums) / (count - 2) + sums.sum() / ((count - 1) * (count - 2))
    np.fill_diagonal(centred, 0.0)
    return centred
