"""Read the distributions: which variables are Gaussian given parameters, with what mean and scale.

A prior is one function, :func:`read_prior`, for the type of its Op; the modules of this folder
hold those of PyMC.
"""

from pymc_marginal_lmm.analysis.priors import (  # they register
    autoregressive,
    gaussian,
    sparse,
    spatial,
    time_series,
)
from pymc_marginal_lmm.analysis.priors.distributions import (
    distribution_name,
    integrates_to_one,
)
from pymc_marginal_lmm.analysis.priors.gaussian import (
    is_transpose,
    square_root,
    unfilled,
    written_root,
)
from pymc_marginal_lmm.analysis.priors.prior import (
    GaussianPrior,
    NotGaussian,
    is_gaussian,
    is_transposed,
    known,
    known_shape,
    read_prior,
    read_sparse_prior,
)

__all__ = [
    "GaussianPrior",
    "NotGaussian",
    "autoregressive",
    "distribution_name",
    "gaussian",
    "integrates_to_one",
    "is_gaussian",
    "is_transpose",
    "is_transposed",
    "known",
    "known_shape",
    "read_prior",
    "read_sparse_prior",
    "sparse",
    "spatial",
    "square_root",
    "time_series",
    "unfilled",
    "written_root",
]
