"""Model cards of a guide and of a reward model."""

from hf_reward_ext.base.saving.card import CardText, hub_name

PAPER = {
    "title": "GenARM: Reward Guided Generation with Autoregressive Reward Model for Test-time Alignment",
    "id": "2410.08193",
}
TAGS = ["hf-reward-ext", "genarm", "reward-model"]

_GUIDE = (
    "An autoregressive reward model: its next-token log-probabilities are rewards that guide another model. It has no "
    "classification head, so `GRPOTrainer(reward_funcs=...)` cannot load it by path; "
    "`GenARMRewardModel.from_causal_lm(...).save_pretrained(...)` converts it to a reward model."
)
_GUIDE_SNIPPET = """\
{imports}

from hf_reward_ext import GenARMLogitsProcessor

policy = AutoModelForCausalLM.from_pretrained({policy!r})
guide = {load}.from_pretrained({path_or_repo!r})
tokenizer = AutoTokenizer.from_pretrained({tokenizer!r})
inputs = tokenizer("Once upon a time", return_tensors="pt")
out = policy.generate(**inputs, max_new_tokens=32, logits_processor=[GenARMLogitsProcessor(guide, alpha=1.0)])
print(tokenizer.decode(out[0]))"""

_CONDITIONED_SNIPPET = """\
from transformers import AutoModelForCausalLM, AutoTokenizer

from hf_reward_ext import GenARMLogitsProcessor
from hf_reward_ext.genarm import load_conditioned_guide

guide = load_conditioned_guide({folder!r})
tokenizer = AutoTokenizer.from_pretrained({folder!r})
policy = AutoModelForCausalLM.from_pretrained(guide.peft_config["default"].base_model_name_or_path)
inputs = tokenizer("Once upon a time", return_tensors="pt")
processor = GenARMLogitsProcessor(guide, weights={weights})  # of guide.objectives
print(tokenizer.decode(policy.generate(**inputs, max_new_tokens=32, logits_processor=[processor])[0]))"""

_SCORER = (
    "An autoregressive reward model as a scorer of texts: the reward is the sum of its log-probabilities over the "
    "completion, raw, in nats; larger is better."
)
_SCORER_SNIPPET = """\
from transformers import AutoTokenizer

from hf_reward_ext import GenARMRewardModel

rm = GenARMRewardModel.from_pretrained({path_or_repo!r})
tokenizer = AutoTokenizer.from_pretrained({tokenizer!r})
inputs = tokenizer("Once upon a time", return_tensors="pt")
out = rm(**inputs)
print(out.logits, out.token_rewards)"""


def guide_card(path_or_repo: str, policy: str, tokenizer: str, is_adapter: bool) -> CardText:
    """
    Return the text of the card of a guide.

    Args:
        path_or_repo, policy, tokenizer (`str`): Locations of guide, policy and tokenizer.
        is_adapter (`bool`): Whether the guide is saved as an adapter.
    """
    imports = "from transformers import AutoModelForCausalLM, AutoTokenizer"
    load = "AutoModelForCausalLM"
    if is_adapter:
        load = "AutoPeftModelForCausalLM"
        imports = f"from peft import {load}\n{imports}"
    snippet = _GUIDE_SNIPPET.format(
        imports=imports, policy=policy, load=load, path_or_repo=path_or_repo, tokenizer=tokenizer
    )
    return CardText(_GUIDE, snippet, PAPER, TAGS, hub_name(policy) if policy != path_or_repo else None)


def conditioned_card(folder: str, num_objectives: int) -> CardText:
    """
    Return the text of the card of a conditioned guide.

    Args:
        folder (`str`): Location of the guide.
        num_objectives (`int`): Number of objectives.
    """
    weights = [round(1 / num_objectives, 6)] * num_objectives
    text = f"{_GUIDE} Its weights of {num_objectives} objectives are chosen at run time; PEFT alone loads equal ones."
    return CardText(text, _CONDITIONED_SNIPPET.format(folder=folder, weights=weights), PAPER, TAGS)


def scorer_card(path_or_repo: str, tokenizer: str) -> CardText:
    """
    Return the text of the card of a reward model.

    Args:
        path_or_repo, tokenizer (`str`): Locations of model and tokenizer.
    """
    return CardText(_SCORER, _SCORER_SNIPPET.format(path_or_repo=path_or_repo, tokenizer=tokenizer), PAPER, TAGS)
