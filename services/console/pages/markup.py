"""HTML in which every text is escaped unless it was made here: `tag("td", untrusted)` is safe by construction."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

_VOID = {"meta", "link", "input", "br", "hr"}


class Html(str):
    """Text that is markup already."""

    __slots__ = ()


def tag(name: str, /, *children: str | Iterable[str], **attributes: str | int | float | bool | None) -> Html:
    """An element. A trailing underscore of an attribute's name is dropped (`class_`), others become hyphens.

    Attributes that are None or False are left out; True stands alone.
    """
    written = "".join(_attribute(key, value) for key, value in attributes.items())
    if name in _VOID:
        return Html(f"<{name}{written}>")
    return Html(f"<{name}{written}>{join(*children)}</{name}>")


def table_row(*texts: str) -> Html:
    """A row of cells, each of escaped text; written directly, since most of a long page is such rows."""
    return Html(f"<tr><td>{'</td><td>'.join(map(escape, texts))}</td></tr>")


def join(*children: str | Iterable[str]) -> Html:
    """Children in a row, each escaped unless it is Html."""
    return Html("".join(_child(child) for child in children))


def _child(child: str | Iterable[str]) -> str:
    if isinstance(child, Html):
        return child
    if isinstance(child, str):
        return escape(child)
    return join(*child)


def _attribute(key: str, value: str | int | float | bool | None) -> str:
    if value is None or value is False:
        return ""
    name = key.rstrip("_").replace("_", "-")
    return f" {name}" if value is True else f' {name}="{escape(str(value))}"'
