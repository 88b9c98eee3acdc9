"""Models as data: written as a program, built, and integrated with numpy."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pymc as pm
import pytensor
import pytensor.tensor as pt
from pytensor.scalar.basic import autocast_float_as
from scipy.linalg import block_diag

from tests.random_models.expressions import (
    Code,
    Env,
    Expression,
    Number,
    Op,
    names_in,
    simply,
    walk,
)
from tests.random_models.spellings import HOSTILE, LINEAR_BUT_UNUSUAL, root_of

ZERO, ONE = Number(0.0), Number(1.0)
PROCESSES = ("Walk", "AR", "MatrixNormal", "CAR", "ICAR")
START = 0.8
"""Standard deviation of the first value of a walk or an autoregression."""
ALPHA = 0.6
SUM_SD = 0.3
"""Standard deviation of the mean of an ICAR."""


@dataclass(frozen=True)
class Variable:
    """A free variable.

    ``how`` is what follows the parameters in the code: ``shape=(4,)``, ``dims='g0'``, nothing if
    mean and scale have the shape already; for ``MvNormal`` it starts with ``chol``, ``cov`` or
    ``tau``. ``lag`` is the correlation of an ``AR``, ``prior`` the distribution of a scale, or of
    those of an ``LKJ``. ``Missing`` are missing rows of a response, to PyMC a variable; ``Seen`` is
    observed, for priors to depend on it.
    """

    name: str
    family: str
    shape: tuple[int, ...] = ()
    mean: Expression = ZERO
    scale: Expression = ONE
    how: str = ""
    lag: Expression = ZERO
    prior: str = "HalfNormal(1.0)"

    @property
    def gaussian(self) -> bool:
        return self.family in ("Normal", "MvNormal", "Flat", "Missing", *PROCESSES)

    @property
    def parts(self) -> tuple[Expression, ...]:
        """What the prior is made of."""
        return self.mean, self.scale, self.lag

    def log_factor(self, env: Env) -> float:
        """Return the logarithm of what PyMC's density integrates to."""
        if self.family not in ("CAR", "ICAR"):
            return 0.0
        N = self.shape[0]
        if self.family == "CAR":
            return 0.5 * (N * np.log(2 * np.pi) - np.log(neighbours(self).sum(0)).sum())
        log_det = np.linalg.slogdet(icar_precision(self, self.scale.value(env)))[1]
        return 0.5 * ((N - 1) * np.log(2 * np.pi) - log_det) - np.log(SUM_SD * N)

    def write(self, code: Code) -> None:
        if self.family == "Missing":
            return
        mean, scale, lag = (e.write(code) for e in self.parts)
        how = self.how or (f"shape={self.shape}" if self.shape else "")
        more = f", {how}" if how and how != "implicit" else ""
        name = repr(self.name)
        text = {
            "Normal": f"pm.Normal({name}, {mean}, {scale}{more})",
            "MvNormal": f"pm.MvNormal({name}, {mean}{more.replace('ROOT', scale)})",
            "Flat": f"pm.Flat({name}{more})",
            "Walk": f"pm.GaussianRandomWalk({name}, sigma={scale}, "
            f"init_dist=pm.Normal.dist({mean}, {START}){more})",
            "AR": f"pm.AR({name}, rho=[{lag}], sigma={scale}, "
            f"init_dist=pm.Normal.dist({mean}, {START}){more})",
            "MatrixNormal": f"pm.MatrixNormal({name}, mu={mean}, "
            f"rowchol=pt.as_tensor({rows_root(self).tolist()}), colchol=pt.as_tensor({scale})"
            f"{more})",
            "CAR": f"pm.CAR({name}, {mean} * np.ones({self.shape}), "
            f"W={weights(self)}, alpha={ALPHA}, tau={scale})",
            "ICAR": f"pm.ICAR({name}, W={weights(self)}, sigma={scale}, zero_sum_stdev={SUM_SD})",
            "Uniform": f"pm.Uniform({name}, -1.0, 1.0{more})",
            "HalfNormal": f"pm.{self.prior.replace('(', f'({name}, ', 1)[:-1]}{more})",
            "Seen": f"pm.Exponential({name}, 1.0, observed=np.full({self.shape}, 3.0))",
            "StudentT": f"pm.StudentT({name}, nu=4.0, mu=0.0, sigma=1.0{more})",
            "LKJ": f"pm.LKJCholeskyCov({name}, n={self.shape[-1] if self.shape else 0}, eta=2.0, "
            f"sd_dist=pm.{self.prior.replace('(', '.dist(', 1)})[0]",
        }[self.family]
        code.lines.append(f"{self.name} = {text}")

    def draw(self, rng: np.random.Generator) -> np.ndarray:
        """Return some value (not a draw from the prior) on the natural scale."""
        z = rng.normal(size=self.shape)
        if self.family == "HalfNormal":
            return np.exp(0.5 * z)
        if self.family == "LKJ":
            root = np.tril(z)
            np.fill_diagonal(root, np.exp(0.5 * np.diag(z)))
            return root
        return np.tanh(z) if self.family == "Uniform" else z

    def transformed(self, value: np.ndarray) -> np.ndarray:
        """Return a natural value as PyMC's value variable holds it."""
        if self.family == "HalfNormal":
            return np.log(value)
        if self.family == "Uniform":
            return 2 * np.arctanh(value)
        if self.family == "LKJ":
            root = value.copy()
            np.fill_diagonal(root, np.log(np.diag(value)))
            return root[np.tril_indices(len(root))]
        return value

    @property
    def improper(self) -> bool:
        """Whether the prior is none but for what its rows say."""
        return self.family in ("Flat", "AR")

    def rows(self, env: Env, v: np.ndarray) -> tuple[np.ndarray, float]:
        """Return standard Normal numbers that a prior says of a value, and its log Jacobian.

        No column of values that explode would leave digits to a covariance.
        """
        if self.family != "AR":
            return np.zeros(0), 0.0
        mean, scale, lag = (part.value(env) for part in self.parts)
        first, rest = (v[..., 0] - mean) / START, (v[..., 1:] - lag * v[..., :-1]) / scale
        log_scales = first.size * np.log(START) + rest.size * np.log(abs(scale))
        return np.concatenate([first.reshape(-1), rest.reshape(-1)]), -float(log_scales)

    def at(self, env: Env, u: np.ndarray) -> np.ndarray:
        """Return ``mean + scale·u``; what has :meth:`rows` is ``u`` itself."""
        if self.improper:
            return u
        mean, scale, _ = (part.value(env) for part in self.parts)
        match self.family:
            case "Walk":
                first = mean + START * u[..., :1]
                return np.cumsum(np.concatenate([first, scale * u[..., 1:]], axis=-1), axis=-1)
            case "MatrixNormal":
                return mean + rows_root(self) @ u @ scale.T
            case "CAR":
                W = neighbours(self)
                precision = scale * (np.diag(W.sum(axis=0)) - ALPHA * W)
                return mean + np.linalg.cholesky(np.linalg.inv(precision)) @ u
            case "ICAR":
                return np.linalg.cholesky(np.linalg.inv(icar_precision(self, scale))) @ u
            case "MvNormal":
                return mean + u @ scale.T
        return mean + scale * u


