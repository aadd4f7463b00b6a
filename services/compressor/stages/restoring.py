"""The inverse of all lossless stages that change a form: JSON, XML and log lines as they were, but for layout.

Meant for a text that the stages made. They leave a text alone that already holds one of their marks, so no mark in
their result is anybody else's.
"""

from __future__ import annotations

from services.compressor.stages import log_format, record_reader, xml_outline


def restored(text: str) -> str:
    """In the reverse order of the stages. Never fails: what can't be read stays."""
    return xml_outline.expanded(record_reader.expanded(log_format.expanded(text)))
