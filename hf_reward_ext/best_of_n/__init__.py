"""Best-of-N: the `"reward-bon"` pipeline, and resumable files of training rows."""

from transformers import AutoModelForCausalLM
from transformers.pipelines import PIPELINE_REGISTRY

from hf_reward_ext.base.scoring.combine import FittedCombination, max_rank, min_max
from hf_reward_ext.best_of_n.budget import allocate_candidates, best_within_budget
from hf_reward_ext.best_of_n.draft_blocks import DraftBlocks, DraftBlocksOutput
from hf_reward_ext.best_of_n.engine import EngineBestOfN
from hf_reward_ext.best_of_n.pipeline import BestOfNPipeline
from hf_reward_ext.best_of_n.preference_rows import preference_rows
from hf_reward_ext.best_of_n.pruning import Pruning, warm_up_threshold
from hf_reward_ext.best_of_n.resampling import Resampling
from hf_reward_ext.best_of_n.sft_rows import sft_rows
from hf_reward_ext.best_of_n.step_labels import label_steps
from hf_reward_ext.best_of_n.stopping import BetaVotes, Drawn, ExpectedImprovement
from hf_reward_ext.best_of_n.write import write_best_of_n
from hf_reward_ext.best_of_n.writer import ResumableWriter

PIPELINE_REGISTRY.register_pipeline("reward-bon", BestOfNPipeline, pt_model=AutoModelForCausalLM, type="text")

__all__ = [
    "BestOfNPipeline",
    "BetaVotes",
    "DraftBlocks",
    "DraftBlocksOutput",
    "Drawn",
    "EngineBestOfN",
    "ExpectedImprovement",
    "FittedCombination",
    "Pruning",
    "Resampling",
    "ResumableWriter",
    "allocate_candidates",
    "best_within_budget",
    "label_steps",
    "max_rank",
    "min_max",
    "preference_rows",
    "sft_rows",
    "warm_up_threshold",
    "write_best_of_n",
]
