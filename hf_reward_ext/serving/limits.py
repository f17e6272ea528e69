"""Limits of a reward server."""

from dataclasses import dataclass

from hf_reward_ext.base.options import check_count, check_number


@dataclass(frozen=True)
class Limits:
    """
    Limits of a reward server, and of its batches.

    Args:
        max_body_bytes (`int`, *optional*, defaults to 16 MiB): Maximum size of a request; larger ones are answered by
            413.
        max_rows (`int`, *optional*, defaults to 1024): Maximum number of rows of a request; answered by 413.
        max_characters (`int`, *optional*, defaults to 1,000,000): Maximum number of characters of a text; 413.
        max_waiting_rows (`int`, *optional*, defaults to 4096): Maximum number of rows that wait; requests beyond are
            answered by 429.
        max_batch_rows (`int`, *optional*, defaults to 64): Number of rows of several requests that are scored together.
        max_wait_seconds (`float`, *optional*, defaults to 0.005): Time that a request waits for others.
        body_seconds (`float`, *optional*, defaults to 30): Time for a client to send its request; answered by 408.

    Raises:
        TypeError, ValueError: If a value is out of its range.
    """

    max_body_bytes: int = 2**24
    max_rows: int = 1024
    max_characters: int = 1_000_000
    max_waiting_rows: int = 4096
    max_batch_rows: int = 64
    max_wait_seconds: float = 0.005
    body_seconds: float = 30.0

    def __post_init__(self):
        for name in ("max_body_bytes", "max_rows", "max_characters", "max_waiting_rows", "max_batch_rows"):
            check_count(name, getattr(self, name))
        check_number("max_wait_seconds", self.max_wait_seconds, least=0)
        check_number("body_seconds", self.body_seconds, above=0)
        if self.max_waiting_rows < self.max_rows:
            raise ValueError(
                f"`max_waiting_rows` must be at least `max_rows` ({self.max_rows}), so that the largest request can "
                f"wait, got {self.max_waiting_rows}. Raise it."
            )
