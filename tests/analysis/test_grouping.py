"""Grouping factors: found from what rows hit, and nothing lost on the way."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytensor
import pytensor.tensor as pt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pymc_marginal_lmm.analysis.grouping import find_factors
from pymc_marginal_lmm.analysis.ordering import block_structure, parents_of
from pymc_marginal_lmm.analysis.parameters import Parameters
from pymc_marginal_lmm.analysis.rows import stack_rows
from pymc_marginal_lmm.analysis.terms import NOTHING, ONE, Terms
from pymc_marginal_lmm.structure import GroupingFactor, RandomEffects, Share

rng = np.random.default_rng(0)
n = 12
ones = np.ones(n)
x = rng.normal(size=n)
g = np.repeat([0, 1, 2, 3], 3)
h = np.tile([0, 1, 2], 4)
nested = g // 2
type Column = tuple[np.ndarray | int, np.ndarray | float]


def terms(*columns: Column) -> Terms:
    """Make the terms of one variable: per column which element each row hits, times what."""
    positions = np.stack([np.broadcast_to(p, (n,)) for p, _ in columns], axis=1)
    coefficients = np.stack([np.broadcast_to(c, (n,)) for _, c in columns], axis=1)
    return stack_rows([(n, plain(positions, coefficients.astype(float)))])


def plain(positions: np.ndarray, numbers: np.ndarray) -> Terms:
    """Make terms without parameters."""
    return Terms(positions, numbers, np.full(positions.shape, ONE))


def effects_of(widths: Sequence[int], sizes: Sequence[int]) -> list[RandomEffects]:
    """Make variables of which only the sizes matter."""
    zero = pt.constant(0.0)
    return [
        RandomEffects(f"v{i}", (), (size // width, width), "float64", 1, False, zero, zero)
        for i, (width, size) in enumerate(zip(widths, sizes, strict=True))
    ]


def design(own: Terms, size: int) -> np.ndarray:
    Z = np.zeros((len(own.positions), size))
    for row, positions, coefficients in zip(Z, own.positions, own.numbers, strict=True):
        np.add.at(row, positions[positions != NOTHING], coefficients[positions != NOTHING])
    return Z


def assert_same_design(
    factors: Sequence[GroupingFactor],
    terms: Sequence[Terms],
    widths: Sequence[int],
    sizes: Sequence[int],
) -> None:
    """Put ``Z`` together again from the factors; each element lives in one of them."""
    found = [np.zeros((len(own.positions), size)) for own, size in zip(terms, sizes, strict=True)]
    seen = [np.zeros(size, dtype=int) for size in sizes]
    for factor in factors:
        rows, K = factor.codes.shape
        assert factor.codes.dtype == "int32"
        assert factor.coefficients.shape == (rows, K, factor.n_effects)
        assert ((factor.codes >= 0) & (factor.codes < factor.n_levels)).all()
        start = 0
        for share in factor.shares:
            width = widths[share.effects[0]]
            assert {widths[effect] for effect in share.effects} == {width}
            assert share.blocks.shape[0] == factor.n_levels
            elements = (share.blocks[:, :, None] * width + np.arange(width)).reshape(
                factor.n_levels, -1
            )
            stop, first = start + elements.shape[1], 0
            for effect in share.effects:
                mine = (elements >= first) & (elements < first + sizes[effect])
                np.add.at(seen[effect], elements[mine] - first, 1)
                for k in range(K):
                    row, slot = np.nonzero(mine[factor.codes[:, k]])
                    element = elements[factor.codes[row, k], slot] - first
                    numbers = factor.coefficients[:, k, start:stop][row, slot]
                    np.add.at(found[effect], (row, element), numbers)
                first += sizes[effect]
            start = stop
        assert start == factor.n_effects
    for effect, (own, size) in enumerate(zip(terms, sizes, strict=True)):
        np.testing.assert_allclose(found[effect], design(own, size), rtol=1e-14, atol=1e-14)
        assert seen[effect].max(initial=0) <= 1


def factors_of(
    *variables: Terms, widths: Sequence[int] | None = None, sizes: Sequence[int] | None = None
) -> tuple[GroupingFactor, ...]:
    widths = widths or [1] * len(variables)
    sizes = sizes or [60] * len(variables)
    factors = find_factors(variables, effects_of(widths, sizes), Parameters())
    assert_same_design(factors, variables, widths, sizes)
    return factors


def shapes(factors: Sequence[GroupingFactor]) -> list[tuple[int, int, int]]:
    """Levels, effects per level, memberships."""
    return [(f.n_levels, f.n_effects, f.n_memberships) for f in factors]


def test_one_column() -> None:
    (factor,) = factors_of(terms((g, 1.0)))
    assert shapes([factor]) == [(4, 1, 1)]
    np.testing.assert_array_equal(factor.codes[:, 0], g)
    np.testing.assert_array_equal(factor.shares[0].blocks, [[0], [1], [2], [3]])


def test_levels_are_numbered_as_they_occur() -> None:
    (factor,) = factors_of(terms((7 - g, x)))
    np.testing.assert_array_equal(factor.codes[:, 0], g)
    np.testing.assert_array_equal(factor.shares[0].blocks, [[7], [6], [5], [4]])


def test_aligned_variables_form_one_factor() -> None:
    """``(1|g) + (x|g)``, written as two vectors."""
    (factor,) = factors_of(terms((g, 1.0)), terms((g, x)))
    assert shapes([factor]) == [(4, 2, 1)]
    assert [share.effects for share in factor.shares] == [(0,), (1,)]
    np.testing.assert_array_equal(factor.coefficients[:, 0, :], np.column_stack([ones, x]))


def test_alignment_does_not_depend_on_the_numbering() -> None:
    recoded = np.array([3, 0, 9, 1])[g]
    (factor,) = factors_of(terms((g, 1.0)), terms((recoded, x)))
    assert shapes([factor]) == [(4, 2, 1)]
    np.testing.assert_array_equal(factor.shares[1].blocks, [[3], [0], [9], [1]])


def test_columns_of_one_matrix_form_one_factor() -> None:
    """``u[g, 0] + u[g, 1] * x`` of a ``(4, 2)`` Normal."""
    (factor,) = factors_of(terms((2 * g, 1.0), (2 * g + 1, x)))
    assert shapes([factor]) == [(4, 2, 1)]
    (share,) = factor.shares
    np.testing.assert_array_equal(share.blocks, np.arange(8).reshape(4, 2))


def test_crossed_variables_do_not_merge() -> None:
    assert shapes(factors_of(terms((g, 1.0)), terms((h, 1.0)))) == [(4, 1, 1), (3, 1, 1)]


def test_nested_variables_do_not_merge() -> None:
    assert shapes(factors_of(terms((g, 1.0)), terms((nested, 1.0)))) == [(4, 1, 1), (2, 1, 1)]


def test_a_nested_index_of_one_variable_is_not_two_memberships() -> None:
    """Levels of the inner factor behind those of the outer one, in one vector."""
    factors = factors_of(terms((nested, 1.0), (2 + g, 1.0)))
    assert shapes(factors) == [(2, 1, 1), (4, 1, 1)]
    assert [share.effects for factor in factors for share in factor.shares] == [(0,), (0,)]


def test_multiple_membership() -> None:
    """Two players of a match: each row has two of the same levels."""
    home, away = g, (g + 1 + h) % 4
    (factor,) = factors_of(terms((home, 1.0), (away, -1.0)))
    assert shapes([factor]) == [(4, 1, 2)]


def test_multiple_membership_joins_through_a_third_column() -> None:
    factors = factors_of(
        terms((g, 1.0), (10 + h, x), (np.where(h, (g + 1) % 4, 10 + (h + 1) % 3), 2.0))
    )
    assert shapes(factors) == [(7, 1, 3)]


def test_multiple_membership_with_aligned_effects() -> None:
    """Another variable over the same memberships is a factor of its own."""
    away = (g + 1) % 4
    factors = factors_of(terms((g, 1.0), (away, 1.0)), terms((g, x)))
    assert sorted(shapes(factors)) == [(4, 1, 1), (4, 1, 2)]


def test_the_same_column_twice_adds_up() -> None:
    """``u[g] + u[g] * x``."""
    (factor,) = factors_of(terms((g, 1.0), (g, x)))
    assert shapes([factor]) == [(4, 1, 1)]
    np.testing.assert_allclose(factor.coefficients[:, 0, 0], 1.0 + x, rtol=1e-15)


def test_fixed_effects_are_the_factor_with_one_level() -> None:
    """An intercept, and a vector of coefficients that is multiplied by a design matrix."""
    intercept = terms((0, 1.0))
    beta = terms((0, x), (1, x**2), (2, ones * g))
    (factor,) = factors_of(intercept, beta)
    assert shapes([factor]) == [(1, 4, 1)]
    first, second = factor.shares
    assert (first.effects, second.effects) == ((0,), (1,))
    np.testing.assert_array_equal(second.blocks, [[0, 1, 2]])


def test_unused_levels_do_not_count() -> None:
    used = np.array([0, 2, 5, 9])[g]
    (factor,) = factors_of(terms((used, 1.0)), sizes=[10])
    assert shapes([factor]) == [(4, 1, 1)]
    np.testing.assert_array_equal(factor.shares[0].blocks, [[0], [2], [5], [9]])


def test_rows_without_the_effect() -> None:
    """A contrast that only some rows have: the others have no membership."""
    some = np.where(x > 0, g, NOTHING)
    (factor,) = factors_of(terms((some, np.where(x > 0, x, 0.0))))
    assert factor.n_levels == len(np.unique(g[x > 0]))
    np.testing.assert_array_equal(factor.coefficients[x <= 0], 0.0)


def test_columns_of_disjoint_rows_are_one_index() -> None:
    """Two halves of the rows, joined; or cases told apart by a condition."""
    above = x > 0
    halves = terms(
        (np.where(above, g, NOTHING), np.where(above, 1.0, 0.0)),
        (np.where(above, NOTHING, g), np.where(above, 0.0, x)),
    )
    (factor,) = factors_of(halves)
    assert shapes([factor]) == [(4, 1, 1)]
    np.testing.assert_array_equal(factor.coefficients[:, 0, 0], np.where(above, 1.0, x))


def test_contrasts_of_disjoint_rows_are_an_index_too() -> None:
    """Dummy variables times coefficients: ``b[0] * (g == 0) + b[1] * (g == 1) + …``."""
    dummies = terms(*((np.where(g == i, i, NOTHING), (g == i) * 2.0) for i in range(4)))
    (factor,) = factors_of(dummies)
    assert shapes([factor]) == [(4, 1, 1)]


def test_as_many_memberships_as_levels_are_dense_columns() -> None:
    """Each row hits every level: a design matrix in disguise."""
    swapped = terms((h % 2, 1.0), (1 - h % 2, x))
    (factor,) = factors_of(swapped)
    assert shapes([factor]) == [(1, 2, 1)]
    np.testing.assert_array_equal(factor.coefficients[:, 0, 0], np.where(h % 2 == 0, 1.0, x))


def test_correlated_blocks_stay_together() -> None:
    (factor,) = factors_of(terms((2 * g, 1.0), (2 * g + 1, x)), widths=[2])
    assert shapes([factor]) == [(4, 2, 1)]
    assert len(factor.shares) == 1
    np.testing.assert_array_equal(factor.shares[0].blocks, [[0], [1], [2], [3]])


def test_correlated_blocks_of_which_a_part_is_used() -> None:
    """The other effects matter through their correlation only: coefficient 0."""
    (factor,) = factors_of(terms((3 * g + 1, x)), widths=[3])
    assert shapes([factor]) == [(4, 3, 1)]
    np.testing.assert_array_equal(factor.coefficients[:, 0, [0, 2]], 0.0)


def test_slots_that_change_from_row_to_row() -> None:
    """``u[g, k]`` with an index array ``k``: one membership per row, in different slots."""
    (factor,) = factors_of(terms((3 * g + h, x)), widths=[3])
    assert shapes([factor]) == [(4, 3, 1)]
    np.testing.assert_array_equal(factor.coefficients[np.arange(n), 0, h], x)
    assert np.count_nonzero(factor.coefficients) == n


def test_correlated_and_independent_effects_of_one_factor() -> None:
    (factor,) = factors_of(terms((2 * g, 1.0), (2 * g + 1, x)), terms((g, x**2)), widths=[2, 1])
    assert shapes([factor]) == [(4, 3, 1)]


def test_a_column_of_zeros_is_dropped() -> None:
    """But not the last one: an effect that never counts still has to be drawn, from its prior."""
    assert shapes(factors_of(terms((g, 1.0), (h, 0.0)))) == [(4, 1, 1)]
    assert shapes(factors_of(terms((g, 0.0)))) == [(4, 1, 1)]


def test_responses_are_stacked() -> None:
    """Two responses share one effect; the second has another one besides."""
    shared = stack_rows(
        [
            (n, plain(g[:, None], ones[:, None])),
            (4, plain(np.arange(4)[:, None], 2 * np.ones((4, 1)))),
        ]
    )
    own = stack_rows([(n, None), (4, plain(np.zeros((4, 1), dtype=int), np.ones((4, 1))))])
    factors = factors_of(shared, own)
    assert shapes(factors) == [(4, 1, 1), (1, 1, 1)]
    np.testing.assert_array_equal(factors[0].codes[:, 0], [*g, 0, 1, 2, 3])
    np.testing.assert_array_equal(factors[1].coefficients[:n], 0.0)


def test_responses_of_different_widths_are_stacked() -> None:
    one = plain(g[:, None], ones[:, None])
    two = plain(np.stack([g, h + 4], axis=1), np.stack([x, ones], axis=1))
    factors = factors_of(stack_rows([(n, one), (n, two)]))
    assert shapes(factors) == [(4, 1, 1), (3, 1, 1)]


def test_a_matrix_response_has_its_elements_as_rows() -> None:
    positions = np.arange(6).reshape(2, 3, 1)
    stacked = stack_rows([(6, plain(positions, np.ones((2, 3, 1))))])
    np.testing.assert_array_equal(stacked.positions[:, 0], np.arange(6))


def joined(factor: GroupingFactor, values: np.ndarray) -> np.ndarray:
    """``Z K`` of a factor with one membership, ``(n, S)``: what multiplies each row's effects."""
    Z, loadings = factor.coefficients, factor.loadings
    if loadings is None:
        return Z[:, 0] if isinstance(Z, np.ndarray) else value_of(Z, values)[:, 0]
    entries = value_of(loadings.entries, values)
    K = np.zeros((len(entries), factor.n_effects, factor.n_effects))
    for e, (row, column) in enumerate(zip(loadings.rows, loadings.columns, strict=True)):
        K[:, row, column] += entries[:, e]
    K = np.broadcast_to(K, (factor.n_levels, *K.shape[1:]))
    products = np.einsum("nr,nrs->ns", Z[:, 0], K[factor.codes[:, 0]])
    return products[:, : factor.n_effects - factor.padding]


