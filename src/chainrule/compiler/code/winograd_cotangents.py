"""Cotangents of a convolution's outputs, turned and transformed for the gradient of its weights in Winograd's form."""

from __future__ import annotations

from .image import emit_zeros
from .ir import I64, PTR, Module, Value, vector
from .packing import transpose
from .winograd_plan import WinogradWeightsPlan
from .winograd_tiles import columns
from .winograd_transforms import IN, OUT, both_axes, cotangents


def emit_turn(module: Module, name: str, plan: WinogradWeightsPlan) -> None:
    """The function `name(g, out, i64 rows, i64 height)`: an image's rows with output channels side by side.

    Args:
        g: the first output channel and row. out: (row, column, output channel), with an even number of rows and
            columns; a column that does not exist is left as it is, a row becomes zero.
        rows: of tiles. height: rows that exist.
    """
    f = module.function(name, [PTR, PTR, I64, I64], internal=True)
    g, out, rows, height = f.arguments
    conv, lanes, type = plan.conv, plan.shape.lanes, plan.type
    _, _, channel_step, row_step, _ = conv.g.strides
    width = conv.out[1]
    line = OUT * plan.across * plan.wide
    starts = columns(conv.outputs, lanes)
    table = module.table(f"{name}_starts", I64, starts)
    wide = vector(type, lanes)

    def block(source: Value, to: Value, first: Value | int, count: int) -> None:
        """So many pixels of a row, beginning with the first."""
        vectors = [
            f.load_masked(wide, f.element(source, o * channel_step, type), f.mask(lanes, count), first)
            for o in range(min(lanes, conv.outputs))
        ]
        vectors += [f.zero(wide)] * (lanes - len(vectors))
        there = f.element(to, first * plan.wide, type)
        for pixel, value in enumerate(transpose(f, vectors)[:count]):
            f.store(value, there, pixel * plan.wide)

    with f.loop(0, height) as row, f.loop(0, len(starts)) as piece:
        start = f.load(I64, f.address_of(table), piece.index)
        source = f.element(g, row.index * row_step + start * channel_step, type)
        to = f.element(out, row.index * line + start, type)
        whole = width // lanes * lanes
        with f.loop(0, whole, lanes) as loop:
            block(source, to, loop.index, lanes)
        if width % lanes:
            block(source, to, whole, width % lanes)
    with f.when(height < rows * OUT):
        emit_zeros(f, type, lanes, f.element(out, height * line, type), line)
    f.ret()


def emit_cotangents(module: Module, name: str, plan: WinogradWeightsPlan) -> None:
    """The function `name(turned, out, i64 rows)`: tiles of what `emit_turn` wrote, panel by panel (tile, output)."""
    f = module.function(name, [PTR, PTR, I64], internal=True)
    turned, out, rows = f.arguments
    lanes, type, shape = plan.shape.lanes, plan.type, plan.shape
    wide = vector(type, lanes)
    line = OUT * plan.across * plan.wide

    def tile(here: Value, there: Value) -> None:
        pixels = [[f.load(wide, here, i * line + j * plan.wide) for j in range(OUT)] for i in range(OUT)]
        for i, row in enumerate(both_axes(cotangents, pixels)):
            for j, value in enumerate(row):
                f.store(value, there, (i * IN + j) * plan.cotangent_point)

    with f.loop(0, rows) as row, f.loop(0, plan.across) as column, f.loop(0, -(-plan.conv.outputs // lanes)) as group:
        here = row.index * (OUT * line) + column.index * (OUT * plan.wide) + group.index * lanes
        place = (row.index * plan.across + column.index) * shape.columns
        place = place + group.index // shape.vectors * (plan.count * shape.columns)
        place = place + group.index % shape.vectors * lanes
        tile(f.element(turned, here, type), f.element(out, place, type))
    f.ret()
