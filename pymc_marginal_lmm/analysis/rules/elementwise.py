"""The rules for elementwise operations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytensor.scalar as ps
import pytensor.tensor as pt
from pytensor.graph.basic import Apply

from pymc_marginal_lmm.analysis.reader import Reader
from pymc_marginal_lmm.analysis.rules.registry import all_inputs, any_input, rule
from pymc_marginal_lmm.analysis.terms import DISCRETE, Linear, Terms, refuse_product, sum_linear

__all__: list[str] = []


@rule(ps.Add, zero=all_inputs)
def _add(reader: Reader, node: Apply, parts: list[Linear]) -> list[Linear]:
    shape = reader.shape(node.outputs[0])
    return [sum_linear({v: t.broadcast(shape) for v, t in part.items()} for part in parts)]


@rule(ps.Sub, zero=all_inputs)
def _subtract(reader: Reader, node: Apply, parts: list[Linear]) -> list[Linear]:
    left, right = parts
    return _add(reader, node, [left, _negative(right)])


@rule(ps.Neg)
def _negate(reader: Reader, node: Apply, parts: list[Linear]) -> list[Linear]:
    return [_negative(parts[0])]


def _negative(linear: Linear) -> Linear:
    return {leaf: terms.negative() for leaf, terms in linear.items()}


@rule(ps.Mul, zero=any_input)
def _multiply(reader: Reader, node: Apply, parts: list[Linear]) -> list[Linear]:
    if sum(map(bool, parts)) > 1:
        refuse_product(node, parts)
    shape = reader.shape(node.outputs[0])
    (linear,) = (part for part in parts if part)
    for inp, part in zip(node.inputs, parts, strict=True):
        if not part:
            multiplier = reader.multipliers.read(inp)
            linear = {
                leaf: reader.times(terms, multiplier, shape) for leaf, terms in linear.items()
            }
    return [linear]


@rule(ps.TrueDiv)
def _divide(reader: Reader, node: Apply, parts: list[Linear]) -> list[Linear]:
    numerator, denominator = parts
    if denominator:
        reader.refuse(node, "it divides something")
    shape = reader.shape(node.outputs[0])
    inverse = reader.multipliers.inverse(node.inputs[1])
    return [{leaf: reader.times(terms, inverse, shape) for leaf, terms in numerator.items()}]


@rule(ps.Switch, zero=lambda node: node.inputs[1:])
def _switch(reader: Reader, node: Apply, parts: list[Linear]) -> list[Linear]:
    condition, *_ = node.inputs
    if parts[0]:
        reader.refuse(node, "it decides a condition")
    shape = reader.shape(node.outputs[0])
    chosen = reader.values.constant(condition)
    mask: Callable[[Terms, Any], Terms]
    branches: tuple
    if chosen is None:
        mask, branches = reader.parameters.where, (pt.neq(condition, 0), pt.eq(condition, 0))
    else:
        holds = np.broadcast_to(chosen.astype(bool), shape)
        mask, branches = Terms.where, (holds, ~holds)
    return [
        sum_linear(
            {leaf: mask(terms.broadcast(shape), kept) for leaf, terms in part.items()}
            for part, kept in zip(parts[1:], branches, strict=True)
        )
    ]


@rule(ps.Second, zero=lambda node: node.inputs[1:])
def _second(reader: Reader, node: Apply, parts: list[Linear]) -> list[Linear]:
    shape = reader.shape(node.outputs[0])
    return [{leaf: terms.broadcast(shape) for leaf, terms in parts[1].items()}]


@rule(ps.Identity, ps.Cast, ps.Real)
def _cast(reader: Reader, node: Apply, parts: list[Linear]) -> list[Linear]:
    if node.outputs[0].type.dtype in DISCRETE:
        reader.refuse(node, "it is rounded to an integer")
    return [parts[0]]