theta = pt.vector("theta", shape=(n,))


def value_of(expression: object, values: np.ndarray) -> np.ndarray:
    function = pytensor.function([theta], expression, mode="FAST_COMPILE", on_unused_input="ignore")
    return function(values)


def with_parameters(
    *columns: tuple[np.ndarray, np.ndarray | float, np.ndarray | int],
) -> tuple[Terms, Parameters]:
    """Make the terms of one variable: element, number, and which element of θ (or ``ONE``)."""
    parameters = Parameters()
    parameters.add(theta, (n,))
    parts = [np.stack([np.broadcast_to(c[i], (n,)) for c in columns], axis=1) for i in range(3)]
    return stack_rows([(n, Terms(parts[0], parts[1].astype(float), parts[2]))]), parameters


def test_one_parameter_stays_out_of_the_design() -> None:
    """``tau * z[g] * x`` has the design of ``u[g] * x``."""
    own, parameters = with_parameters((g, x, 3))
    (factor,) = find_factors([own], effects_of([1], [4]), parameters)
    np.testing.assert_array_equal(factor.coefficients[:, 0, 0], x)
    assert factor.loadings is not None
    np.testing.assert_allclose(joined(factor, x)[:, 0], x * x[3])


def test_a_parameter_per_level_stays_out_of_the_design() -> None:
    own, parameters = with_parameters((g, 1.0, g + 2))
    (factor,) = find_factors([own], effects_of([1], [4]), parameters)
    np.testing.assert_array_equal(factor.coefficients[:, 0, 0], 1.0)
    assert factor.loadings is not None
    assert factor.loadings.entries.type.shape == (4, 1)
    np.testing.assert_allclose(joined(factor, x)[:, 0], x[g + 2])


