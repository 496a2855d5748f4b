"""Trees of points on the unit sphere. scipy is imported when the first is built: that takes as long as the cities."""

import numpy as np


def tree_of(vectors: np.ndarray, leafsize: int):
    """A `scipy.spatial.cKDTree` of vectors (N, 3), built fast rather than balanced."""
    from scipy.spatial import cKDTree

    return cKDTree(vectors, leafsize=leafsize, balanced_tree=False, compact_nodes=False)
