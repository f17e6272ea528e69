"""Checks for faults of reward models that no loss curve shows, by scoring a few rows in several ways."""

from hf_reward_ext.checks.check import check_reward_model
from hf_reward_ext.checks.finding import Finding
from hf_reward_ext.checks.report import RewardModelReport

__all__ = ["Finding", "RewardModelReport", "check_reward_model"]