def test_a_triangular_matrix_of_parameters_gives_the_design_of_centred_code() -> None:
    """``z @ chol.T``: two columns, though there are three products."""
    own, parameters = with_parameters((2 * g, 1.0, 0), (2 * g, x, 1), (2 * g + 1, x, 2))
    (factor,) = find_factors([own], effects_of([2], [8]), parameters)
    assert shapes([factor]) == [(4, 2, 1)]
    np.testing.assert_array_equal(factor.coefficients[:, 0], np.column_stack([ones, x]))
    expected = np.column_stack([x[0] + x * x[1], x * x[2]])
    np.testing.assert_allclose(joined(factor, x), expected)


def test_loadings_get_a_column_each() -> None:
    """``lam[item] * u[person]``."""
    own, parameters = with_parameters((g, 1.0, h))
    (factor,) = find_factors([own], effects_of([1], [4]), parameters)
    assert shapes([factor]) == [(4, 3, 1)]
    assert factor.padding == 2
    np.testing.assert_allclose(joined(factor, x)[:, 0], x[h])


def test_a_parameter_per_row_stays_in_the_rows() -> None:
    own, parameters = with_parameters((g * 0, 1.0, np.arange(n)))
    many = [(g, x, np.arange(n)) for _ in range(2)]
    for columns in (many, [*many, (h + 4, 1.0, np.arange(n))]):
        own, parameters = with_parameters(*columns)
        factors = find_factors([own], effects_of([1], [7]), parameters)
        np.testing.assert_allclose(joined(factors[0], x)[:, 0], 2 * x * x, rtol=1e-14)


