"""The line of every key and list element of a TOML file. Used only to report what is wrong with it."""

from collections.abc import Iterator
from typing import Final

import tree_sitter_toml
from tree_sitter import Language, Node, Parser

from gateway.configuration.problems import Place

_LANGUAGE: Final = Language(tree_sitter_toml.language())
_KEYS: Final = frozenset({"bare_key", "quoted_key", "dotted_key"})
_ESCAPES: Final = {'\\"': '"', "\\\\": "\\"}


class Positions:
    """Where things stand in one file; lines count from 1."""

    def __init__(self, content: bytes) -> None:
        self._lines: dict[Place, int] = {(): 1}
        self._lengths: dict[Place, int] = {}
        for node in Parser(_LANGUAGE).parse(content).root_node.named_children:
            self._top(node)

    def line(self, place: Place) -> int:
        """Give the line of a place; of what is not there, the line of the table that should hold it."""
        while place not in self._lines:
            place = place[:-1]
        return self._lines[place]

    def _top(self, node: Node) -> None:
        match node.type:
            case "pair":
                self._pair(node, ())
            case "table" | "table_array_element":
                place = self._table(node)
                for child in node.named_children:
                    if child.type == "pair":
                        self._pair(child, place)

    def _table(self, node: Node) -> Place:
        """Note a `[table]` or `[[table]]`. A name on the way to it means the last element of a list so called."""
        line = node.start_point.row + 1
        keys = list(_keys(node.named_children[0]))
        place: Place = ()
        for depth, key in enumerate(keys, start=1):
            place = (*place, key)
            self._lines.setdefault(place, line)
            if place in self._lengths and depth < len(keys):
                place = (*place, self._lengths[place] - 1)
        if node.type == "table_array_element":
            index = self._lengths.get(place, 0)
            self._lengths[place] = index + 1
            place = (*place, index)
        self._lines[place] = line
        return place

    def _pair(self, node: Node, table: Place) -> None:
        place = table
        for key in _keys(node.named_children[0]):
            place = (*place, key)
            self._lines.setdefault(place, node.start_point.row + 1)
        self._value(node.named_children[-1], place)

    def _value(self, node: Node, place: Place) -> None:
        if node.type == "inline_table":
            for child in node.named_children:
                if child.type == "pair":
                    self._pair(child, place)
        elif node.type == "array":
            elements = [child for child in node.named_children if child.type != "comment"]
            for index, child in enumerate(elements):
                self._lines[(*place, index)] = child.start_point.row + 1
                self._value(child, (*place, index))


def _keys(node: Node) -> Iterator[str]:
    if node.type == "dotted_key":
        for child in node.named_children:
            if child.type in _KEYS:
                yield from _keys(child)
        return
    text = (node.text or b"").decode(errors="replace")
    if node.type == "quoted_key":
        quote, text = text[0], text[1:-1]
        if quote == '"':
            for escape, plain in _ESCAPES.items():
                text = text.replace(escape, plain)
    yield text
