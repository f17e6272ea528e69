"""Best-of-N results as training rows: preference pairs, rejection sampling, resumable files."""

from hf_reward_ext.data_out.best_of_n import write_best_of_n
from hf_reward_ext.data_out.preference_rows import preference_rows
from hf_reward_ext.data_out.sft_rows import sft_rows
from hf_reward_ext.data_out.writer import ResumableWriter

__all__ = ["ResumableWriter", "preference_rows", "sft_rows", "write_best_of_n"]