def test_parameters_and_numbers_of_one_factor() -> None:
    own, parameters = with_parameters((g, 1.0, 5))
    (factor,) = find_factors([terms((g, x)), own], effects_of([1, 1], [4, 4]), parameters)
    assert shapes([factor]) == [(4, 2, 1)]
    np.testing.assert_allclose(joined(factor, x), np.column_stack([x, ones * x[5]]))


def test_memberships_share_a_parameter() -> None:
    """``lam * (u[home] - u[away])``."""
    away = (g + 1 + h) % 4
    own, parameters = with_parameters((g, 1.0, 2), (away, -1.0, 2))
    (factor,) = find_factors([own], effects_of([1], [4]), parameters)
    assert shapes([factor]) == [(4, 1, 2)]
    np.testing.assert_array_equal(factor.coefficients[:, :, 0], [[1.0, -1.0]] * n)
    assert factor.loadings is not None


def test_scalars_that_share_no_row_are_one_factor() -> None:
    """``pt.stack([u0, u1, u2, u3])[g]`` of four variables."""
    scalars = [terms((np.where(g == i, 0, NOTHING), (g == i) * 1.0)) for i in range(4)]
    (factor,) = factors_of(*scalars, sizes=[1] * 4)
    assert shapes([factor]) == [(4, 1, 1)]
    assert [share.effects for share in factor.shares] == [(0, 1, 2, 3)]


