"""Scheduler of vLLM for hidden states without drafts; imported by its engine alone, by name."""

from typing import Any

from vllm.v1.core.sched.scheduler import Scheduler  # pyright: ignore[reportMissingImports]


class StateScheduler(Scheduler):
    """
    Scheduler of vLLM that schedules no drafts.

    `extract_hidden_states` stores the states where a drafter would run, and proposes each token once more as its own
    draft. Without these drafts a step reads one token, and samples as without speculative decoding: with seeds, and on
    CPUs, where vLLM 0.32 divides the logits of drafts by uninitialized memory instead of the temperature.
    """

    def update_draft_token_ids(self, draft_token_ids: Any) -> None:
        """Discard the drafts of a step."""
