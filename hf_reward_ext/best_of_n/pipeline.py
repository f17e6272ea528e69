"""Pipeline `"reward-bon"`: best of N by any reward."""

import functools
from collections.abc import Iterable, Mapping, Sized
from dataclasses import fields
from typing import Any, cast

import torch
from torch.utils.data import Dataset
from transformers import TextGenerationPipeline, set_seed
from transformers.pipelines.text_generation import ReturnType
from transformers.utils.chat_template_utils import Chat
from transformers.utils.logging import tqdm

from hf_reward_ext.base.lm.causal_lm import require_causal_lm
from hf_reward_ext.base.lm.context import longest_input
from hf_reward_ext.base.lm.keywords import check_generate_keywords
from hf_reward_ext.base.lm.tokens import token_ids
from hf_reward_ext.base.options import check_count
from hf_reward_ext.base.scoring.rewards import check_rewards
from hf_reward_ext.base.scoring.scorer import Scorer, as_single_scorer
from hf_reward_ext.best_of_n.fitting import FittingBatches
from hf_reward_ext.best_of_n.options import BestOfNOptions, check_generation
from hf_reward_ext.best_of_n.prompts import check_prompt, check_prompts
from hf_reward_ext.best_of_n.ranking import best_first
from hf_reward_ext.best_of_n.reading import as_read_reward
from hf_reward_ext.best_of_n.sampling import CandidateSampler, sample_candidates, sample_fitting
from hf_reward_ext.best_of_n.scoring import CandidateScores
from hf_reward_ext.best_of_n.stopping import ExpectedImprovement, StopRule, as_stop_rule
from hf_reward_ext.best_of_n.waves import sample_in_waves
from hf_reward_ext.elhsr.model import ELHSRModel

# Of `stop="expected_improvement"`: 100 tokens for a percent of probability.
_PRICE = 1e-4
_OPTIONS = frozenset(field.name for field in fields(BestOfNOptions))
# Arguments of reward functions in addition to prompts and completions.
_COLUMNS = frozenset({"completion_ids"})


