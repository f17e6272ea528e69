"""Early exit: a text ends when the head is confident at the end of a step."""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from transformers import PreTrainedTokenizerBase, StoppingCriteria

from hf_reward_ext.base.options import check_count, check_number
from hf_reward_ext.elhsr.decoding import HiddenStateReward
from hf_reward_ext.elhsr.prefix_calibration import PrefixCalibration


class HiddenStateStoppingCriteria(StoppingCriteria):
    r"""
    Stopping criterion that ends a row at the end of a step if its text is correct with a high probability.

    $$ P(\text{right} \mid R_{1:t}) \ge p \quad \text{at a } t \text{ where a mark ends} $$

    As in [early exit by probing](https://huggingface.co/papers/2504.05419), with the running reward of an ELHSR head as
    the probe. The states of a token are computed by the forward that samples the next one, so a row ends with the first
    token after the mark. Works for any batch of greedy decoding or sampling, inside the context of the head's meter.

    Args:
        meter ([`HiddenStateReward`]): Meter of the head on the policy.
        tokenizer (`PreTrainedTokenizerBase`): Tokenizer of the policy.
        probability (`float`, *optional*, defaults to 0.95): Minimum probability for ending a row.
        at (`str` or `list[str]`, *optional*, defaults to `"\n\n"`): Marks that end a step.
        min_tokens (`int`, *optional*, defaults to 1): Minimum number of tokens of a text before it can
            end.
        calibration ([`PrefixCalibration`], *optional*): Probability of prefixes. Default: the calibration of the
            head for whole texts.

    Attributes:
        is_stopped (`torch.Tensor` of shape `(rows,)`): Rows of the last call that this criterion ended.

    Raises:
        TypeError: If the meter, tokenizer or calibration is none, `at` is not text, or a number has another type.
        ValueError: If the head is not calibrated, a mark is empty, or a number is out of its range.
        RuntimeError: If `generate` runs outside of the meter's context, or its rows are not extended one token at a
            time.

    Example:
    ```python
    >>> with HiddenStateReward(policy, head) as meter:
    ...     stop = HiddenStateStoppingCriteria(meter, tokenizer, probability=0.95)
    ...     out = policy.generate(**inputs, stopping_criteria=[stop])
    >>> stop.is_stopped
    ```
    """

    def __init__(
        self,
        meter: HiddenStateReward,
        tokenizer: PreTrainedTokenizerBase,
        probability: float = 0.95,
        at: str | Sequence[str] = "\n\n",
        min_tokens: int = 1,
        calibration: PrefixCalibration | None = None,
    ):
        if not isinstance(meter, HiddenStateReward):
            raise TypeError(
                f"`meter` must be a `HiddenStateReward`, got a `{type(meter).__name__}`. Pass "
                "`HiddenStateReward(policy, head)`."
            )
        if not hasattr(tokenizer, "decode"):
            raise TypeError(f"`tokenizer` must be that of the policy, got a `{type(tokenizer).__name__}`. Pass it.")
        if calibration is not None and not isinstance(calibration, PrefixCalibration):
            raise TypeError(
                f"`calibration` must be a `PrefixCalibration`, got a `{type(calibration).__name__}`. Pass "
                "`PrefixCalibration.fit(...)`."
            )
        if not isinstance(at, str | Sequence):
            raise TypeError(f"`at` must be text or a list of texts, got a `{type(at).__name__}`. Pass a mark.")
        check_number("probability", probability, above=0, most=1)
        check_count("min_tokens", min_tokens)
        self.marks = [at] if isinstance(at, str) else list(at)
        for mark in self.marks:
            if not isinstance(mark, str):
                raise TypeError(f"`at` must be text or a list of texts, got a `{type(mark).__name__}`.")
        if not all(self.marks) or not self.marks:
            raise ValueError(f"`at` must hold the text of a mark, got {at!r}. Pass for example '\\n\\n'.")
        if calibration is None and meter.head.config.calibration is None:
            raise ValueError(
                "The head has no calibration, so its reward is no probability. Train it with a validation split "
                "(`validation_fraction` above 0), or pass `calibration=PrefixCalibration.fit(...)`."
            )
        self.meter = meter
        self.tokenizer = tokenizer
        self.probability = probability
        self.min_tokens = min_tokens
        self.calibration = calibration
        self.is_stopped: Bool[Tensor, " rows"] = torch.zeros(0, dtype=torch.bool)

    def __call__(self, input_ids: Int[Tensor, "rows seq"], scores, **kwargs) -> Bool[Tensor, " rows"]:
        """Return which rows end."""
        num_read = self.meter.num_read(input_ids)
        if num_read == 0:
            self.is_stopped = torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)
        start = input_ids.shape[1] - 1 - num_read  # the last token was not read yet
        done = torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)
        if num_read < self.min_tokens:
            return done
        completion = input_ids[:, start:-1]
        running = self.meter.are_running(input_ids).nonzero().flatten().tolist()
        rows = [row for row in running if self._ends_step(completion[row])]
        if rows:
            chances = self._probabilities(self.meter.running_rewards(input_ids), num_read).to(done.device)
            done[rows] = chances[rows] >= self.probability
            self.is_stopped = self.is_stopped | done
        return done

    def _probabilities(self, rewards: Float[Tensor, " rows"], num_tokens: int) -> Float[Tensor, " rows"]:
        if self.calibration is None:
            return self.meter.head.probability(rewards)
        return self.calibration(rewards, torch.full_like(rewards, num_tokens))

    def _ends_step(self, ids: Int[Tensor, " seq"]) -> bool:
        """Whether a mark ends in the last token."""
        tail = ids[-max(map(len, self.marks)) - 1 :].tolist()
        text, before = (self.tokenizer.decode(part, skip_special_tokens=False) for part in (tail, tail[:-1]))
        return any(text.count(mark) > before.count(mark) for mark in self.marks)
