"""How the outline spells a value: bare where it can be nothing else, else as a JSON string."""

from __future__ import annotations

import json
import re

from services.compressor.stages.xml_blocks import NAME

STRING = r'"(?:[^"\\]++|\\.)*+"'
FIELD = rf"(?:{STRING}|(?![\"\[])(?:[^\s:]|:(?=\S))++)"
"""After `=`, up to a blank or to a colon before a blank."""
LISTED = rf"(?:{STRING}|(?![\" ])[^\n,\]|]*+)"
"""Between the commas of a list."""
CELL = rf"(?:\[{LISTED}(?:,{LISTED})*+\]|{STRING}|(?![\"\[])[^\n|]*+)"
"""Between the bars of a row; empty where the row lacks it."""
PATH = rf"{NAME}(?:/{NAME})*+"

_LISTED_VALUE = re.compile(rf"[\[,]({LISTED})", re.DOTALL)
_FIELD = re.compile(r"(?![\"\[])(?:[^\s:]|:(?=\S))++")
_LISTED = re.compile(r'(?!["\s])[^\n,\]|]++(?<!\s)')
_CELL = re.compile(r'(?!["\[\s])[^\n|]++(?<!\s)')
_LINE = re.compile(r'(?!["\s])[^\n]++(?<!\s)')


def field_value(text: str) -> str:
    """Behind `=` on a line."""
    return text if _FIELD.fullmatch(text) else json_string(text)


def listed(texts: list[str]) -> str:
    """`[a,b]`."""
    return "[" + ",".join(text if _LISTED.fullmatch(text) else json_string(text) for text in texts) + "]"


def cell(value: str | list[str] | None) -> str:
    """Of a row."""
    if value is None:
        return ""
    if isinstance(value, list):
        return listed(value)
    return value if _CELL.fullmatch(value) else json_string(value)


def line_text(text: str) -> str:
    """To the end of its line."""
    return text if _LINE.fullmatch(text) else json_string(text)


def read_text(written: str) -> str:
    """The text of any of these, but a list."""
    return str(json.loads(written, strict=False)) if written.startswith('"') else written


def read_list(written: str) -> list[str]:
    """The texts of `[a,b]`."""
    return [read_text(found) for found in _LISTED_VALUE.findall(written)]


def read_cell(written: str) -> str | list[str] | None:
    """None: the row lacks it."""
    if not written:
        return None
    return read_list(written) if written.startswith("[") else read_text(written)


def json_string(text: str) -> str:
    """With quotes."""
    return json.dumps(text, ensure_ascii=False)
