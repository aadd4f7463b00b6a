"""HTML with one blank for each run of white space, and one line end for each that holds one.

That is how browsers show it. White space stays in `pre`, `code`, scripts and whatever else shows or runs it, in quoted
attribute values, in quotes and in inline code; comments, tags and text stay as written. Where text looks laid out
by its white space after all, like Markdown, a patch or code between two tags, the block is left alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from services.compressor.shield import Shield
from services.compressor.spans import replaced
from services.compressor.stages.html_blocks import VERBATIM, HtmlBlock, find_html
from services.compressor.stages.stage import Loss, Quality, Rewritten
from services.compressor.stages.xml_blocks import Kind, Token

# The white space of HTML: a no-break space is text.
_IN_TEXT = re.compile(r"(`[^`\r\n]*+`|\"[^\"\r\n]*+\")|[ \t\n\r\f]++")
_IN_TAG = re.compile(r"(\"[^\"]*+\"|'[^']*+')|[ \t\n\r\f]++")
_PATCH = re.compile(r"\n(?:[+\-]|@@ )")
_MARKDOWN = re.compile(r"\n[ \t\r\f]*+\n[ \t]*+[^\s<]")
_COLUMNS = re.compile(r"[^\s][ \t]{3,}+[^\s]")
_INDENTATION = re.compile(r"\n([ \t]*+)[^\s]")
_SHOWN_AS_WRITTEN = re.compile(r"white-space\s*+:\s*+(?:pre|break)", re.IGNORECASE)
_AFTER_NAME = re.compile(r"[^A-Za-z]")


class HtmlCompact:
    """HTML in text and in data fences, where it is not well-formed XML."""

    name = "html_compact"
    description = "Writes each run of white space in HTML as one blank or line end"
    loss = Loss.LOSSLESS
    # Equal elements, attributes and words; style sheets elsewhere may show more of the white space.
    quality = Quality(score=0.99, low=0.95, high=1.0)
    roles = frozenset({"system", "user", "tool"})

    def rewrite(self, text: str, shield: Shield) -> Rewritten:
        changes = []
        for block in find_html(text, shield):
            before = text[block.start : block.end]
            after = before if _is_laid_out(block) else compacted(block.tokens)
            if len(after) < len(before) and shield.survives(before, after):
                changes.append(((block.start, block.end), after))
        return Rewritten(text=replaced(text, changes) if changes else text, segment_count=len(changes))


def compacted(tokens: Iterable[Token]) -> str:
    """The block's text with short white space."""
    return "".join(_compacted(token) for token in tokens)


def _compacted(token: Token) -> str:
    if token.kind is Kind.OTHER:
        return token.text
    if token.kind is Kind.TEXT:
        return _IN_TEXT.sub(lambda found: found[1] or _line_end_or_blank(found[0]), token.text)
    return _without_last_blank(_IN_TAG.sub(lambda found: found[1] or " ", token.text))


def _line_end_or_blank(blanks: str) -> str:
    return "\n" if "\n" in blanks or "\r" in blanks else " "


def _without_last_blank(tag: str) -> str:
    """Without the blank at the end, but for one between a bare value and a slash: the slash would join the value."""
    if tag.endswith(" >"):
        return tag[:-2] + ">"
    if tag.endswith(('" />', "' />")) or (tag.endswith(" />") and "=" not in tag):
        return tag[:-3] + "/>"
    return tag


def _is_laid_out(block: HtmlBlock) -> bool:
    """Whether white space may mean something. A whole document is what it says, but it may be shown in a patch."""
    texts = [token.text for token in block.tokens if token.kind is Kind.TEXT and not token.text.isspace()]
    if any(_is_in_patch_or_code(text) for text in texts):
        return True
    if any(token.name == "style" and _shows_white_space(token.text) for token in block.tokens):
        return True
    return not block.is_closed_document and any(_has_layout(text) for text in texts)


def _is_in_patch_or_code(text: str) -> bool:
    """Lines that begin with plus or minus; inline code that goes on behind this text, with a tag in it."""
    return _PATCH.search(text) is not None or text[text.rfind("\n") + 1 :].count("`") % 2 == 1


def _has_layout(text: str) -> bool:
    """Paragraphs as in Markdown, columns, or lines that are indented in different ways, as code is."""
    if _MARKDOWN.search(text) or _COLUMNS.search(text):
        return True
    return len(set(_INDENTATION.findall(text))) > 1


def _shows_white_space(sheet: str) -> bool:
    """Whether a rule of the style sheet makes white space text in elements where it is not by itself."""
    for rule in sheet.split("}"):
        head, _, body = rule.rpartition("{")
        if _SHOWN_AS_WRITTEN.search(body) and not _are_verbatim(head.rpartition("{")[2]):
            return True
    return False


def _are_verbatim(selectors: str) -> bool:
    """Whether all select elements in which white space is text anyway, by name."""
    selected = [(selector.split() or [""])[-1] for selector in selectors.split(",")]
    return all(_AFTER_NAME.split(part, 1)[0].lower() in VERBATIM for part in selected)
