"""Saving and loading of judges: the causal LM's weights (or adapter), tokenizer, config and model card."""

from pathlib import Path

from transformers import AutoModelForCausalLM, AutoTokenizer

from hf_reward_ext.base.saving.base_model import load_adapter
from hf_reward_ext.base.saving.base_pointer import base_pointer
from hf_reward_ext.base.saving.card import CARD, CardText, hub_name, write_model_card
from hf_reward_ext.base.saving.loading import check_finite, check_loaded, require_config, whole_adapter
from hf_reward_ext.fast_slow.model_config import FastSlowRewardModelConfig

PAPER = {
    "title": "Fast-Slow Thinking RM: Efficient Integration of Scalar and Generative Reward Models",
    "id": "2603.20212",
}
WHAT = "A judge that answers in one token if it is confident and with a written judgment otherwise."
TAGS = ["hf-reward-ext", "fast-slow", "reward-model"]


def describe(config: FastSlowRewardModelConfig, causal_lm, tokenizer) -> None:
    """Store the description of the causal LM in the config."""
    config.adapter = hasattr(causal_lm, "peft_config")
    config.causal_lm_config = None if config.adapter else causal_lm.config
    config.name_or_path = base_pointer(causal_lm, tokenizer)["base_model_name_or_path"] or ""


def save_config(config: FastSlowRewardModelConfig, folder: str | Path) -> None:
    """Write `config.json`, which contains that of the causal LM and replaces it."""
    config = FastSlowRewardModelConfig.from_dict(config.to_dict())  # pyright: ignore[reportAssignmentType]
    config.architectures = ["FastSlowRewardModel"]
    config.save_pretrained(folder)


def save_judge(judge, folder: str | Path, **kwargs) -> None:
    """Save a judge for [`FastSlowRewardModel.save_pretrained`]."""
    judge.causal_lm.save_pretrained(folder, **kwargs)
    judge.tokenizer.save_pretrained(folder)
    save_config(judge.config, folder)
    if not (Path(folder) / CARD).exists():
        write_model_card(folder, card_text(str(folder), judge.judge_prompt.is_pairwise, judge.config.name_or_path))


def load_judge(name, base=None, tokenizer=None, config=None, **kwargs):
    """Load causal LM, tokenizer and config of a saved judge; see [`FastSlowRewardModel.from_pretrained`]."""
    hub = {key: kwargs[key] for key in ("revision", "cache_dir", "token", "local_files_only") if key in kwargs}
    kwargs.pop("num_labels", None)
    if config is None:
        require_config(name, "a saved judge", **hub)
        config = FastSlowRewardModelConfig.from_pretrained(name, **hub)
    tokenizer = tokenizer or AutoTokenizer.from_pretrained(name, **hub)
    if not config.adapter:
        causal_lm, report = AutoModelForCausalLM.from_pretrained(  # pyright: ignore[reportGeneralTypeIssues]
            name, config=config.causal_lm_config, use_safetensors=True, output_loading_info=True, **kwargs
        )
        check_loaded(name, causal_lm, report)
        return causal_lm, tokenizer, config
    from peft import PeftModel

    with whole_adapter(name, **hub):
        if base is not None:
            causal_lm = PeftModel.from_pretrained(base, name, **kwargs)
        else:
            causal_lm = load_adapter(name, **kwargs)
    check_finite(name, causal_lm, "adapter_model.safetensors, or its base,")
    return causal_lm, tokenizer, config


def card_text(path_or_repo: str, is_pairwise: bool, base: str | None) -> CardText:
    """Return the text of a judge's card, with an example that loads from `path_or_repo`."""
    call = 'judge.judge(["2+2?"], ["4"], ["5"])[0]' if is_pairwise else 'judge.score(["2+2?", "2+2?"], ["4", "5"])'
    snippet = f"""\
from hf_reward_ext import FastSlowRewardModel

judge = FastSlowRewardModel.from_pretrained({path_or_repo!r})
print({call})"""
    return CardText(WHAT, snippet, PAPER, TAGS, hub_name(base) if base != path_or_repo else None)
