"""What a plan has done about an API: orders to the engine. Pure."""

from dataclasses import dataclass

from serai.model import Version


@dataclass(frozen=True)
class Start:
    """Start a replica of a version, whose answers may take `drain_s`."""

    replica: str
    version: Version
    drain_s: float


@dataclass(frozen=True)
class Grant:
    """Let the replicas of a version that run have `drain_s` for their answers, too."""

    version: Version
    drain_s: float


@dataclass(frozen=True)
class Stop:
    """End a replica that gets no requests any more."""

    replica: str
    grace_s: float


@dataclass(frozen=True)
class Forget:
    """Remove what the engine still keeps of a deleted API."""

    api: str


Action = Start | Grant | Stop | Forget
