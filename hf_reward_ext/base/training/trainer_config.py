"""What every training configuration here has in common."""

from dataclasses import dataclass

import torch
from trl import RewardConfig


@dataclass
class BaseRewardConfig(RewardConfig):
    """[`~trl.RewardConfig`] that trains in float32 where there is no accelerator, in place of refusing to start."""

    def __post_init__(self):
        if self.bf16 is None and (self.use_cpu or not torch.accelerator.is_available()):
            self.bf16 = False
        super().__post_init__()
