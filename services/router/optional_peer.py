"""Peers that help and are never needed: a request does not wait for one that has just failed."""

from __future__ import annotations

import hashlib

from meshkit.errors import BackendDown
from meshkit.picker import Picker
from meshkit.registry.base import Instance


def pick_rested(picker: Picker) -> Instance:
    """The next instance that is not resting; BackendDown where all are, so that a frozen peer costs one wait a rest."""
    instance = picker.pick()
    if picker.is_resting(instance):
        raise BackendDown(f"every instance of {instance.service} failed a moment ago")
    return instance


def pick_for(picker: Picker, conversation: str) -> Instance:
    """The same instance for a conversation as long as it is well, since only that one knows it; else another."""
    well = [instance for instance in picker.candidates() if not picker.is_resting(instance)]
    if not conversation or not well:
        return pick_rested(picker)
    return max(well, key=lambda instance: hashlib.blake2b(f"{conversation}\0{instance.id}".encode()).digest())
