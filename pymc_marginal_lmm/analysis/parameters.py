"""Parameters that multiply effects, kept apart from the numbers that do.

``tau * z[g] * x`` has as many coefficients as rows, but one parameter. All such parameters of a
model are one vector; a coefficient names its *place* in it. Indexing, broadcasting and summing
then move integers, at transform time, and no array of the size of the data depends on ``tau``.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytensor.tensor as pt
from pytensor import config
from pytensor.graph.basic import Variable

from pymc_marginal_lmm.analysis.terms import ONE, Multiplier, Terms

__all__ = ["Parameters"]


class Parameters:
    """The vector of parameters that multiply effects; it grows while a model is read."""

    def __init__(self) -> None:
        self._pieces: list[Variable] = []
        self._starts: list[int] = [0]
        self._places: dict[Variable, np.ndarray] = {}

    def add(self, variable: Variable, shape: tuple[int, ...]) -> Multiplier:
        """Enter a tensor of parameters; entered again it gets the same places."""
        if variable not in self._places:
            flat = pt.reshape(pt.cast(variable, config.floatX), (int(np.prod(shape, dtype=int)),))
            self._places[variable] = self._append(flat, shape)
        places = self._places[variable]
        return Multiplier(np.ones(places.shape), places)

    def _append(self, flat: Variable, shape: tuple[int, ...]) -> np.ndarray:
        start, size = self._starts[-1], int(np.prod(shape, dtype=int))
        self._pieces.append(flat)
        self._starts.append(start + size)
        return np.arange(start, start + size).reshape(shape)

    def times(self, terms: Terms, multiplier: Multiplier, shape: tuple[int, ...]) -> Terms:
        """Multiply a tensor by a multiplier; together they broadcast to ``shape``."""
        terms = terms.broadcast(shape)
        coefficients = Multiplier(terms.numbers, terms.places)
        product = self.multiply(coefficients, multiplier.expand(-1).broadcast(terms.places.shape))
        return Terms(terms.positions, product.numbers, product.places)

    def multiply(self, left: Multiplier, right: Multiplier) -> Multiplier:
        """Multiply multipliers of the same shape."""
        with np.errstate(invalid="ignore"):  # 0 · ∞ is reported with its data
            numbers = left.numbers * right.numbers
        return Multiplier(numbers, self._product(left.places, right.places))

    def _product(self, left: np.ndarray, right: np.ndarray) -> np.ndarray:
        """Return the places of products of parameters, entering each that occurs once."""
        result = np.where(left == ONE, right, left)
        both = (left != ONE) & (right != ONE)
        if both.any():
            count = self._starts[-1]
            pairs, which = np.unique(left[both] * count + right[both], return_inverse=True)
            product = self.values(pairs // count) * self.values(pairs % count)
            result[both] = self._append(product, pairs.shape)[which]
        return result

    def inverse(self, places: np.ndarray) -> np.ndarray:
        """Return the places of ``1 / parameter``, entering each that occurs once."""
        used = places != ONE
        result = places.copy()
        if used.any():
            distinct, which = np.unique(places[used], return_inverse=True)
            result[used] = self._append(1.0 / self.values(distinct), distinct.shape)[which]
        return result

    def where(self, terms: Terms, condition: Variable) -> Terms:
        """Mask a tensor by a symbolic condition: each of its coefficients becomes a parameter."""
        shape = terms.numbers.shape
        coefficients = self.values(terms.places) * terms.numbers.astype(config.floatX)
        condition = pt.shape_padright(pt.broadcast_to(condition, terms.shape))
        masked = pt.where(condition, coefficients, 0.0)
        size = int(np.prod(shape, dtype=int))
        places = self._append(pt.reshape(masked, (size,)), shape)
        present = terms.numbers != 0
        return Terms(terms.positions, np.where(present, 1.0, 0.0), np.where(present, places, ONE))

    def values(self, places: np.ndarray) -> Variable:
        """Return the parameters at some places, 1 at ``ONE``; of the shape of ``places``."""
        used = places[places != ONE]
        if not used.size:
            return pt.constant(np.ones(places.shape, dtype=config.floatX))
        first, last = (
            int(np.searchsorted(self._starts, place, side="right")) - 1
            for place in (used.min(), used.max())
        )
        pieces = self._pieces[first : last + 1]
        vector = pieces[0] if len(pieces) == 1 else pt.concatenate(pieces)
        local = places - self._starts[first]
        if used.size < places.size:
            local = np.where(places == ONE, self._starts[last + 1] - self._starts[first], local)
            vector = pt.concatenate([vector, pt.ones(1, dtype=config.floatX)])
        elif local.ndim == 1 and np.array_equal(local, np.arange(vector.type.shape[0] or -1)):
            return vector
        if (local == local.flat[0]).all():
            return pt.broadcast_to(vector[int(local.flat[0])], places.shape)
        return vector[pt.constant(local)]

    def numbers(self, places: np.ndarray, evaluate: Callable[[Variable], np.ndarray]) -> np.ndarray:
        """Return the parameters at some places, given what evaluates a vector of them."""
        result = np.ones(places.shape)
        piece = np.searchsorted(self._starts, places, side="right") - 1
        for i in np.unique(piece[places != ONE]).tolist():
            own = (places != ONE) & (piece == i)
            result[own] = evaluate(self._pieces[i])[places[own] - self._starts[i]]
        return result
