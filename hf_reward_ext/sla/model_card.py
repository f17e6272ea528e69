"""Model card of a reward channel."""

from hf_reward_ext.base.saving.card import CardText, hub_name
from hf_reward_ext.sla.model_config import RewardTransformerConfig

PAPER = {"title": "Streaming Looking Ahead with Token-level Self-reward", "id": "2503.00029"}
WHAT = (
    "A reward channel next to the layers of its base model: it computes a reward for every token, for streaming "
    "look-ahead search. Rewards are raw; larger is better."
)
TAGS = ["hf-reward-ext", "sla", "reward-model"]

_SNIPPET = """\
from transformers import {imports}

from hf_reward_ext.sla import RewardTransformer, sla_generate

{policy}rt = RewardTransformer.from_pretrained({path_or_repo!r}{base})
tokenizer = AutoTokenizer.from_pretrained({tokenizer!r})
inputs = tokenizer("Once upon a time", return_tensors="pt")
print(rt(**inputs).token_rewards)
out = rt.generate(**inputs, custom_generate=sla_generate, width=2, step=10, depth=2, max_new_tokens=32)
print(tokenizer.decode(out[0]))"""


def card_text(config: RewardTransformerConfig, path_or_repo: str, tokenizer: str) -> CardText:
    """
    Return the text of the card of a channel.

    Args:
        config ([`RewardTransformerConfig`]): Configuration of the channel.
        path_or_repo, tokenizer (`str`): Locations of channel and tokenizer.
    """
    lies_beside = config.policy_folder is not None
    is_named = config.base_model_name_or_path is not None
    finds_base = (is_named or lies_beside) if config.adapter is None else (is_named and lies_beside)
    snippet = _SNIPPET.format(
        imports="AutoTokenizer" if finds_base else "AutoModelForCausalLM, AutoTokenizer",
        policy="" if finds_base else f"base = AutoModelForCausalLM.from_pretrained({'the base model'!r})\n",
        path_or_repo=path_or_repo,
        base="" if finds_base else ", base=base",
        tokenizer=tokenizer,
    )
    return CardText(WHAT, snippet, PAPER, TAGS, hub_name(config.base_model_name_or_path))
