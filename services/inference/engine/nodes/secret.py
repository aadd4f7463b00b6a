"""The secret that all nodes of one engine share, and proofs of it that tell nothing about it.

A proof is HMAC-SHA-256 over the role of who proves and both ends' nonces, so that neither an old proof nor one's own,
thrown back, is worth anything. It says who is at the other end when the line opens; what goes over the line later is
neither encrypted nor signed.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from pathlib import Path
from typing import Literal

NONCE_BYTES = 32
LEAST_CHARACTERS = 32

Role = Literal["node 0", "another node"]


class NoSecret(Exception):
    """The file can't be read or holds too little; the text says which file."""


def read_secret(file: Path) -> bytes:
    """The file's content without surrounding white space. Raises NoSecret."""
    try:
        secret = file.read_bytes().strip()
    except OSError as problem:
        raise NoSecret(f"{file} can't be read: {problem.strerror}") from None
    if len(secret) < LEAST_CHARACTERS:
        advice = f"openssl rand -hex 32 > {file}"
        raise NoSecret(f"{file} holds {len(secret)} characters, {LEAST_CHARACTERS} are the least; {advice}")
    return secret


def fresh_nonce() -> bytes:
    return secrets.token_bytes(NONCE_BYTES)


def prove(secret: bytes, role: Role, node_0_nonce: bytes, node_nonce: bytes) -> bytes:
    """The proof that `role` gives."""
    return hmac.new(secret, role.encode() + b"\0" + node_0_nonce + node_nonce, hashlib.sha256).digest()


def is_proof(mac: bytes, secret: bytes, role: Role, node_0_nonce: bytes, node_nonce: bytes) -> bool:
    """Whether `mac` is the proof of `role`; nonces of another length prove nothing."""
    if len(node_0_nonce) != NONCE_BYTES or len(node_nonce) != NONCE_BYTES:
        return False
    return hmac.compare_digest(mac, prove(secret, role, node_0_nonce, node_nonce))
