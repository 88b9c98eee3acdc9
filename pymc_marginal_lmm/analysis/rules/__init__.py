"""The rules: what each operation makes of the linear parts of its inputs.

To teach the reader an operation, write its rule, and register it by
:func:`~pymc_marginal_lmm.analysis.rules.registry.rule`; the modules of this folder hold those of
PyTensor.
"""

from pymc_marginal_lmm.analysis.rules import (  # they register
    elementwise,
    linear,
    sparse,
    tensors,
)
from pymc_marginal_lmm.analysis.rules.linear import by_unit_vectors
from pymc_marginal_lmm.analysis.rules.registry import (
    Rule,
    all_inputs,
    any_input,
    first_input,
    is_nonlinear,
    rule,
    rule_for,
)

__all__ = [
    "Rule",
    "all_inputs",
    "any_input",
    "by_unit_vectors",
    "elementwise",
    "first_input",
    "is_nonlinear",
    "linear",
    "rule",
    "rule_for",
    "sparse",
    "tensors",
]
