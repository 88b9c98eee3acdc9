"""Integrate Normal random effects out of PyMC models, exactly.

See :func:`marginalize`, :func:`recover`, :func:`conditional` and :func:`explain`; the theory is in
:mod:`pymc_marginal_lmm.algebra`.
"""

from importlib import import_module
from importlib.util import find_spec

from pymc_marginal_lmm.errors import NotMarginalizable
from pymc_marginal_lmm.explain import Explanation, explain
from pymc_marginal_lmm.model.compiled import CompiledModel, compile_model
from pymc_marginal_lmm.model.conditional import conditional
from pymc_marginal_lmm.model.fit import fit
from pymc_marginal_lmm.model.from_bambi import finish_bambi
from pymc_marginal_lmm.model.log_likelihood import compute_log_likelihood
from pymc_marginal_lmm.model.loo_pit import loo_pit
from pymc_marginal_lmm.model.marginalize import marginalize
from pymc_marginal_lmm.model.moment_match import moment_match
from pymc_marginal_lmm.model.noncenter import noncenter
from pymc_marginal_lmm.model.r2 import r2
from pymc_marginal_lmm.model.ranef import ranef
from pymc_marginal_lmm.model.recover import recover
from pymc_marginal_lmm.model.sample import sample
from pymc_marginal_lmm.model.unmarginalize import unmarginalize
from pymc_marginal_lmm.model.varcorr import varcorr
from pymc_marginal_lmm.plots import plot_ranef
from pymc_marginal_lmm.tables.compress import Compressed, compress
from pymc_marginal_lmm.tables.within import within_cells

import_module("pymc_marginal_lmm.dispatch.numba")
if find_spec("jax") is not None:
    import_module("pymc_marginal_lmm.dispatch.jax")

__all__ = [
    "CompiledModel",
    "Compressed",
    "Explanation",
    "NotMarginalizable",
    "compile_model",
    "compress",
    "compute_log_likelihood",
    "conditional",
    "explain",
    "finish_bambi",
    "fit",
    "loo_pit",
    "marginalize",
    "moment_match",
    "noncenter",
    "plot_ranef",
    "r2",
    "ranef",
    "recover",
    "sample",
    "unmarginalize",
    "varcorr",
    "within_cells",
]

__version__ = "0.2.0"
