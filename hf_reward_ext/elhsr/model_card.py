"""Model card of a head."""

from hf_reward_ext.base.saving.card import CardText, hub_name
from hf_reward_ext.elhsr.model_config import ELHSRModelConfig

PAPER = {
    "title": "Reward Inside the Model: A Lightweight Hidden-State Reward Model for LLM's Best-of-N sampling",
    "id": "2505.12225",
}
WHAT = (
    "A linear reward head on the hidden states of its base model: it scores completions while they are generated. "
    "The reward is raw; larger is better."
)
TAGS = ["hf-reward-ext", "elhsr", "reward-model"]

_SNIPPET = """\
from transformers import {imports}

from hf_reward_ext import ELHSRForSequenceClassification

{policy}scorer = ELHSRForSequenceClassification.from_pretrained({path_or_repo!r}{base})
tokenizer = AutoTokenizer.from_pretrained({tokenizer!r})
pipe = pipeline("reward-bon", model=scorer.policy, tokenizer=tokenizer, reward_model=scorer.head)
print(pipe("Once upon a time", num_candidates=8, max_new_tokens=32))"""


def card_text(config: ELHSRModelConfig, path_or_repo: str, tokenizer: str) -> CardText:
    """
    Return the text of the card of a head.

    Args:
        config ([`ELHSRModelConfig`]): Configuration of the head.
        path_or_repo, tokenizer (`str`): Locations of head and tokenizer.
    """
    is_named = config.base_model_name_or_path is not None and config.adapter is None
    snippet = _SNIPPET.format(
        imports="AutoTokenizer, pipeline" if is_named else "AutoModelForCausalLM, AutoTokenizer, pipeline",
        policy="" if is_named else f"policy = AutoModelForCausalLM.from_pretrained({'the base model'!r})\n",
        path_or_repo=path_or_repo,
        base="" if is_named else ", base=policy",
        tokenizer=tokenizer,
    )
    return CardText(WHAT, snippet, PAPER, TAGS, hub_name(config.base_model_name_or_path))
