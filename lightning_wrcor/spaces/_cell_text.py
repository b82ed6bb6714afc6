"""The community's text form of a pair of cells, ``Genotype(normal=[('sep_conv_3x3', 0), ...], ...)``, read safely."""

from __future__ import annotations

import ast
from typing import Any, NoReturn

from lightning_wrcor.spaces._cell_network import Cell, CellGenotype

_CELLS = ("normal", "reduce")
_CONCATS = ("normal_concat", "reduce_concat")
_NUMBERS = ("width", "depth")
_LONGEST_TEXT = 10_000
_LARGEST_NUMBER = 10_000


def write_genotype(genotype: CellGenotype, width: bool, depth: bool) -> str:
    """Write the text, with or without the two extensions ``width`` and ``depth``."""
    fields = [
        f"normal={list(genotype.normal)!r}",
        f"normal_concat={_write_nodes(genotype.normal_concat)}",
        f"reduce={list(genotype.reduce)!r}",
        f"reduce_concat={_write_nodes(genotype.reduce_concat)}",
    ]
    fields += [f"width={genotype.width}"] if width else []
    fields += [f"depth={genotype.depth}"] if depth else []
    return f"Genotype({', '.join(fields)})"


def _write_nodes(nodes: tuple[int, ...]) -> str:
    span = range(nodes[0], nodes[-1] + 1)
    return f"range({span.start}, {span.stop})" if tuple(span) == nodes else f"{list(nodes)!r}"


def read_genotype(text: str) -> dict[str, Any]:
    """Read the text into its fields: cells as tuples of (operation, input) pairs, concats as tuples of numbers.

    The text is parsed and its syntax tree walked; nothing in it is ever run.

    Raises:
        ValueError: with the part that cannot be read. Operations and node numbers are not judged here.
    """
    if len(text) > _LONGEST_TEXT:
        raise ValueError(f"A genotype text has at most {_LONGEST_TEXT:,} characters, got {len(text):,}.")
    return _Reader(text.strip()).fields()


class _Reader:
    """Walks the syntax tree of one text; keeps the text for the messages."""

    def __init__(self, text: str) -> None:
        self.text = text

    def fields(self) -> dict[str, Any]:
        try:
            call = ast.parse(self.text, mode="eval").body
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            raise ValueError(f"Not a genotype text ({error}): {_short(self.text)!r}") from error
        if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name) or call.func.id != "Genotype":
            self.refuse("Genotype(normal=[...], ...)", call)
        for argument in call.args:
            self.refuse("arguments with names only, such as normal=[...],", argument)
        fields: dict[str, Any] = {}
        for keyword in call.keywords:
            field = keyword.arg
            if field in fields:
                self.refuse(f"{field}= only once", keyword)
            if field in _CELLS:
                fields[field] = self.cell(keyword.value)
            elif field in _CONCATS:
                fields[field] = self.nodes(keyword.value)
            elif field in _NUMBERS:
                fields[field] = self.number(keyword.value)
            else:
                self.refuse(f"one of {', '.join(CellGenotype._fields)}", keyword)
        for field in (*_CELLS, *_CONCATS):
            if field not in fields:
                self.refuse(f"{field}=", call)
        return fields

    def cell(self, node: ast.expr) -> Cell:
        pairs = []
        for pair in self.items(node, "a list of ('operation', input) pairs"):
            items = self.items(pair, "an ('operation', input) pair")
            operation = items[0].value if items and isinstance(items[0], ast.Constant) else None
            if len(items) != 2 or not isinstance(operation, str):
                self.refuse("an ('operation', input) pair", pair)
            pairs.append((operation, self.number(items[1])))
        return tuple(pairs)

    def nodes(self, node: ast.expr) -> tuple[int, ...]:
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "range":
            if node.keywords or not 1 <= len(node.args) <= 2:
                self.refuse("range(first, end)", node)
            return tuple(range(*(self.number(argument) for argument in node.args)))
        items = self.items(node, "a list of node numbers or range(first, end)")
        return tuple(self.number(item) for item in items)

    def number(self, node: ast.expr) -> int:
        value = node.value if isinstance(node, ast.Constant) else None
        if not isinstance(value, int) or isinstance(value, bool) or value > _LARGEST_NUMBER:
            self.refuse(f"a whole number up to {_LARGEST_NUMBER:,}", node)
        return value

    def items(self, node: ast.expr, expected: str) -> list[ast.expr]:
        if not isinstance(node, (ast.List, ast.Tuple)):
            self.refuse(expected, node)
        return node.elts

    def refuse(self, expected: str, node: ast.AST) -> NoReturn:
        part = ast.get_source_segment(self.text, node) or self.text
        raise ValueError(f"Expected {expected} in a genotype text, got {_short(part)!r}.")


def _short(text: str) -> str:
    return text if len(text) <= 100 else f"{text[:97]}..."
