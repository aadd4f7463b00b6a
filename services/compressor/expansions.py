"""What was left out, by handle, for a while. A handle is of one tenant, and can be neither guessed nor told apart from
one that never was: it is a keyed digest of tenant and text, so the same text has the same handle in every turn."""

from __future__ import annotations

import base64
import hashlib
import hmac
import sys
from collections.abc import Mapping

from meshkit.errors import NotFound
from services.compressor.bounded import BoundedStore

_HANDLE_BYTES = 12
_ENTRY_BYTES = 300
"""Of keys and bookkeeping, beside the text."""


class Expansions:
    """Handles and their texts. Without the `secret` nobody can compute a handle."""

    def __init__(self, store: BoundedStore[tuple[str, str], str], secret: bytes) -> None:
        self._store = store
        self._secret = secret

    def handle_of(self, tenant: str, text: str) -> str:
        """The handle of this text for this tenant; nothing is stored."""
        message = tenant.encode() + b"\0" + text.encode("utf-8", "surrogatepass")
        digest = hmac.new(self._secret, message, hashlib.sha256).digest()
        return base64.urlsafe_b64encode(digest[:_HANDLE_BYTES]).decode()

    def keep(self, tenant: str, handles: Mapping[str, str]) -> None:
        """From now on these can be expanded."""
        for handle, text in handles.items():
            self._store.put((tenant, handle), text, sys.getsizeof(text) + _ENTRY_BYTES)

    def expand(self, tenant: str, handle: str) -> str:
        """The text. Raises NotFound, with the same words for an unknown, a foreign and an expired handle."""
        text = self._store.get((tenant, handle))
        if text is None:
            raise NotFound("handle: nothing is kept under it; send the original text instead")
        return text