def test_scalars_with_slopes_are_one_factor() -> None:
    intercepts = [terms((np.where(g == i, 0, NOTHING), (g == i) * 1.0)) for i in range(4)]
    slopes = [terms((np.where(g == i, 0, NOTHING), (g == i) * x)) for i in range(4)]
    (factor,) = factors_of(*intercepts, *slopes, sizes=[1] * 8)
    assert shapes([factor]) == [(4, 2, 1)]


@st.composite
def sums_of_products(draw: st.DrawFn) -> tuple[Terms, Parameters, np.ndarray, int, np.ndarray]:
    """Draw rows that are multiples of few sums, terms in any order: ``(K z)[kind] * x``."""
    n_slots, n_kinds = draw(st.integers(1, 5)), draw(st.integers(1, 6))
    numbers = np.random.default_rng(draw(st.integers(0, 99)))
    n_levels, J = draw(st.integers(1, 3)), draw(st.integers(1, n_slots))
    slots = np.stack([numbers.permutation(n_slots)[:J] for _ in range(n_kinds)])
    weights = numbers.choice([1.0, -1.0, 0.5, 0.0], size=slots.shape)
    places = numbers.integers(ONE, n, size=slots.shape)
    kind, level = numbers.integers(n_kinds, size=n), numbers.integers(n_levels, size=n)
    order = np.stack([numbers.permutation(J) for _ in range(n)])
    multiple = numbers.choice([1.0, 2.0, -3.0], size=(n, 1)) if draw(st.booleans()) else 1.0
    slots, weights, places = (a[kind[:, None], order] for a in (slots, weights, places))
    parameters = Parameters()
    parameters.add(theta, (n,))
    own = Terms(level[:, None] * n_slots + slots, weights * multiple, places)
    values = numbers.uniform(0.5, 2.0, size=n)
    expected = np.zeros((n, n_levels * n_slots))
    products = own.numbers * np.where(places == ONE, 1.0, values[places])
    for i in range(n):
        np.add.at(expected[i], own.positions[i], products[i])
    return stack_rows([(n, own)]), parameters, values, n_slots, expected


