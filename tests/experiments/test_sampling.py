"""What sampling takes is told apart from compilation."""

from __future__ import annotations

import jax
import pymc as pm

from experiments.sampling import Budget, compilations, length_of_union, sampled


def test_spans_are_not_counted_twice() -> None:
    assert length_of_union([(1, 2), (1, 3), (5, 9), (6, 7)]) == 2 + 4
    assert length_of_union([]) == 0


def test_only_what_numpyro_compiles_is_compilation_of_numpyro() -> None:
    with compilations("numpyro.infer.mcmc") as spans:
        jax.jit(lambda x: 3 * x)(2.0)
    assert not spans
    with compilations(__name__) as spans:
        jax.jit(lambda x: 4 * x)(2.0)
    assert spans and all(begin <= end for begin, end in spans)
    noted = len(spans)
    jax.jit(lambda x: 5 * x)(2.0)
    assert len(spans) == noted


def test_numpyro_is_timed_without_compilation() -> None:
    with pm.Model() as model:
        pm.Normal("y", 0, pm.HalfNormal("sigma"), observed=[-1.0, 1.0])
    found = sampled(model, lambda plain: plain, "numpyro", Budget(2, 10, 10), 1)
    whole = found.idata["posterior"].attrs["sampling_time"]
    # Twenty steps take milliseconds, their compilation most of the time.
    assert 0 < found.seconds["sampling_s"] < 0.5 * whole
    assert found.seconds["compile_s"] > found.seconds["sampling_s"]
    assert found.seconds["recovery_s"] == 0 and found.model is model
