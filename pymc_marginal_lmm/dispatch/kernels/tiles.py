"""Products of dense matrices, tile by tile, each held in registers while it is summed.

Compilers vectorise a loop over a row in steps of sixteen and leave the rest of it, which is most of
a short row, to scalars. So tiles are written in LLVM's vectors; it splits these into what the
machine has. At the right edge, lanes are masked.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir  # type: ignore[import-untyped]
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

__all__ = ["ROWS", "add_product"]

ROWS, LANES = 4, 8
"""Of a tile: eight vectors of AVX in double precision, and their operands fill its registers."""


@intrinsic
def _add_tile(typing_context, sign, a, a_down, a_right, b, b_down, c, c_down, n, rows, columns):  # type: ignore[no-untyped-def]
    """``C += sign · A B`` of one tile, ``(rows, columns)``, at most ``(ROWS, LANES)``.

    ``a``, ``b``, ``c`` are pairs of an array and where in its memory the operand begins, ``*_down``
    and ``*_right`` strides; ``n`` is the number of terms of each sum.
    """
    arguments = (sign, a, a_down, a_right, b, b_down, c, c_down, n, rows, columns)

    def emit(context, builder, signature, values):  # type: ignore[no-untyped-def]
        def operand(kind: Any, x: Any) -> Any:
            if not hasattr(kind, "types"):
                return x
            array = context.make_array(kind.types[0])(context, builder, builder.extract_value(x, 0))
            return builder.gep(array.data, [builder.extract_value(x, 1)])

        operands = [operand(kind, x) for kind, x in zip(signature.args, values, strict=True)]
        tile = _tile_function(builder.module, [x.type for x in operands])
        builder.call(tile, operands)
        return context.get_dummy_value()

    return types.void(*arguments), emit


def _tile_function(module: ir.Module, operands: list[ir.Type]) -> ir.Function:
    """Write the function that all tiles of a type call: inlined, it would be compiled for each."""
    scalar = operands[0]
    kind = ir.FunctionType(ir.VoidType(), operands)
    name = f"pymc_marginal_lmm_tile_{scalar}"
    function = cgutils.get_or_insert_function(module, kind, name)
    if not function.is_declaration:
        return function
    function.linkage = "linkonce_odr"
    function.attributes.add("noinline")
    builder = ir.IRBuilder(function.append_basic_block())
    sign, a, a_down, a_right, b, b_down, c, c_down, n, rows, columns = function.args

    word, lane, size = n.type, ir.IntType(32), 8 if isinstance(scalar, ir.DoubleType) else 4
    vector, flags = ir.VectorType(scalar, LANES), ir.VectorType(ir.IntType(1), LANES)
    place, zero = vector.as_pointer(), ir.Constant(vector, [0.0] * LANES)

    def of_llvm(name: str, result: Any, operands: list) -> Any:
        name = f"llvm.{name}.v{LANES}f{8 * size}" + (".p0" if "masked" in name else "")
        return cgutils.get_or_insert_function(module, ir.FunctionType(result, operands), name)

    fma = of_llvm("fmuladd", vector, [vector] * 3)
    masked_load = of_llvm("masked.load", vector, [place, lane, flags, vector])
    masked_store = of_llvm("masked.store", ir.VoidType(), [vector, place, lane, flags])

    def splat(x: Any) -> Any:
        undefined = ir.Constant(ir.VectorType(x.type, LANES), ir.Undefined)
        first = builder.insert_element(undefined, x, lane(0))
        return builder.shuffle_vector(
            first, undefined, ir.Constant(ir.VectorType(lane, LANES), [0] * LANES)
        )

    def body(masked: bool) -> None:
        numbers = ir.Constant(ir.VectorType(word, LANES), list(range(LANES)))
        mask = builder.icmp_signed("<", numbers, splat(columns)) if masked else None

        def load(x: Any) -> Any:
            x = builder.bitcast(x, place)
            if masked:
                return builder.call(masked_load, [x, lane(size), mask, zero])
            return builder.load(x, align=size)

        sums = [cgutils.alloca_once_value(builder, zero) for _ in range(ROWS)]
        with cgutils.for_range(builder, n) as loop:
            row = load(builder.gep(b, [builder.mul(loop.index, b_down)]))
            right = builder.mul(loop.index, a_right)
            for total, a_row in zip(sums, a_rows, strict=True):
                factor = splat(builder.load(builder.gep(a_row, [right])))
                builder.store(builder.call(fma, [factor, row, builder.load(total)]), total)
        signs = splat(sign)
        totals = [
            builder.call(fma, [signs, builder.load(total), load(c_row)])
            for total, c_row in zip(sums, c_rows, strict=True)
        ]
        for total, c_row in zip(totals, c_rows, strict=True):
            x = builder.bitcast(c_row, place)
            if masked:
                builder.call(masked_store, [total, x, lane(size), mask])
            else:
                builder.store(total, x, align=size)

    # A row that the tile lacks stands for its last one, and writes the same once more.
    last = builder.sub(rows, word(1))
    down = [
        builder.select(builder.icmp_signed("<", word(i), last), word(i), last) for i in range(ROWS)
    ]
    a_rows = [builder.gep(a, [builder.mul(i, a_down)]) for i in down]
    c_rows = [builder.gep(c, [builder.mul(i, c_down)]) for i in down]
    full = builder.icmp_signed("==", columns, word(LANES))
    with builder.if_else(full) as (then, otherwise):
        with then:
            body(masked=False)
        with otherwise:
            body(masked=True)
    builder.ret_void()
    return function


@njit(error_model="numpy")
def add_product(sign, A, B, C, top, stop, left, right, lower):  # type: ignore[no-untyped-def]
    """``C[top:top+ROWS, left:right] += sign · A[:stop, top:top+ROWS]ᵀ B[:stop, left:right]``.

    ``A`` may be strided, ``B`` and ``C`` are not. ``lower``: ``B`` is lower triangular.
    """
    size = A.itemsize
    down, along = A.strides[0] // size, A.strides[1] // size
    q, width = B.shape[1], C.shape[1]
    rows = min(ROWS, C.shape[0] - top)
    for j in range(left, right, LANES):
        first = j if lower else 0
        _add_tile(  # type: ignore[call-arg]
            C.dtype.type(sign),
            (A, first * down + top * along), along, down,
            (B, first * q + j), q,
            (C, top * width + j), width,
            stop - first, rows, min(LANES, right - j),
        )  # fmt: skip