def dense_design(factor: GroupingFactor, width: int, size: int, values: np.ndarray) -> np.ndarray:
    """``Z K`` over the elements of one variable, ``(n, size)``."""
    per_level, result = joined(factor, values), np.zeros((n, size))
    (share,) = factor.shares
    elements = (share.blocks[:, :, None] * width + np.arange(width)).reshape(factor.n_levels, -1)
    for i in range(n):
        np.add.at(result[i], elements[factor.codes[i, 0]], per_level[i])
    return result


@settings(max_examples=150, deadline=None, derandomize=True)
@given(sums_of_products())
def test_random_sums_of_products(drawn: tuple) -> None:
    """Whatever is split off into loadings, the product is the same."""
    own, parameters, values, width, expected = drawn
    effects = effects_of([width], [expected.shape[1]])
    (factor,) = find_factors([own], effects, parameters)
    found = dense_design(factor, width, expected.shape[1], values)
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-14)


def test_a_matrix_of_parameters_stays_out_of_the_design() -> None:
    """``(chol @ z)[t] * x``: a kind of row per point in time, whatever the order of its terms."""
    t = np.tile(np.arange(6), 2)
    numbers, places = x[:, None] * np.ones(6), t[:, None] * 6 + np.arange(6)
    positions = np.broadcast_to(np.arange(6), (n, 6)).copy()
    positions[3], places[3] = positions[3, ::-1], places[3, ::-1].copy()
    matrix = pt.matrix("matrix", shape=(30, 6))
    parameters = Parameters()
    parameters.add(matrix, (30, 6))
    own = stack_rows([(n, Terms(positions, numbers, places))])
    (factor,) = find_factors([own], effects_of([1], [6]), parameters)
    assert shapes([factor]) == [(1, 6, 1)]
    np.testing.assert_allclose(factor.coefficients[:, 0].sum(axis=1), x)
    assert np.count_nonzero(factor.coefficients) == n
    assert factor.loadings is not None
    assert factor.loadings.rows.size == 36


# --- Order of elimination ---------------------------------------------------------------------


def factor(n_levels: int, n_effects: int = 1, n_memberships: int = 1) -> GroupingFactor:
    codes = np.zeros((n, n_memberships), dtype="int32")
    shares = tuple(Share((i,), np.arange(n_levels)[:, None]) for i in range(n_effects))
    coefficients = np.zeros((n, n_memberships, n_effects))
    return GroupingFactor(shares, n_levels, n_effects, codes, coefficients)


