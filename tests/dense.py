"""The joint density of effects and rows, which is quadratic in both, as PyMC alone has it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pymc as pm
import pytensor
import pytensor.tensor as pt
from pymc.logprob.basic import transformed_conditional_logp
from pytensor.graph.basic import Variable

from pymc_marginal_lmm.model.restore import marginal_ops
from tests.helpers import models_of, start_of
from tests.models import CanonicalModel

__all__ = ["Dense", "Joint", "joints"]


@dataclass(frozen=True)
class Dense:
    """``V⁻¹`` and ``e = V⁻¹r`` of rows, and the values of these, logarithms of LogNormal ones."""

    precision: np.ndarray
    e: np.ndarray
    jacobian: np.ndarray

    def left_out(self, codes: np.ndarray) -> np.ndarray:
        """Return ``log p(y_g | y_−g)`` of groups of rows; -1 are rows of none."""
        out = np.zeros(codes.max() + 1)
        for g in range(out.size):
            rows = np.flatnonzero(codes == g)
            B, e = self.precision[np.ix_(rows, rows)], self.e[rows]
            squares = e @ np.linalg.solve(B, e)
            log_det = np.linalg.slogdet(B)[1]
            out[g] = 0.5 * (log_det - squares - rows.size * np.log(2 * np.pi))
        return out + np.bincount(codes[codes >= 0], self.jacobian[codes >= 0])


class Joint:
    """The joint log density of effects and rows, which is quadratic in both, by PyMC alone."""

    def __init__(self, plain: pm.Model, effects: tuple[str, ...], responses: list[str]) -> None:
        self.plain, self.responses = plain, responses
        values = dict(plain.rvs_to_values)
        self.rows = []
        for name in responses:
            rv = plain[name]
            self.rows.append(pt.tensor(name, shape=rv.type.shape, dtype="float64"))
            values[rv] = self.rows[-1]
        terms = transformed_conditional_logp(
            plain.basic_RVs, rvs_to_values=values, rvs_to_transforms=plain.rvs_to_transforms
        )
        own = [plain.rvs_to_values[plain[name]] for name in effects]
        given = [v for rv in plain.free_RVs if (v := plain.rvs_to_values[rv]) not in own]
        wrt = [*own, *self.rows]
        gradient = pt.grad(sum(term.sum() for term in terms), wrt)
        self.given = [v.name for v in given]
        self.function = pytensor.function(
            [*given, *wrt], gradient, mode="FAST_COMPILE", on_unused_input="ignore"
        )
        start = start_of(plain)
        self.start = [np.zeros_like(start[v.name], dtype="float64") for v in own]
        self.log = [isinstance(plain[n].owner.op, pm.LogNormal.rv_type) for n in responses]
        data = [np.asarray(_value(plain.rvs_to_values[plain[n]]), "float64") for n in responses]
        self.data = [np.log(y) if log else y for y, log in zip(data, self.log, strict=True)]

    def gradient(self, point: dict[str, np.ndarray], x: np.ndarray) -> np.ndarray:
        shapes = [a.shape for a in (*self.start, *self.data)]
        ends = np.cumsum([int(np.prod(shape)) for shape in shapes])
        parts = [p.reshape(shape) for p, shape in zip(np.split(x, ends[:-1]), shapes, strict=True)]
        k = len(self.start)
        logs = [False] * k + self.log
        at = [np.exp(p) if log else p for p, log in zip(parts, logs, strict=True)]
        found = self.function(*(point[name] for name in self.given), *at)
        # By log y: the density of log y has the Jacobian y, whose logarithm is linear.
        found = [g * y + 1 if log else g for g, y, log in zip(found, at, logs, strict=True)]
        return np.concatenate([np.ravel(g) for g in found])

    def dense(self, point: dict[str, np.ndarray]) -> Dense:
        q = sum(a.size for a in self.start)
        x = np.concatenate([np.ravel(a) for a in (*self.start, *self.data)])
        g = self.gradient(point, x)
        H = -np.stack([self.gradient(point, x + unit) - g for unit in np.eye(x.size)])
        H = (H + H.T) / 2
        K = np.linalg.solve(H[:q, :q], H[:q, q:])
        jacobian = [-y if log else 0 * y for y, log in zip(self.data, self.log, strict=True)]
        return Dense(
            precision=H[q:, q:] - H[q:, :q] @ K,
            e=-(g[q:] - K.T @ g[:q]),
            jacobian=np.concatenate([np.ravel(j) for j in jacobian]),
        )


def _value(variable: Variable) -> Any:
    return variable.data if hasattr(variable, "data") else variable.get_value()


def joints(canonical: CanonicalModel) -> list[Joint]:
    plain, marginal, _ = models_of(canonical)
    return [
        Joint(plain, canonical.effects, [response.name for response in op.structure.responses])
        for op in marginal_ops(marginal)
    ]
