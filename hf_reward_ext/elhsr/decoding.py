"""Rewards from the hidden states of a running `generate`."""

import copy
from typing import Self

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from transformers.cache_utils import DynamicLayer

from hf_reward_ext.base.lm.forward import CACHE_NAMES, cache_name, cache_of
from hf_reward_ext.base.lm.tokens import completion_mask_from_ids
from hf_reward_ext.elhsr.features import policy_features
from hf_reward_ext.elhsr.model import ELHSRModel, gated_mean, prefix_gated_mean, split_gate
from hf_reward_ext.elhsr.token_trace import TokenTrace


class HiddenStateReward:
    r"""
    Scores every row with an ELHSR head while any `generate` of the policy runs, without storing hidden states.

    $$ z_t = b + \sum_l W_l h_{l,t}, \qquad R = \frac{\sum_t g_t \rho_t}{\sum_t g_t} $$

    Section 3 of [ELHSR](https://huggingface.co/papers/2505.12225). The forward that samples $y_{t+1}$ reads $y_t$, so
    its states give $z_t$: two dot products per layer and token, two numbers kept. The states of the very last token
    are never computed by `generate`; one more forward on the same cache adds them.

    Works with greedy decoding, sampling, `num_return_sequences`, left padding, beams, assisted decoding and prompt
    lookup. After beams, which finish late and reuse rows, the sequences whose last token was not read are completed
    by a teacher-forced pass. Inside the context every `generate` call starts afresh.

    Args:
        policy (`PreTrainedModel` or `PeftModel`): The model that generates.
        head ([`ELHSRModel`]): A head trained on it.
        last_token (`str`, *optional*, defaults to `"forward"`): `"forward"` scores the last token exactly; `"skip"`
            leaves it out of the mean and saves the forward (an effect of one token in the completion's length).

    Attributes:
        rewards (`torch.Tensor` of shape `(rows,)`): Reward of each output row.
        token_rewards (`tuple` of two `torch.Tensor` of shape `(rows, seq)`): Gates and rewards of completion tokens.
        prefix_rewards (`torch.Tensor` of shape `(rows, seq)`): Reward of the completion up to each token.
        completion_mask (`torch.Tensor` of shape `(rows, seq)`): Which of them are completion (EOS included).

    Raises:
        ValueError: If head and policy do not match, or `generate` is called in a way that hides the tokens.

    Example:
    ```python
    >>> with HiddenStateReward(policy, head) as meter:
    ...     out = policy.generate(**inputs, do_sample=True, num_return_sequences=8)
    >>> best = out[meter.rewards.argmax()]
    ```
    """

    def __init__(self, policy, head: ELHSRModel, *, last_token: str = "forward"):
        if last_token not in ("forward", "skip"):
            raise ValueError(f"`last_token={last_token!r}` was given, but it is 'forward' or 'skip'. Choose one.")
        head.check_policy(policy)
        self.policy = policy
        self.head = head
        self.last_token = last_token
        self._model = policy.get_base_model() if hasattr(policy, "peft_config") else policy
        self._trace: TokenTrace | None = None
        self._reading: Tensor | None = None  # all ids of the forward that is about to run, while generating
        self._result: tuple[Tensor, Tensor, Tensor] | None = None
        self._handles = []

    def __enter__(self) -> Self:
        if "generate" in vars(self._model):
            raise RuntimeError("Another `HiddenStateReward` watches this policy already. Leave its context first.")
        self._generate = self._model.generate
        self._prepare = self._model.prepare_inputs_for_generation
        self._model.generate = self._watched_generate
        self._model.prepare_inputs_for_generation = self._watched_prepare
        self._handles = [
            self._model.register_forward_pre_hook(self._before_forward, with_kwargs=True),
            self._model.register_forward_hook(self._after_forward, with_kwargs=True),
        ]
        return self

    def __exit__(self, *exc_info) -> None:
        for handle in self._handles:
            handle.remove()
        del self._model.generate, self._model.prepare_inputs_for_generation

    @property
    def rewards(self) -> Float[Tensor, " rows"]:
        gates, rewards, mask = self._finished()
        return gated_mean(gates, rewards, mask)

    @property
    def token_rewards(self) -> tuple[Float[Tensor, "rows seq"], Float[Tensor, "rows seq"]]:
        return self._finished()[:2]

    @property
    def prefix_rewards(self) -> Float[Tensor, "rows seq"]:
        return prefix_gated_mean(*self._finished())

    @property
    def completion_mask(self) -> Bool[Tensor, "rows seq"]:
        return self._finished()[2]

    def score(self, sequences) -> Float[Tensor, " rows"]:
        """
        Rewards of given sequences (ids or a `generate` output) of the last call, whatever rows they came from.

        Args:
            sequences (`torch.Tensor` of shape `(rows, seq)` or `ModelOutput`): Prompt and completion.

        Returns:
            `torch.Tensor` of shape `(rows,)`. Tokens that were never read are scored by a teacher-forced pass.
        """
        gates, rewards, mask = self._score_tokens(getattr(sequences, "sequences", sequences))
        return gated_mean(gates, rewards, mask)

    def _finished(self) -> tuple[Tensor, Tensor, Tensor]:
        if self._result is None:
            raise RuntimeError("No `generate` has run inside this context, so there are no rewards. Call it first.")
        return self._result

    @torch.no_grad()
    def _watched_generate(self, inputs=None, **kwargs):
        ids = inputs if inputs is not None else kwargs.get("input_ids")
        if ids is None or kwargs.get("inputs_embeds") is not None:
            raise ValueError(
                "`generate` was called without `input_ids`, but the meter tells rows apart by their ids. "
                "Pass `input_ids` instead of `inputs_embeds`."
            )
        config = kwargs.get("generation_config") or self._model.generation_config
        if "paged" in (kwargs.get("cache_implementation"), config.cache_implementation):
            raise ValueError(
                "`cache_implementation='paged'` was given, but continuous batching packs the rows of many requests "
                "into one, so their states cannot be told apart. Leave `cache_implementation` out."
            )
        self._eos = kwargs.get("eos_token_id", config.eos_token_id)
        self._pad = kwargs.get("pad_token_id", config.pad_token_id)
        self._trace = TokenTrace(ids.shape[1])
        self._attention_mask = kwargs.get("attention_mask")
        self._reading = self._last_inputs = self._cache = None
        self._cache_is_visible = any(kwargs.get(name) is not None for name in CACHE_NAMES) or bool(
            kwargs.get("return_dict_in_generate", config.return_dict_in_generate)
        )
        output = self._generate(inputs, **kwargs)
        self._reading = None
        sequences = getattr(output, "sequences", output)
        if self.last_token == "forward":
            self._read_last_token(sequences)
        self._cache = self._last_inputs = None
        self._result = self._score_tokens(sequences)
        return output

    def _watched_prepare(self, input_ids, *args, **kwargs):
        self._reading = input_ids
        return self._prepare(input_ids, *args, **kwargs)

    def _before_forward(self, module, args, kwargs):
        if self._unread(kwargs.get("input_ids")) > 0 and self.head.config.features == "hidden_states":
            if not kwargs.get("output_hidden_states"):
                kwargs["output_hidden_states"] = list(self.head.config.layers)
        return args, kwargs

    def _after_forward(self, module, args, kwargs, output):
        self._last_inputs = kwargs
        self._cache = cache_of(output)
        unread = self._unread(kwargs.get("input_ids"))
        if unread > 0 and self._reading is not None:
            features = policy_features(output, self.head.config, last=unread)
            self._trace.record(self._reading, self._outputs_of_head(features))

    def _unread(self, input_ids: Tensor | None) -> int:
        """How many of the tokens that this forward reads are completion."""
        if self._reading is None or input_ids is None:
            return 0
        return min(input_ids.shape[1], self._reading.shape[1] - self._trace.prompt_length)

    def _outputs_of_head(self, features: Tensor) -> Tensor:
        weight, bias = self.head.effective_linear()
        return torch.nn.functional.linear(features.to(weight.device, weight.dtype), weight, bias)

    def _read_last_token(self, sequences: Int[Tensor, "rows seq"]) -> None:
        """One more forward, on the cache that `generate` leaves, for the token that it never reads."""
        trace, cache = self._trace, self._cache
        if trace.ids is None:
            read = sequences.shape[1] - 1
        else:
            read = trace.ids.shape[1]
        unchanged = trace.ids is None or (len(trace.ids) == len(sequences) and not trace.permuted)
        if not unchanged or sequences.shape[1] != read + 1 or not _can_append(cache, read):
            return
        can_take_back = all(type(layer) is DynamicLayer for layer in cache.layers)
        if self._cache_is_visible and not can_take_back:
            cache = copy.deepcopy(cache)
        inputs = {"input_ids": sequences[:, -1:], cache_name(self._model): cache, "use_cache": True}
        mask = self._last_inputs.get("attention_mask")
        if mask is not None:
            if mask.dim() != 2:
                return
            inputs["attention_mask"] = torch.cat([mask, mask.new_ones(len(mask), 1)], dim=-1)
        if self._last_inputs.get("position_ids") is not None:
            inputs["position_ids"] = self._last_inputs["position_ids"][:, -1:] + 1
        self._reading = sequences
        self._model(**inputs)
        self._reading = None
        if self._cache_is_visible and can_take_back:
            cache.crop(-1)

    def _score_tokens(self, sequences: Int[Tensor, "rows seq"]) -> tuple[Tensor, Tensor, Tensor]:
        if self._trace is None:
            raise RuntimeError("No `generate` has run inside this context, so nothing can be scored. Call it first.")
        mask = self._mask(sequences)
        values, found = self._trace.lookup(sequences)
        missing = mask & ~found.to(mask.device)
        if self.last_token == "skip":
            mask = mask & ~missing
        elif missing.any():
            rows = missing.any(-1)
            values = values.to(self.head.device).expand(-1, -1, self.head.linear.out_features).clone()
            values[missing] = self._second_pass(sequences[rows], rows)[missing[rows]]
        gates, rewards = split_gate(values)
        return gates, rewards, mask.to(gates.device)

    def _mask(self, sequences: Tensor) -> Tensor:
        completion = sequences[:, self._trace.prompt_length :]
        eos = [] if self._eos is None else torch.as_tensor(self._eos).flatten().tolist()
        pad = None if self._pad is None else int(torch.as_tensor(self._pad))
        return completion_mask_from_ids(completion, eos, pad)

    @torch.no_grad()
    def _second_pass(self, sequences: Tensor, rows: Tensor) -> Tensor:
        inputs = {"input_ids": sequences, "use_cache": False}
        prompt_mask = self._attention_mask
        if prompt_mask is None and self._pad is not None:
            prompt_mask = (sequences[:, : self._trace.prompt_length] != int(self._pad)).long().cummax(-1).values
        elif prompt_mask is not None:
            prompt_mask = prompt_mask.repeat_interleave(len(rows) // len(prompt_mask), dim=0)[rows]
        if prompt_mask is not None:
            completion = prompt_mask.new_ones(len(sequences), sequences.shape[1] - prompt_mask.shape[1])
            inputs["attention_mask"] = torch.cat([prompt_mask, completion], dim=-1)
            inputs["position_ids"] = (inputs["attention_mask"].cumsum(-1) - 1).clamp(min=0)
        if self.head.config.features == "hidden_states":
            inputs["output_hidden_states"] = list(self.head.config.layers)
        output = self._model(**inputs)
        features = policy_features(output, self.head.config, last=sequences.shape[1] - self._trace.prompt_length)
        return self._outputs_of_head(features)


def _can_append(cache, read: int) -> bool:
    """Whether the cache holds exactly what was read and has room for one more token."""
    return cache is not None and not cache.is_compileable and cache.get_seq_length() == read
