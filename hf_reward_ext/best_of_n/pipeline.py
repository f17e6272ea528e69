"""The `"reward-bon"` pipeline: best of N by any reward."""

from typing import Any, cast

import torch
from torch import Tensor
from tqdm.auto import tqdm
from transformers import AutoConfig, PreTrainedModel, TextGenerationPipeline, set_seed
from transformers.pipelines.text_generation import ReturnType
from transformers.utils.chat_template_utils import Chat

from hf_reward_ext.base.lm.keywords import check_generate_keywords
from hf_reward_ext.base.lm.prefill import SharedPrefill
from hf_reward_ext.base.scoring.combine import max_rank, min_max
from hf_reward_ext.base.scoring.text import TextScorer
from hf_reward_ext.base.scoring.votes import majority_vote
from hf_reward_ext.base.training.token_rewards import completion_mask_from_ids
from hf_reward_ext.elhsr.decoding import HiddenStateReward
from hf_reward_ext.elhsr.model import ELHSRModel
from hf_reward_ext.elhsr.model_config import ELHSRModelConfig
from hf_reward_ext.elhsr.pruning import generate_pruned

_COMBINATIONS = {"max_rank": max_rank, "min_max": min_max}


class BestOfNPipeline(TextGenerationPipeline):
    """
    Text generation that samples N candidates per prompt and returns the best by a reward.

    Registered as `"reward-bon"` by `import hf_reward_ext`. The prompt is read once for all its candidates. An ELHSR
    head scores them while they are written; any other reward reads their text.

    Args:
        reward_model ([`ELHSRModel`], `PreTrainedModel`, `str` or `callable`): A head trained on this policy; a
            sequence-classification reward model; the name or folder of either; or
            `(prompts, completions) -> rewards` with one entry per candidate, larger is better.
        num_candidates (`int`, *optional*, defaults to 16): N.
        reward_tokenizer (*optional*): Tokenizer of a reward model given as an object; default: the policy's.
        second_reward_model (*optional*): Another text reward, combined with the first by `combine`.
        **kwargs: Those of [`~transformers.TextGenerationPipeline`].

    Call parameters, beside those of `text-generation`:
        num_candidates (`int`): N of this call.
        return_all (`bool`, defaults to `False`): All N candidates per prompt, best first.
        vote (`str`, *optional*): `"majority"` or `"weighted"` (by reward): the best candidate among those with the
            winning answer comes first. Needs `extract_answer`.
        extract_answer (`callable`): Completion text to a hashable answer, or `None` where there is none.
        prune ([`Pruning`], *optional*): Stop candidates whose running reward falls behind. Needs an ELHSR head.
        candidates_per_batch (`int`, *optional*): Sample at most this many candidates of a prompt at a time, when
            memory is short.
        combine (`str` or `callable`, defaults to `"min_max"`): `"max_rank"`, `"min_max"` or a fitted combination
            `(rewards, second_rewards) -> rewards`.
        seed (`int`, *optional*): Seeds the samplers before the first prompt.
        progress (`bool`, *optional*): Progress bar over a list of prompts; default: for more than one.

    Returns:
        Per prompt a list of `dict` with `generated_text`, `score` (raw), `num_tokens`, `pruned`; with a calibrated head
        `probability`; with `vote` also `answer`.

    Raises:
        ValueError: Before any work, if an option does not fit (see the messages).

    Example:
    ```python
    >>> pipe = pipeline("reward-bon", model=policy, tokenizer=tokenizer, reward_model=head, num_candidates=16)
    >>> pipe("6 1 3 3=12|", max_new_tokens=32)
    [{'generated_text': '6 1 3 3=12|6-1=5;5*3=15;15-3=12', 'score': 4.1, ...}]
    ```
    """

    def __init__(
        self,
        *args,
        reward_model: ELHSRModel | PreTrainedModel | str | object = None,
        num_candidates: int = 16,
        reward_tokenizer=None,
        second_reward_model=None,
        **kwargs,
    ):
        if reward_model is None:
            raise ValueError(
                "No `reward_model` was given, but 'reward-bon' needs one to choose a candidate. Pass an ELHSR head, "
                "a reward model, its name, or a callable `(prompts, completions) -> rewards`."
            )
        super().__init__(*args, num_candidates=num_candidates, **kwargs)
        self.reward_tokenizer = reward_tokenizer
        self.head, self.scorer = self._resolve(reward_model)
        self.second_scorer = None
        if second_reward_model is not None:
            second_head, self.second_scorer = self._resolve(second_reward_model)
            if second_head is not None:
                raise ValueError(
                    "`second_reward_model` is an ELHSR head, but only the first reward is read while generating. "
                    "Pass the head as `reward_model`."
                )
        if self.head is not None:
            self.head.to(self.model.device)  # pyright: ignore[reportArgumentType]
            self.head.check_policy(self.model, self.tokenizer)

    def _resolve(self, reward_model) -> tuple[ELHSRModel | None, object]:
        if isinstance(reward_model, str):
            if isinstance(AutoConfig.from_pretrained(reward_model), ELHSRModelConfig):
                return ELHSRModel.from_pretrained(reward_model), None
            return None, TextScorer.from_pretrained(reward_model)
        if isinstance(reward_model, ELHSRModel):
            return reward_model, None
        if isinstance(reward_model, PreTrainedModel):
            return None, TextScorer(reward_model, self.reward_tokenizer or self.tokenizer)
        if not callable(reward_model):
            raise TypeError(
                f"`reward_model` is a `{type(reward_model).__name__}`, but it must score completions. Pass an ELHSR "
                "head, a reward model, its name, or a callable `(prompts, completions) -> rewards`."
            )
        return None, reward_model

    def __call__(self, text_inputs, seed: int | None = None, **kwargs):
        if seed is not None:
            set_seed(seed)
        return super().__call__(text_inputs, **kwargs)

    def get_iterator(self, inputs, *args, **kwargs):
        iterator = super().get_iterator(inputs, *args, **kwargs)
        show = self._show_progress if self._show_progress is not None else len(inputs) > 1
        return tqdm(iterator, total=len(inputs), desc="best of N", disable=not show)

    def _sanitize_parameters(
        self,
        num_candidates=None,
        return_all=None,
        vote=None,
        extract_answer=None,
        prune=None,
        candidates_per_batch=None,
        combine=None,
        progress=None,
        **kwargs,
    ):
        self._show_progress = progress
        _check_options(num_candidates, vote, extract_answer, candidates_per_batch, combine, kwargs)
        if prune is not None and self.head is None:
            raise ValueError(
                "`prune` was given, but only an ELHSR head gives rewards of unfinished candidates. "
                "Pass a head as `reward_model`, or leave `prune` out."
            )
        preprocess, forward, postprocess = super()._sanitize_parameters(**kwargs)
        check_generate_keywords(self.model, forward)
        given = {
            "num_candidates": num_candidates,
            "prune": prune,
            "candidates_per_batch": candidates_per_batch,
        }
        forward = {**forward, **{name: value for name, value in given.items() if value is not None}}
        given = {"return_all": return_all, "vote": vote, "extract_answer": extract_answer, "combine": combine}
        postprocess = {**postprocess, **{name: value for name, value in given.items() if value is not None}}
        return preprocess, forward, postprocess

    def preprocess(self, prompt_text, **kwargs):
        inputs = cast(dict[str, Any], super().preprocess(prompt_text, **kwargs))
        length = inputs["input_ids"].shape[-1]
        context = getattr(self.model.config.get_text_config(), "max_position_embeddings", None)
        if length == 0:
            raise ValueError(
                "An empty prompt was given, but candidates continue a prompt. Pass at least one token, for example "
                "`tokenizer.bos_token`."
            )
        if context is not None and length >= context:
            raise ValueError(
                f"A prompt of {length} tokens was given, but the policy reads at most {context}, completion included. "
                "Shorten the prompt."
            )
        return inputs

    @torch.no_grad()
    def _forward(self, model_inputs, num_candidates, prune=None, candidates_per_batch=None, **generate_kwargs):
        input_ids = model_inputs["input_ids"]
        attention_mask = model_inputs.get("attention_mask")
        if attention_mask is None:
            attention_mask = torch.ones_like(input_ids)
        generate_kwargs = self._prepare_generate_kwargs(generate_kwargs)
        settings = self._get_set_generation_params(generate_kwargs)
        if not settings.get("do_sample") and num_candidates > 1:
            raise ValueError(
                f"`do_sample=False` was given, but then all {num_candidates} candidates are the same. "
                "Pass `do_sample=True`."
            )
        if prune is not None:
            outputs = self._pruned(input_ids, attention_mask, num_candidates, prune, generate_kwargs, settings)
        else:
            chunk = min(candidates_per_batch or num_candidates, num_candidates)
            outputs = self._sampled(input_ids, attention_mask, num_candidates, chunk, generate_kwargs, settings)
        grouped = {
            name: value.view(len(input_ids), num_candidates, *value.shape[1:]) for name, value in outputs.items()
        }
        return {**grouped, "input_ids": input_ids, "prompt_text": model_inputs["prompt_text"]}

    def _sampled(self, input_ids, attention_mask, num_candidates, chunk, generate_kwargs, settings):
        prefill = SharedPrefill(self.model, input_ids, attention_mask)
        sequences, rewards = [], []
        for start in range(0, num_candidates, chunk):
            count = min(chunk, num_candidates - start)
            kwargs = {**generate_kwargs, "last_use": start + count == num_candidates}
            if self.head is None:
                generated = prefill.generate(count, **kwargs)
            else:
                with HiddenStateReward(self.model, self.head) as meter:
                    generated = prefill.generate(count, **kwargs)
                rewards.append(meter.rewards.view(len(input_ids), count))
            generated = getattr(generated, "sequences", generated)
            sequences.append(generated.view(len(input_ids), count, -1))
        eos, pad = self._ends(settings)
        width = max(part.shape[-1] for part in sequences)
        sequences = torch.cat([_pad_right(part, width, pad) for part in sequences], dim=1).flatten(0, 1)
        outputs = {
            "generated_sequence": sequences,
            "num_tokens": completion_mask_from_ids(sequences[:, input_ids.shape[1] :], eos, pad).sum(-1),
            "pruned": torch.zeros(len(sequences), dtype=torch.bool),
        }
        if rewards:
            outputs["rewards"] = torch.cat(rewards, dim=1).flatten()
        return outputs

    def _pruned(self, input_ids, attention_mask, num_candidates, prune, generate_kwargs, settings):
        eos, pad = self._ends(settings)
        own = ("generation_config", "max_new_tokens", "eos_token_id", "pad_token_id")
        config = generate_kwargs.get("generation_config")
        if config is not None:
            generate_kwargs = {**config.to_diff_dict(), **generate_kwargs}
        length = settings.get("max_new_tokens") or settings["max_length"] - input_ids.shape[1]
        candidates = generate_pruned(
            self.model,
            cast(ELHSRModel, self.head),
            input_ids,
            attention_mask,
            num_candidates,
            prune,
            max_new_tokens=length,
            eos_token_id=eos,
            pad_token_id=pad,
            **{name: value for name, value in generate_kwargs.items() if name not in own},
        )
        return {
            "generated_sequence": candidates.sequences,
            "rewards": candidates.rewards,
            "num_tokens": candidates.num_tokens,
            "pruned": candidates.pruned,
        }

    def _ends(self, settings: dict) -> tuple[list[int], int]:
        eos = settings.get("eos_token_id", self.tokenizer.eos_token_id)
        eos = [] if eos is None else torch.as_tensor(eos).flatten().tolist()
        pad = settings.get("pad_token_id", self.tokenizer.pad_token_id)
        return eos, int(pad if pad is not None else eos[0])

    def postprocess(
        self,
        model_outputs,
        return_type=ReturnType.FULL_TEXT,
        return_all=False,
        vote=None,
        extract_answer=None,
        combine="min_max",
        **kwargs,
    ):
        outputs = {name: model_outputs.pop(name)[0] for name in ("num_tokens", "pruned")}
        rewards = model_outputs.pop("rewards", None)
        completions = [
            record["generated_text"]
            for record in super().postprocess(dict(model_outputs), return_type=ReturnType.NEW_TEXT, **kwargs)
        ]
        prompt = model_outputs["prompt_text"]
        prompt = prompt.messages if isinstance(prompt, Chat) else prompt
        scores = rewards[0] if rewards is not None else _call(self.scorer, prompt, completions)
        if self.second_scorer is not None:
            fuse = _COMBINATIONS[combine] if isinstance(combine, str) else combine
            scores = torch.as_tensor(fuse(scores.numpy(), _call(self.second_scorer, prompt, completions).numpy()))
        records = super().postprocess(model_outputs, return_type=return_type, **kwargs)
        for index, record in enumerate(records):
            record["score"] = float(scores[index])
            record["num_tokens"] = int(outputs["num_tokens"][index])
            record["pruned"] = bool(outputs["pruned"][index])
            if self.head is not None and self.head.config.calibration and self.second_scorer is None:
                record["probability"] = float(self.head.probability(scores[index : index + 1]))
        if vote is not None:
            winner = _vote(records, completions, vote, extract_answer)
            ranked = sorted(records, key=lambda record: (record["answer"] != winner, *_rank(record)))
        else:
            ranked = sorted(records, key=_rank)
        return ranked if return_all else ranked[:1]


