"""Random PyMC models, as data: what a model means in numpy, and how its author spelled it.

A :class:`Recipe` is a list of variables and responses whose means are small expression trees.
Every node holds its *meaning*, a numpy function, and its *spelling*, a template of PyMC code; one
meaning has many spellings. :meth:`Recipe.source` writes the model as a program that can be
pasted into a notebook, :meth:`Recipe.build` runs it, and :meth:`Recipe.log_density` integrates
the effects out of the meanings, with numpy alone: PyMC, PyTensor and the package see only the
spellings, the reference sees only the meanings.

``recipes()`` and ``hostile_recipes()`` are Hypothesis strategies. Simple choices come first, so
that a failing model shrinks to a short program.
"""

from tests.random_models.author import hostile_recipes, recipes, recipes_of_scales
from tests.random_models.expressions import Expression, Name, Op
from tests.random_models.imputation import recipes_with_missing_predictors
from tests.random_models.persons import recipes_of_persons
from tests.random_models.processes import recipes_of_long_processes
from tests.random_models.recipe import (
    HardlyIdentified,
    NotAffine,
    NotIdentified,
    Recipe,
    Response,
    Variable,
)
from tests.random_models.roles import recipes_with_roles
from tests.random_models.spellings import HOSTILE, LINEAR_BUT_UNUSUAL

__all__ = [
    "HOSTILE",
    "LINEAR_BUT_UNUSUAL",
    "Expression",
    "HardlyIdentified",
    "Name",
    "NotAffine",
    "NotIdentified",
    "Op",
    "Recipe",
    "Response",
    "Variable",
    "hostile_recipes",
    "recipes",
    "recipes_of_long_processes",
    "recipes_of_persons",
    "recipes_of_scales",
    "recipes_with_missing_predictors",
    "recipes_with_roles",
]
