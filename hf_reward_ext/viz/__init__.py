"""Self-contained HTML pages of candidates, completions and judgments, for any browser, without a network."""

from hf_reward_ext.viz.page import write_html
from hf_reward_ext.viz.trace import Trace, trace_rewards

__all__ = ["Trace", "trace_rewards", "write_html"]