class BestOfNPipeline(TextGenerationPipeline):
    """
    Text generation pipeline that samples N candidates per prompt and returns the best one by a reward.

    Registered as `"reward-bon"` by `import hf_reward_ext`. The prompt is read once for all its candidates. An ELHSR
    head scores them while they are written; any other reward reads their text. Both give the same number for the same
    tokens: the text ends with EOS, which a candidate that was cut at `max_new_tokens` did not write.

    Args:
        reward_model ([`ELHSRModel`], [`Measure`], or anything that [`as_scorer`] takes): A head trained on this policy;
            a training-free measure of its probabilities (`"confidence"`, `"mean_log_probability"`, `"self_certainty"`,
            `"negative_entropy"`, `"length"`); a reward model; the name or folder of either; or a function of prompts
            and completions, larger is better. For chats a function gets messages, as from TRL's trainers.
        num_candidates (`int` or a pair, *optional*, defaults to 16): Number of candidates N, or its minimum and maximum
            with `stop`.
        reward_processing_class (*optional*): Tokenizer of a reward model that is passed as an object. Default: that of
            the policy.
        second_reward_model (*optional*): Second text reward, combined with the first one by `combine`.
        **kwargs: Arguments of [`~transformers.TextGenerationPipeline`] and defaults of the call parameters.

    Call parameters, in addition to those of `text-generation`. Each can be given in the call or when the pipeline is
    created; `None` means the default:
        num_candidates (`int` or a pair of `int`): Number of candidates, or its minimum and maximum, between which
            `stop` decides for every prompt.
        stop (`str` or `callable`, *optional*): Stopping rule: `"beta"` ([`BetaVotes`], for votes),
            `"expected_improvement"` ([`ExpectedImprovement`], with a cost of 1e-4 of a calibrated head's probability
            per token), a rule with other settings, or any callable of [`Drawn`]. Candidates are sampled in waves of
            `candidates_per_batch`, by default the minimum. The same `seed` gives the same candidates in waves and
            batches of any size, up to rounding.
        return_all (`bool`, defaults to `False`): Whether to return all candidates, best first.
        vote (`str`, *optional*): `"majority"` or `"weighted"` (by reward): the best candidate with the winning
            answer is returned first. Requires `extract_answer`.
        extract_answer (`callable`): Function from a completion to a hashable answer or `None`.
        prune ([`Pruning`] or [`Resampling`], *optional*): Rule that stops candidates with low running rewards, or
            replaces them by copies of better ones. Requires an ELHSR head or a training-free measure.
        candidates_per_batch (`int` or `"auto"`, *optional*): Maximum number of candidates of a prompt to sample at a
            time, to save memory. `"auto"` samples all at a time, and halves the number whenever memory runs out; the
            same `seed` gives the same candidates whatever fits, up to rounding.
        combine (`str` or `callable`, defaults to `"min_max"`): Combination of two rewards: `"max_rank"`, `"min_max"` or
            a fitted combination `(rewards, second_rewards) -> rewards`.
        seed (`int`, *optional*): Random seed, set before the first prompt.
        show_progress (`bool`, *optional*): Whether to show a progress bar. Default: for more than one prompt.

    Returns:
        A list of `dict` per prompt with `generated_text`, `score` (raw), `num_tokens`, `pruned`, `probability` (with a
        calibrated head), `answer` (with `vote`), and `num_drawn` and `stop_reason` (with `stop`). A candidate without a
        reward (`None`, or NaN as in TRL's trainers) is last, with the score `None`.

    Raises:
        TypeError, ValueError: Before sampling, if an option or a prompt is invalid; after sampling, if the reward does
            not return one number per candidate, or no number at all.

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
        reward_model: Any = None,
        num_candidates: int | tuple[int, int] = 16,
        reward_processing_class: Any = None,
        second_reward_model: Any = None,
        **kwargs,
    ):
        if reward_model is None:
            raise ValueError(
                "`reward_model` must be given to 'reward-bon', got None. Pass an ELHSR head, a reward model, its name, "
                "or a callable `(prompts, completions) -> rewards`."
            )
        require_causal_lm(args[0] if args else kwargs.get("model"), "model")
        # `super().__init__` checks the options, which depend on these attributes.
        self.options = BestOfNOptions()
        self.read_reward = as_read_reward(reward_model)
        self._has_second = second_reward_model is not None
        self._fitting = FittingBatches()
        super().__init__(*args, num_candidates=num_candidates, **kwargs)
        self.options = self._forward_params["options"]
        tokenizer = reward_processing_class or self.tokenizer
        self.scorer = None if self.read_reward is not None else _as_scorer(reward_model, tokenizer)
        self.second_scorer = _as_scorer(second_reward_model, tokenizer) if self._has_second else None
        if self.head is not None:
            self.head.to(self.model.device)  # pyright: ignore[reportArgumentType]
            self.head.check_policy(self.model, self.tokenizer)

    @property
    def head(self) -> ELHSRModel | None:
        """The ELHSR head, if the reward is one."""
        return self.read_reward if isinstance(self.read_reward, ELHSRModel) else None

    def __call__(self, text_inputs, **kwargs):
        if kwargs.get("batch_size") is not None:
            check_count("batch_size", kwargs["batch_size"])
        text_inputs = _as_inputs(text_inputs)
        if isinstance(text_inputs, list | str):
            self.check_prompts(text_inputs, **kwargs)
        elif not isinstance(text_inputs, Iterable | Chat | Dataset):
            check_prompt(text_inputs, self.tokenizer)
        seed = self.options.updated({"seed": kwargs["seed"]} if "seed" in kwargs else {}).seed
        if seed is not None:
            set_seed(seed)
        return super().__call__(cast(Any, text_inputs), **kwargs)

    def get_iterator(self, inputs, num_workers, batch_size, preprocess_params, forward_params, postprocess_params):
        iterator = super().get_iterator(
            inputs, num_workers, batch_size, preprocess_params, forward_params, postprocess_params
        )
        total = len(inputs) if isinstance(inputs, Sized) else None
        show = forward_params["options"].show_progress
        return tqdm(iterator, total=total, desc="best of N", disable=total == 1 if show is None else not show)

    def _sanitize_parameters(self, options: BestOfNOptions | None = None, **kwargs):
        given = {name: kwargs.pop(name) for name in list(kwargs) if name in _OPTIONS}
        options = (options or self.options).updated(given)
        if options.prune is not None and self.read_reward is None:
            raise ValueError(
                "`prune` was given, but only an ELHSR head and training-free measures reward unfinished candidates. "
                "Pass one as `reward_model`, or leave `prune` out."
            )
        if options.combine is not None and not self._has_second:
            raise ValueError("`combine` needs a `second_reward_model`, got none. Pass one, or leave `combine` out.")
        if options.is_adaptive:
            self._stop_rule(options)
        check_generation({"do_sample": True, **kwargs}, options.most_candidates)
        preprocess, forward, postprocess = super()._sanitize_parameters(**kwargs)
        check_generate_keywords(self.model, forward.keys() - {"prefix_length"})
        forward |= {"options": options, "clean_up": postprocess.get("clean_up_tokenization_spaces")}
        return preprocess, forward, {**postprocess, "options": options}

    def check_prompts(self, prompts: str | list, **kwargs) -> None:
        """
        Reject prompts that cannot be continued, before the first of them is sampled.

        Args:
            prompts (`str`, messages, or a `list` of either): Prompts.
            **kwargs: Arguments of the call.

        Raises:
            ValueError: If a prompt is neither text nor messages, has no tokens, or leaves no room for a completion.
        """
        check_prompts(prompts, self.tokenizer, kwargs.get("continue_final_message"))
        if isinstance(prompts, str) or isinstance(prompts[0], Mapping) or len(prompts) == 1:
            return  # a single prompt is read before anything is sampled
        given = {name: value for name, value in kwargs.items() if name not in ("batch_size", "num_workers")}
        settings = {**self._preprocess_params, **self._sanitize_parameters(**given)[0]}
        for index, prompt in enumerate(prompts):
            self._encode(prompt if isinstance(prompt, str) else Chat(prompt), f"prompts[{index}]", **settings)

    def preprocess(self, prompt_text, **kwargs):
        prompt = prompt_text.messages if isinstance(prompt_text, Chat) else prompt_text
        check_prompt(prompt, self.tokenizer, kwargs.get("continue_final_message"))
        return self._encode(prompt_text, "prompt", **kwargs)

    def _encode(self, prompt_text: str | Chat, name: str, **kwargs) -> dict[str, Any]:
        inputs = cast(dict[str, Any], super().preprocess(prompt_text, **kwargs))
        length, context = inputs["input_ids"].shape[-1], longest_input(self.model)
        if length == 0:
            raise ValueError(
                f"`{name}` must have at least one token, got {prompt_text!r}, of which the tokenizer makes none. Leave "
                "it out, or begin the text with the BOS token."
            )
        setting, more = self._room(length, kwargs)
        if context is not None and length + more > context:
            asked = f" with `{setting}`" if length < context else ""
            raise ValueError(
                f"{'A prompt' if name == 'prompt' else f'`{name}`'} of {length} tokens was given{asked}, but the "
                f"policy reads at most {context}, completion included. Shorten it."
            )
        return inputs

    def _room(self, length: int, kwargs: Mapping[str, Any]) -> tuple[str, int]:
        """Return the given setting of the length, and the number of tokens that may follow a prompt by it."""
        config = kwargs.get("generation_config")
        given = {**self._generate_kwargs, **kwargs} if config is None else {**config.to_diff_dict(), **kwargs}
        if given.get("max_new_tokens") is not None:
            return f"max_new_tokens={given['max_new_tokens']}", given["max_new_tokens"]
        most = given.get("max_length") or 0
        return f"max_length={most}", max(1, most - length)

    @torch.no_grad()
    def _forward(self, model_inputs, options: BestOfNOptions, clean_up=None, prefix_length: int = 0, **generate_kwargs):
        input_ids = model_inputs["input_ids"]
        attention_mask = model_inputs.get("attention_mask")
        if attention_mask is None:
            attention_mask = torch.ones_like(input_ids)
        generate_kwargs = self._prepare_generate_kwargs(generate_kwargs)
        settings = self._get_set_generation_params(generate_kwargs)
        check_generation(settings, options.most_candidates)
        eos = token_ids(settings.get("eos_token_id", self.tokenizer.eos_token_id))
        pad = (token_ids(settings.get("pad_token_id", self.tokenizer.pad_token_id)) or eos or [0])[0]
        if options.prune is not None:
            length = settings.get("max_new_tokens") or settings["max_length"] - input_ids.shape[1]
            ends = {"max_new_tokens": length, "eos_token_id": eos, "pad_token_id": pad}
            generate_kwargs = {**_without_ends(generate_kwargs), **ends}
        sampler = CandidateSampler(
            self.model, self.read_reward, input_ids, attention_mask, options.prune, generate_kwargs
        )
        prompts = model_inputs["prompt_text"]
        if options.is_adaptive:
            groups = self._draw(sampler, options, prompts, pad, clean_up)
        else:
            if options.candidates_per_batch == "auto":
                count, seed = options.most_candidates, _seed_of(options)
                candidates = sample_fitting(sampler, count, self._fitting, seed, pad)
            else:
                candidates = sample_candidates(sampler, options, pad)
            groups = {
                name: value.view(len(input_ids), options.most_candidates, *value.shape[1:])
                for name, value in vars(candidates).items()
                if value is not None
            }
        groups["generated_sequence"] = groups.pop("sequences")
        return {**groups, "input_ids": input_ids, "prompt_text": prompts}

    def _draw(
        self, sampler: CandidateSampler, options: BestOfNOptions, prompts: Any, pad: int, clean_up: bool | None
    ) -> dict[str, Any]:
        """Draw candidates wave by wave, by the rule of the options."""
        is_batch = isinstance(prompts, list)
        drawn = sample_in_waves(
            sampler,
            options,
            self._stop_rule(options),
            _seed_of(options),
            [self._scoring(prompt) for prompt in (prompts if is_batch else [prompts])],
            functools.partial(self._decode, clean_up=clean_up),
            pad,
            self._fitting if options.candidates_per_batch == "auto" else None,
        )
        reasons = drawn.stop_reasons if is_batch else drawn.stop_reasons[0]
        return {**vars(drawn), "stop_reasons": reasons}

    def postprocess(self, model_outputs, return_type=ReturnType.FULL_TEXT, options=None, **kwargs):  # pyright: ignore[reportIncompatibleMethodOverride]
        drawn = {name: model_outputs.pop(name) for name in ("num_drawn", "stop_reasons") if name in model_outputs}
        count = int(drawn["num_drawn"][0]) if drawn else options.most_candidates
        model_outputs["generated_sequence"] = model_outputs["generated_sequence"][:, :count]
        num_tokens, pruned = (model_outputs.pop(name)[0].tolist()[:count] for name in ("num_tokens", "pruned"))
        rewards = model_outputs.pop("rewards")[0] if "rewards" in model_outputs else None
        prompt = model_outputs["prompt_text"]
        start = model_outputs["input_ids"].shape[-1]
        completion_ids = [
            ids[start : start + length].tolist()
            for ids, length in zip(model_outputs["generated_sequence"][0], num_tokens, strict=True)
        ]
        texts = self._decode(completion_ids, kwargs.get("clean_up_tokenization_spaces"))
        if drawn:
            scores = check_rewards(
                model_outputs.pop("scores")[0, :count], texts, self._reward_name, nan_is_missing=True
            )
        else:
            scoring = self._scoring(prompt)
            scoring.add(texts, completion_ids, rewards)
            scores = scoring.final_scores(cast(BestOfNOptions, options))
        records = super().postprocess(model_outputs, return_type=return_type, **kwargs)
        for index, record in enumerate(records):
            record["score"] = scores[index]
            record["num_tokens"] = num_tokens[index]
            record["pruned"] = pruned[index]
            if self.head is not None and self.head.config.calibration and self.second_scorer is None:
                record["probability"] = float(self.head.probability(torch.tensor(scores[index])))
            if drawn:
                record |= {"num_drawn": count, "stop_reason": drawn["stop_reasons"]}
        return best_first(records, texts, cast(BestOfNOptions, options))

    def _decode(self, completion_ids: list[list[int]], clean_up: bool | None) -> list[str]:
        return self.tokenizer.batch_decode(
            completion_ids, skip_special_tokens=True, clean_up_tokenization_spaces=clean_up
        )

    @property
    def _reward_name(self) -> str:
        reward = self.scorer or self.read_reward
        return "head" if reward is self.head else cast(Any, reward).__name__

    def _scoring(self, prompt: Any) -> CandidateScores:
        prompt = prompt.messages if isinstance(prompt, Chat) else prompt
        return CandidateScores(prompt, self.scorer, self.second_scorer, self._reward_name)

    def _stop_rule(self, options: BestOfNOptions) -> StopRule:
        if options.stop != "expected_improvement":
            return as_stop_rule(options.stop)
        calibration = self.head.config.calibration if self.head is not None and not self._has_second else None
        if calibration is None:
            raise ValueError(
                "`stop='expected_improvement'` needs the price of a token in units of the reward unless the reward is "
                "a calibrated ELHSR head alone. Pass `ExpectedImprovement(price_per_token=...)`."
            )
        return ExpectedImprovement(_PRICE, cast(tuple[float, float], tuple(calibration)))


def _as_inputs(text_inputs: Any) -> Any:
    """Return prompts in a form in which `text-generation` takes them: one, a list, a generator or a dataset."""
    if isinstance(text_inputs, str | Chat | Mapping | Dataset) or not isinstance(text_inputs, Iterable):
        return text_inputs
    if isinstance(text_inputs, Sized):  # also columns of datasets, arrays and sets
        return list(text_inputs)
    return (one for one in text_inputs)


def _as_scorer(reward_model: Any, tokenizer: Any) -> Scorer:
    if as_read_reward(reward_model) is not None:
        raise ValueError(
            "`second_reward_model` is an ELHSR head or a training-free measure, but only the first reward is read "
            "while generating. Pass it as `reward_model`, or of a measure `LogitsRewardModel(policy, measure)`."
        )
    scorer = as_single_scorer(reward_model, tokenizer)
    scorer.check_columns(_COLUMNS)
    return scorer


def _seed_of(options: BestOfNOptions) -> int:
    return int(torch.randint(2**32, ())) if options.seed is None else options.seed


def _without_ends(generate_kwargs: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments that `generate_staged` passes to `generate`: all but those that it sets itself."""
    config = generate_kwargs.get("generation_config")
    settings = generate_kwargs if config is None else {**config.to_diff_dict(), **generate_kwargs}
    own = ("generation_config", "max_new_tokens", "eos_token_id", "pad_token_id")
    return {name: value for name, value in settings.items() if name not in own}