def _rank(record: dict) -> tuple[bool, float]:
    return record["pruned"], -record["score"]


def _vote(records: list[dict], completions: list[str], vote: str, extract_answer):
    """Writes each record's answer and returns the winning one; stopped candidates have no vote."""
    for record, completion in zip(records, completions, strict=True):
        record["answer"] = None if record["pruned"] else extract_answer(completion)
    answers = [record["answer"] for record in records]
    weights = None
    if vote == "weighted":
        weights = torch.tensor([record["score"] for record in records]).softmax(-1).tolist()
    winner, _ = majority_vote(answers, weights)
    return None if winner is None else answers[winner]


def _call(scorer, prompt, completions: list[str]) -> Tensor:
    rewards = torch.as_tensor(scorer(prompts=[prompt] * len(completions), completions=completions)).float().cpu()
    if rewards.shape != (len(completions),):
        raise ValueError(
            f"The reward callable returned shape {tuple(rewards.shape)} for {len(completions)} completions, but it "
            "needs one number for each. Return a list of that length."
        )
    return rewards


def _pad_right(sequences: Tensor, width: int, pad: int) -> Tensor:
    return torch.nn.functional.pad(sequences, (0, width - sequences.shape[-1]), value=pad)


def _check_options(num_candidates, vote, extract_answer, candidates_per_batch, combine, generate_kwargs) -> None:
    for name, value in {
        "num_candidates": num_candidates,
        "candidates_per_batch": candidates_per_batch,
    }.items():
        if value is not None and value < 1:
            raise ValueError(f"`{name}={value}` was given, but it is a count of at least 1. Pass a positive number.")
    if vote not in (None, "majority", "weighted"):
        raise ValueError(f"`vote={vote!r}` was given, but it is 'majority' or 'weighted'. Choose one.")
    if vote is not None and extract_answer is None:
        raise ValueError(
            f"`vote={vote!r}` was given without `extract_answer`, but candidates vote with their answers. Pass a "
            "callable from the completion text to an answer."
        )
    if combine is not None and not callable(combine) and combine not in _COMBINATIONS:
        raise ValueError(
            f"`combine={combine!r}` was given, but it is one of {sorted(_COMBINATIONS)} or a callable. Choose one."
        )
    if generate_kwargs.get("num_return_sequences") is not None:
        raise ValueError("`num_return_sequences` was given, but candidates are counted by `num_candidates`. Use that.")
    if (generate_kwargs.get("num_beams") or 1) > 1:
        raise ValueError(
            f"`num_beams={generate_kwargs['num_beams']}` was given, but candidates are sampled. Leave it out."
        )