@pytest.mark.parametrize(
    ("factors", "leading", "trailing"),
    [
        ([factor(4)], 0, ()),
        ([factor(3), factor(8)], 1, (0,)),
        ([factor(6, 3), factor(8, 2)], 0, (1,)),  # 18 effects against 16
        ([factor(1, 20), factor(4)], 1, (0,)),  # fixed effects are dense, however many
        ([factor(1, 3)], None, (0,)),
        ([factor(50, 1, 2), factor(4), factor(1, 2)], 1, (0, 2)),  # levels that touch
        ([factor(50, 1, 2)], None, (0,)),
        ([], None, ()),
    ],
)
def test_leading_factor(
    factors: list[GroupingFactor], leading: int | None, trailing: tuple[int, ...]
) -> None:
    blocks = block_structure(factors)
    assert blocks.chain == (() if leading is None else (leading,))
    assert blocks.trailing == trailing


def test_parents() -> None:
    """Each level of the inner factor is in one of the outer."""
    (inner,), (outer,), (crossed,) = (factors_of(terms((codes, 1.0))) for codes in (g, nested, h))
    np.testing.assert_array_equal(parents_of(inner, outer), [0, 0, 1, 1])
    assert parents_of(outer, inner) is None
    assert parents_of(inner, crossed) is None


def test_large_nested_factors_form_a_chain() -> None:
    student = np.repeat(np.arange(4000), 2)
    levels = [student, student // 8, student // 80]
    own = [
        stack_rows([(8000, plain(codes[:, None], np.ones((8000, 1))))])
        for codes in (levels[2], levels[0], levels[1])
    ]
    factors = find_factors(own, effects_of([1] * 3, [4000] * 3), Parameters())
    blocks = block_structure(factors)
    assert blocks.chain == (1, 2, 0)
    assert blocks.trailing == ()
    np.testing.assert_array_equal(blocks.parents[0], np.arange(4000) // 8)


# --- Random structures ------------------------------------------------------------------------


@st.composite
def variables(draw: st.DrawFn) -> tuple[list[Terms], list[int], list[int]]:
    """Draw variables whose columns hit random blocks, or copies of each other's blocks."""
    rows = draw(st.integers(1, 6))
    codes: list[np.ndarray] = []
    own, widths, sizes = [], [], []
    for _ in range(draw(st.integers(1, 3))):
        width, n_blocks = draw(st.integers(1, 3)), draw(st.integers(1, 4))
        columns = []
        for _ in range(draw(st.integers(1, 4))):
            entry = st.integers(NOTHING, n_blocks - 1)
            drawn = st.lists(entry, min_size=rows, max_size=rows).map(np.array)
            copies = st.sampled_from(codes) if codes else drawn
            blocks = np.minimum(draw(drawn | copies), n_blocks - 1)
            codes.append(blocks)
            slot = draw(st.integers(0, width - 1))
            columns.append(np.where(blocks == NOTHING, NOTHING, blocks * width + slot))
        positions = np.stack(columns, axis=1)
        seed = draw(st.integers(0, 9))
        coefficients = np.random.default_rng(seed).integers(-1, 3, size=positions.shape) * 1.0
        coefficients[positions == NOTHING] = 0.0
        own.append(stack_rows([(rows, plain(positions, coefficients))]))
        widths.append(width)
        sizes.append(width * n_blocks)
    return own, widths, sizes


@settings(max_examples=200, deadline=None, derandomize=True)
@given(variables())
def test_random_structures(structure: tuple[list[Terms], list[int], list[int]]) -> None:
    own, widths, sizes = structure
    factors = find_factors(own, effects_of(widths, sizes), Parameters())
    assert_same_design(factors, own, widths, sizes)
    blocks = block_structure(factors)
    assert sorted([*blocks.chain, *blocks.trailing]) == list(range(len(factors)))
    # Each row hits one level: what makes its part of F block diagonal.
    assert all(factors[i].n_memberships == 1 for i in blocks.chain)
