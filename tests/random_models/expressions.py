"""Expressions: a meaning in numpy, and a spelling as PyMC code."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

type Env = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Name:
    """Data, a parameter or an effect, by name."""

    name: str
    shape: tuple[int, ...] = ()
    dtype: str = "float64"

    def value(self, env: Env) -> np.ndarray:
        return env[self.name]

    def write(self, code: Code) -> str:
        return self.name


@dataclass(frozen=True)
class Number:
    """A literal."""

    number: float | int

    @property
    def shape(self) -> tuple[int, ...]:
        return ()

    def value(self, env: Env) -> np.ndarray:
        return np.asarray(self.number)

    def write(self, code: Code) -> str:
        return repr(self.number)


@dataclass(frozen=True)
class Op:
    """A numpy function of some parts, and a template of the code that is to mean the same.

    In the template ``{0}``, ``{1}``, … are the parts and ``{all}`` all of them; ``{n}`` and
    ``{shape}`` are the length and shape of the result, ``{m}`` and ``{s}`` the first and last
    length of part 0, ``{q}`` the length of part 1, ``{k}`` a row near the middle, ``{id}`` a
    number that is not taken. ``simplest`` is the template of an author who has no fancies.
    """

    meaning: Callable[..., np.ndarray]
    parts: tuple[Expression, ...]
    template: str
    simplest: str = ""

    @cached_property
    def shape(self) -> tuple[int, ...]:
        # Zeros are valid indices, ones can be divided by.
        parts = [
            p.value({})
            if isinstance(p, Number)
            else (np.zeros if getattr(p, "dtype", "")[:3] == "int" else np.ones)(
                p.shape, getattr(p, "dtype", "float64")
            )
            for p in self.parts
        ]
        return np.shape(self.meaning(*parts))

    def value(self, env: Env) -> np.ndarray:
        return self.meaning(*(part.value(env) for part in self.parts))

    def write(self, code: Code) -> str:
        if id(self) not in code.known:
            parts = [part.write(code) for part in self.parts]
            first = self.parts[0].shape or (1,)
            second = self.parts[1].shape if len(self.parts) > 1 else ()
            n = self.shape[0] if self.shape else 1
            text = self.template.format(
                *parts,
                all=", ".join(parts),
                n=n,
                shape=self.shape,
                m=first[0],
                s=first[-1],
                q=second[0] if second else 1,
                k=n // 2,
                id=len(code.known),
            )
            code.known[id(self)] = code.let(text)
        return code.known[id(self)]


Expression = Name | Number | Op


@dataclass
class Code:
    """Lines of a program; a node that is used twice is written once."""

    lines: list[str] = field(default_factory=list)
    known: dict[int, str] = field(default_factory=dict)

    def let(self, text: str) -> str:
        name = f"t{len(self.known)}"
        self.lines.append(f"{name} = {text}")
        return name


def walk(expression: Expression) -> Iterator[Expression]:
    """Yield an expression and all of its parts."""
    yield expression
    if isinstance(expression, Op):
        for part in expression.parts:
            yield from walk(part)


def names_in(expression: Expression) -> set[str]:
    return {part.name for part in walk(expression) if isinstance(part, Name)}


def simply(expression: Expression, known: dict[int, Expression] | None = None) -> Expression:
    """Spell an expression as simply as it can be; ``known`` are those that are spelled already."""
    known = {} if known is None else known
    if not isinstance(expression, Op):
        return expression
    if id(expression) not in known:
        parts = tuple(simply(part, known) for part in expression.parts)
        template = expression.simplest or expression.template
        itself = expression.simplest == "{0}"
        known[id(expression)] = parts[0] if itself else Op(expression.meaning, parts, template)
    return known[id(expression)]


def replace_at(
    expression: Expression, place: int, change: Callable[[Expression], Expression]
) -> Expression:
    """Change the sub-expression that :func:`walk` yields at a place."""
    if place == 0:
        return change(expression)
    assert isinstance(expression, Op)
    place -= 1
    for i, part in enumerate(expression.parts):
        size = sum(1 for _ in walk(part))
        if place < size:
            new = replace_at(part, place, change)
            return replace(
                expression, parts=(*expression.parts[:i], new, *expression.parts[i + 1 :])
            )
        place -= size
    raise IndexError(place)
