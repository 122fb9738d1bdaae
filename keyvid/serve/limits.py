"""What a server takes at most."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """What a server takes at most.

    Attributes:
        upload_bytes: of picture, sound and settings together.
        pixels: of a picture.
        seconds: of a clip.
        queue: clips that wait while others are made.
        queue_of_one: clips of one client that wait, None for as many as of all.
        job_seconds: that the making of a clip may take.
        keep_seconds: that a result is kept after its clip is made.
        grace_seconds: that a clip may still take when the server is asked to stop.
        stuck_seconds: that a step may take, however quick the others were, before its worker
            counts as stuck.
    """

    upload_bytes: int = 32_000_000
    pixels: int = 50_000_000
    seconds: float = 60.0
    queue: int = 8
    queue_of_one: int | None = None
    job_seconds: float = 3600.0
    keep_seconds: float = 3600.0
    grace_seconds: float = 30.0
    stuck_seconds: float = 300.0
