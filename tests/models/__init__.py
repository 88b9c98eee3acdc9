"""Every canonical model once: what users write, with data small enough for dense references.

``MODELS`` lists them in the order of the imports; a model's name is the name of its function.
"""

# isort: off
from tests.models import one_factor, several_factors, structure, responses, spellings, partial
from tests.models import correlated
from tests.models import processes

# isort: on
from tests.models.registry import (
    MODELS,
    CanonicalModel,
    Rows,
    by_name,
    canonical_models,
    lkj,
    scales,
)

__all__ = [
    "MODELS",
    "CanonicalModel",
    "Rows",
    "by_name",
    "canonical_models",
    "correlated",
    "lkj",
    "one_factor",
    "partial",
    "processes",
    "responses",
    "scales",
    "several_factors",
    "spellings",
    "structure",
]
