"""What node 0 and another node say to each other, in the frames of `transport.py`.

Challenge -> Proof -> Proven: each end shows that it knows the secret before anything else is said. Then Terms -> Start,
or Refused with the reason. From then on plans go to the node, and both ends send a Beat every BEAT_S.
"""

from __future__ import annotations

import msgspec

from services.inference.engine.messages import Fatal
from services.inference.engine.plan import FromRank, Join, StepPlan

BEAT_S = 0.5
GREETING_S = 5.0  # most time for each message before Start, but for the wait for other nodes
MAX_GREETING_BYTES = 4096


class Challenge(msgspec.Struct, frozen=True, kw_only=True, tag="challenge"):
    """Node 0 speaks first."""

    nonce: bytes


class Proof(msgspec.Struct, frozen=True, kw_only=True, tag="proof"):
    """The node knows the secret, and wants to see that node 0 does."""

    nonce: bytes
    mac: bytes


class Proven(msgspec.Struct, frozen=True, kw_only=True, tag="proven"):
    """Node 0 knows it too."""

    mac: bytes


class Terms(msgspec.Struct, frozen=True, kw_only=True, tag="terms"):
    """What must be the same on all nodes, but for `node_rank`; every `auto` decided."""

    node_rank: int
    version: str
    torch: str
    weights: str
    nodes: int
    ranks: int
    device: str
    dtype: str
    quantization: str
    kv_tokens: int
    max_sequences: int


class Refused(msgspec.Struct, frozen=True, kw_only=True, tag="refused"):
    """Node 0 will not work with this node; it closes the line after saying so."""

    problem: str


class Start(msgspec.Struct, frozen=True, kw_only=True, tag="start"):
    """All nodes are there: start your ranks, which meet at this URL."""

    rendezvous: str


class Beat(msgspec.Struct, frozen=True, kw_only=True, tag="beat"):
    """A sign of life; who hears nothing for `patience_s` may give the sender up."""

    patience_s: float


class RankSaid(msgspec.Struct, frozen=True, kw_only=True, tag="said"):
    """A node passes on what one of its ranks told rank 0, or what it found out about that rank."""

    rank: int
    message: FromRank | Fatal


ToNode = Challenge | Proven | Refused | Start | Join | StepPlan | Beat
FromNode = Proof | Terms | Beat | RankSaid