def neighbours(variable: Variable) -> np.ndarray:
    """Return which areas of a row of areas are next to each other."""
    M = variable.shape[0] if variable.shape else 0
    return np.eye(M, k=1) + np.eye(M, k=-1)


def weights(variable: Variable) -> str:
    M = variable.shape[0] if variable.shape else 0
    return f"np.eye({M}, k=1) + np.eye({M}, k=-1)"


def icar_precision(variable: Variable, sigma: np.ndarray) -> np.ndarray:
    W = neighbours(variable)
    return (np.diag(W.sum(axis=0)) - W) / sigma**2 + 1 / (SUM_SD * len(W)) ** 2


def rows_root(variable: Variable) -> np.ndarray:
    """Return a Cholesky factor of the covariance of rows."""
    M = variable.shape[0] if variable.shape else 0
    return np.eye(M) + 0.5 * np.eye(M, k=-1)


@dataclass(frozen=True)
class Response:
    """A likelihood; ``columns > 1`` makes a table of its rows.

    For ``MvNormal``, whose rows of the table are correlated, ``sigma`` is what ``how`` says:
    ``cov``, ``chol`` or ``tau``, one for all rows or one for each. Rows of which ``y`` is nan are
    missing.
    """

    name: str
    family: str
    mean: Expression
    sigma: Expression
    y: str
    columns: int = 1
    how: str = ""

    def write(self, code: Code) -> None:
        mean, sigma, y = self.mean.write(code), self.sigma.write(code), self.y
        if self.columns > 1:
            mean = f"{mean}.reshape((-1, {self.columns}))"
            y = f"{y}.reshape((-1, {self.columns}))"
        if self.how:
            sigma = f"{self.how}={sigma}"
        elif self.columns > 1 and self.sigma.shape not in ((), (1,)):
            sigma = f"{sigma}.reshape((-1, {self.columns}))"
        code.lines.append(f"pm.{self.family}({self.name!r}, {mean}, {sigma}, observed={y})")

    def covariance(self, env: Env) -> np.ndarray:
        """Return the covariance of all rows given the mean."""
        n, sigma = len(env[self.y]), self.sigma.value(env)
        if not self.how:
            return np.diag(np.broadcast_to(sigma, (n,)) ** 2)
        V = {"cov": sigma, "chol": sigma @ sigma.swapaxes(-1, -2)}.get(self.how)
        V = np.linalg.inv(sigma) if V is None else V
        return block_diag(*np.broadcast_to(V, (n // V.shape[-1], *V.shape[-2:])))


class NotAffine(Exception):
    """What is to be integrated out enters a mean in another way than linearly, or a sigma."""


class NotIdentified(Exception):
    """Columns of flat variables are linearly dependent: the integral over them is infinite."""


class HardlyIdentified(Exception):
    """They are nearly so: the dense reference has too few digits to compare with."""


@dataclass(frozen=True, repr=False)
class Recipe:
    """A model: data, of which some are ``pm.Data``, free variables in order, and responses."""

    data: dict[str, np.ndarray]
    mutable: frozenset[str]
    variables: tuple[Variable, ...]
    responses: tuple[Response, ...]
    extras: tuple[str, ...] = ()
    coords: tuple[tuple[str, int], ...] = ()
    seed: int = 0

    def __repr__(self) -> str:
        return f"\n{self.source()}"

    def source(self) -> str:
        """Return the model as a program."""
        head, body = [], Code()
        for name, array in self.data.items():
            text = f"np.array({array.tolist()})".replace("nan", "np.nan")
            if name in self.mutable:
                body.lines.append(f"{name} = pm.Data({name!r}, {text})")
            else:
                head.append(f"{name} = {text}")
        for variable in self.variables:
            variable.write(body)
        for response in self.responses:
            response.write(body)
        coords = ", ".join(f"{name!r}: range({size})" for name, size in self.coords)
        model = f"with pm.Model(coords={{{coords}}}) as model:" if coords else None
        lines = [*head, model or "with pm.Model() as model:"]
        return "\n".join([*lines, *(f"    {line}" for line in (*body.lines, *self.extras))])

    def build(self) -> pm.Model:
        """Run the program, with literals in double precision (see ``tests/models``)."""
        space = {"np": np, "pm": pm, "pt": pt, "pytensor": pytensor}
        with autocast_float_as("float64"):
            exec(self.source(), space)
        return space["model"]

    def expressions(self) -> Iterator[Expression]:
        """Yield all nodes of the responses and priors."""
        for variable in self.variables:
            for part in variable.parts:
                yield from walk(part)
        for response in self.responses:
            yield from walk(response.mean)
            yield from walk(response.sigma)

    @property
    def unusual(self) -> bool:
        """Whether it has spellings that the package need not understand."""
        return any(
            isinstance(e, Op) and e.template in (*LINEAR_BUT_UNUSUAL, *HOSTILE)
            for e in self.expressions()
        )

    def gaussian(self) -> list[str]:
        return [v.name for v in self.variables if v.gaussian]

    def stay_sampled(self) -> set[str]:
        """Return the Gaussian variables that no exact method could integrate out.

        These are the ones in a sigma, those without likelihood, and the ancestors of all these
        (a prior of what stays sampled must not depend on what is integrated out).
        """
        by_name = {v.name: v for v in self.variables}

        def closure(names: set[str]) -> set[str]:
            reached, todo = set(), set(names)
            while todo:
                name = todo.pop()
                if name in by_name and name not in reached:
                    reached.add(name)
                    todo.update(*(names_in(part) for part in by_name[name].parts))
            return reached

        in_means = closure(set().union(*(names_in(r.mean) for r in self.responses)))
        in_sigmas = closure(set().union(*(names_in(r.sigma) for r in self.responses)))
        unused = closure(set(by_name) - in_means)
        return (in_sigmas | unused) & set(self.gaussian())

    def without_rows(self) -> set[str]:
        """Return the Gaussian variables on which nothing depends: of a list, those without data."""

        def told(point: Env) -> np.ndarray:
            env, mean, _ = self.means(point, {})
            parts = [part.value(env) for v in self.variables for part in v.parts]
            return np.concatenate([mean, *map(np.ravel, parts)])

        point = self.point()
        base = told(point)
        return {
            v.name
            for v in self.variables
            if v.gaussian
            and all(
                np.array_equal(told({**point, v.name: point[v.name] + d}), base) for d in (0.5, 2.0)
            )
        }

    def simply(self) -> Recipe:
        """Return the same model, spelled as simply as it can be."""
        known: dict[int, Expression] = {}

        def spelled(e: Expression) -> Expression:
            return simply(e, known)

        variables = (
            replace(v, mean=spelled(v.mean), scale=spelled(v.scale), lag=spelled(v.lag))
            for v in self.variables
        )
        responses = (
            replace(r, mean=spelled(r.mean), sigma=spelled(r.sigma)) for r in self.responses
        )
        return replace(self, variables=tuple(variables), responses=tuple(responses))

    def observed(self) -> list[str]:
        """Return the names of the variables that have data."""
        missing = {name for name, values in self.data.items() if not np.isfinite(values).all()}
        return [r.name + "_observed" * (r.y in missing) for r in self.responses]

    def point(self) -> dict[str, np.ndarray]:
        """Return a natural value for every free variable."""
        rng = np.random.default_rng(self.seed)
        return {v.name: v.draw(rng) for v in self.variables}

    def means(
        self, point: Env, u: Mapping[str, np.ndarray]
    ) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
        """Return all values, means of all rows and their covariance, ``v = m + Λu`` where given.

        Rows of priors come last; their values are 0.
        """
        env = dict(self.data)
        of_priors = [np.zeros(0)]
        for v in self.variables:
            env[v.name] = v.at(env, u[v.name]) if v.name in u else point[v.name]
            if v.name in u:
                of_priors.append(v.rows(env, env[v.name])[0])
        mean = [np.broadcast_to(r.mean.value(env), self.data[r.y].shape) for r in self.responses]
        covariance = block_diag(*(r.covariance(env) for r in self.responses))
        seen = np.isfinite(np.concatenate([self.data[r.y] for r in self.responses]))
        more = np.concatenate(of_priors)
        covariance = block_diag(covariance[np.ix_(seen, seen)], np.eye(len(more)))
        return env, np.concatenate([np.concatenate(mean)[seen], more]), covariance

    def log_density(self, point: Env, integrated: Sequence[str]) -> float:
        """Return ``log p(y | θ)`` with some Gaussian variables integrated out, densely.

        It is ``-inf`` where a covariance that it depends on is not positive definite.

        Raises
        ------
        NotAffine
            That integral is not Gaussian.
        NotIdentified
            It is infinite.
        HardlyIdentified
            It is, but for a few digits.
        """
        variables = [v for v in self.variables if v.name in integrated]
        sizes = [int(np.prod(v.shape, dtype=int)) for v in variables]
        flat = np.repeat([v.improper for v in variables], sizes).astype(bool)

        def at(u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            pieces = np.split(u, np.cumsum(sizes)[:-1]) if sizes else []
            blocks = {v.name: b.reshape(v.shape) for v, b in zip(variables, pieces, strict=True)}
            return self.means(point, blocks)[1:]

        q = sum(sizes)
        offset, covariance = at(np.zeros(q))
        C = np.array([at(e)[0] - offset for e in np.eye(q)]).reshape(q, len(offset)).T
        rng = np.random.default_rng(self.seed + 1)
        for scale in (0.3, 1.0, 3.0):
            u = scale * rng.normal(size=q)
            mean, again = at(u)
            if not np.allclose(mean, offset + C @ u, rtol=1e-8, atol=1e-8):
                raise NotAffine("a mean")
            if not np.allclose(again, covariance, rtol=1e-10):
                raise NotAffine("a sigma")
        env = self.means(point, {})[0]
        y, log_jacobian = [], sum(v.log_factor(env) for v in variables)
        for r in self.responses:
            values = self.data[r.y]
            if r.family == "LogNormal":
                values = np.log(values)
                log_jacobian -= values.sum()
            y.append(values)
        y = np.concatenate(y)
        log_jacobian += sum(v.rows(env, np.zeros(v.shape))[1] for v in variables)
        y = y[np.isfinite(y)]
        r = np.concatenate([y, np.zeros(len(offset) - len(y))]) - offset
        X, Z = C[:, flat], C[:, ~flat]
        V = Z @ Z.T + covariance
        n = len(r) - X.shape[1]
        log_det = np.linalg.slogdet(V)[1]
        solved = np.linalg.solve(V, np.column_stack([r, X]))
        quadratic = r @ solved[:, 0]
        if X.shape[1]:
            lengths = np.linalg.norm(X, axis=0)
            if (
                np.linalg.matrix_rank(X / np.where(lengths > 0, lengths, 1.0), tol=1e-9)
                < X.shape[1]
            ):
                raise NotIdentified
            precision = X.T @ solved[:, 1:]
            if np.linalg.cond(precision) > 1e6:
                raise HardlyIdentified
            score = X.T @ solved[:, 0]
            log_det += np.linalg.slogdet(precision)[1]
            quadratic -= score @ np.linalg.solve(precision, score)
        if self.is_outside(env, variables):
            return -np.inf
        return float(-0.5 * (log_det + quadratic + n * np.log(2 * np.pi)) + log_jacobian)

    def is_outside(self, env: Env, integrated: Sequence[Variable]) -> bool:
        """Whether the covariance of responses or of what is integrated out is none."""
        parts = [*(v.scale for v in integrated), *(r.sigma for r in self.responses)]
        of_roots = (
            node.parts[0].value(env)
            for part in parts
            for node in walk(part)
            if isinstance(node, Op) and node.meaning is root_of
        )
        of_rows = (r.covariance(env) for r in self.responses if r.how)
        return any(np.linalg.eigvalsh(V).min() <= 0 for V in (*of_roots, *of_rows))
