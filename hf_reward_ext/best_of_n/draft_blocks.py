"""Blocks that a small model drafts and a reward accepts, as a decoding loop of `generate`."""

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from numbers import Real

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from transformers import LogitsProcessorList, PreTrainedModel, StoppingCriteriaList
from transformers.generation import GenerateDecoderOnlyOutput

from hf_reward_ext.base.lm.decoding_loop import check_loop_call, check_plain_decoding, loop_output
from hf_reward_ext.base.lm.forward import CACHE_NAMES, forward_parameters, take_cache
from hf_reward_ext.base.lm.generate_hook import GenerateCall, install_generate_hook
from hf_reward_ext.base.lm.tokens import token_ids
from hf_reward_ext.base.options import check_callable, check_count, check_number
from hf_reward_ext.best_of_n.blocks import Block, BlockWriter, Row, read_rows
from hf_reward_ext.genarm.causal_lms import check_causal_lm
from hf_reward_ext.genarm.row_rules import RowRules

PrefixReward = Callable[
    [Int[Tensor, "rows seq"], Int[Tensor, "rows seq"], Bool[Tensor, "rows seq"]], Float[Tensor, " rows"]
]
"""Function of ids, attention mask and completion mask that returns the reward of each text so far."""


@dataclass
class DraftBlocksOutput(GenerateDecoderOnlyOutput):
    """
    Output of [`DraftBlocks`] with `return_dict_in_generate=True`.

    Args:
        sequences (`torch.Tensor` of shape `(rows, seq)`): Prompts and answers.
        num_blocks, num_accepted (`int`): Number of blocks of all rows, and of those that the drafter wrote.
        num_draft_tokens, num_target_tokens (`int`): Number of tokens that drafter and policy wrote, with candidates.
    """

    num_blocks: int | None = None
    num_accepted: int | None = None
    num_draft_tokens: int | None = None
    num_target_tokens: int | None = None


_LOOP = "`DraftBlocks`"


class DraftBlocks:
    r"""
    Decoding loop of `generate` in which a small model drafts blocks, a reward accepts them, and else the policy writes.

    $$ y^* \sim \operatorname{softmax}_i(\beta \tilde r_i), \qquad \tilde r_i = r(x, y_i) \;
       \Big[ + \tfrac1\beta \log\frac{\pi_B(y_i|x)}{\pi_S(y_i|x)} \text{ if tilted} \Big], \qquad
       \text{keep } y^* \text{ if } \tilde r^* \ge u $$

    With one candidate it is reward-guided speculative decoding ([RSD](https://huggingface.co/papers/2501.19324)) with
    its step function; with `tilted=True` and several candidates it is guided speculative inference
    ([GSI](https://huggingface.co/papers/2506.04118)), which approximates $\pi_B(y|x) e^{\beta r(x,y)}$. After a
    rejection the policy $\pi_B$ writes as many candidates, of which $\operatorname{softmax}(\beta r)$ draws one.

    A reconstruction: blocks end at `block_tokens` or `block_ends`, and probabilities are those that tokens are sampled
    from, after temperature and other processors. The authors' code of GSI takes $u$ in units of $\beta \tilde r$ and
    gives up when all rewards are low; here $u$ is compared with $\tilde r$, as in the paper, and nothing gives up.

    Args:
        drafter (`PreTrainedModel` or `PeftModel`): Causal LM with the tokens of the policy, $\pi_S$.
        reward (`PreTrainedModel` or `callable`): Reward of texts so far: a reward model of this library, such as
            [`ELHSRForSequenceClassification`] or [`GenARMRewardModel`], or a function of ids, attention mask and
            completion mask, padded on the left.
        threshold (`float`): Reward $u$ that an accepted block reaches; may be infinite.
        num_candidates (`int`, *optional*, defaults to 1): Number of blocks to choose from.
        beta (`float`, *optional*): Inverse temperature of the choice, required for several candidates or `tilted=True`.
        tilted (`bool`, *optional*, defaults to `False`): Whether to add the log-ratio of policy and drafter.
        block_tokens (`int`, *optional*, defaults to 16): Maximum number of tokens in a block.
        block_ends (`list[int]`, *optional*): Token ids after which a block ends, such as that of a line break.

    Raises:
        TypeError: If the drafter is not a causal LM, or the reward cannot score texts so far.
        ValueError: If options are out of range; during `generate` for beams, static caches, `streamer=`,
            `assistant_model=`, processors with a state for each row, choices without sampling, a drafter with another
            number of tokens, and rewards that are not finite numbers.

    Example:
    ```python
    >>> blocks = DraftBlocks(small, reward, threshold=0.5, num_candidates=4, beta=20.0, tilted=True)
    >>> policy.generate(**inputs, custom_generate=blocks, do_sample=True, max_new_tokens=100)
    ```
    """

    def __init__(
        self,
        drafter: PreTrainedModel,
        reward: PreTrainedModel | PrefixReward,
        *,
        threshold: float,
        num_candidates: int = 1,
        beta: float | None = None,
        tilted: bool = False,
        block_tokens: int = 16,
        block_ends: Collection[int] = (),
    ):
        check_causal_lm(drafter, "A drafter")
        self._is_model = isinstance(reward, torch.nn.Module)
        if not callable(reward) or (self._is_model and "completion_mask" not in forward_parameters(reward)):
            raise TypeError(
                "`reward` must be a reward model of finished texts or a function of ids, attention mask and completion "
                f"mask, got a `{type(reward).__name__}`. Load a head with `AutoModelForSequenceClassification`."
            )
        if not self._is_model:
            check_callable("reward", reward, ["input_ids", "attention_mask", "completion_mask"])
        if not isinstance(threshold, Real) or isinstance(threshold, bool) or math.isnan(threshold):
            raise TypeError(f"`threshold` must be a number, got {threshold!r}. Pass for example 0.7.")
        check_count("num_candidates", num_candidates)
        check_count("block_tokens", block_tokens)
        is_drawn = num_candidates > 1 or tilted
        if is_drawn != (beta is not None):
            raise ValueError(
                f"`beta` must be given with several candidates or `tilted=True`, and only then, got {beta!r}. "
                f"{'Pass for example 20.0' if is_drawn else 'Leave it out'}."
            )
        if beta is not None:
            check_number("beta", beta, above=0)
        self.drafter, self.reward, self.threshold = drafter, reward, float(threshold)
        self.num_candidates, self.beta, self.tilted = num_candidates, beta, tilted
        self.block_tokens, self.block_ends = block_tokens, frozenset(token_ids(block_ends))
        install_generate_hook()  # `generate` passes no streamer to this loop, which therefore must see the whole call

    def check_generate_call(self, call: GenerateCall) -> None:
        """Reject arguments that `generate` does not pass to the loop, or the loop does not return."""
        check_loop_call(call, _LOOP, {"assistant_model": "Pass the drafter to `DraftBlocks`"})

    def __call__(
        self,
        model: PreTrainedModel,
        input_ids: Int[Tensor, "rows seq"],
        logits_processor: LogitsProcessorList,
        stopping_criteria: StoppingCriteriaList,
        generation_config,
        **model_kwargs,
    ):
        """Run the loop; called by `generate`."""
        check_causal_lm(model, "The policy")
        check_plain_decoding(generation_config, _LOOP)
        do_sample = bool(generation_config.do_sample)
        if not do_sample and (self.num_candidates > 1 or self.tilted):
            raise ValueError(
                "`do_sample` must be True with several candidates or `tilted=True`, got False: candidates would be "
                "equal. Pass `do_sample=True`."
            )
        _check_vocabulary(model, self.drafter)
        rules = RowRules(logits_processor, stopping_criteria, len(input_ids))
        rows = _rows(input_ids, model_kwargs)
        draft, policy = (
            BlockWriter(one, rules, self.block_tokens, self.block_ends, do_sample) for one in (self.drafter, model)
        )
        found = _Counts()
        live = list(range(len(rows)))
        while live:
            blocks = self._next_blocks([rows[place] for place in live], draft, policy, found)
            for place, block in zip(live, blocks, strict=True):
                rows[place] = rows[place].followed_by(block.tokens)
            live = [place for place, block in zip(live, blocks, strict=True) if not block.ends_row]
        return loop_output(
            [row.shown for row in rows],
            generation_config,
            DraftBlocksOutput,
            num_blocks=found.blocks,
            num_accepted=found.accepted,
            num_draft_tokens=found.draft_tokens,
            num_target_tokens=found.target_tokens,
        )

    def _next_blocks(self, rows: list[Row], draft: BlockWriter, policy: BlockWriter, found: "_Counts") -> list[Block]:
        """Return the next block of each row."""
        repeated = [row for row in rows for _ in range(self.num_candidates)]
        blocks = draft.write(repeated)
        rewards = self._rewards(repeated, blocks)
        if self.tilted:
            drawn_from = torch.tensor([block.logp for block in blocks], dtype=torch.float64)
            rewards = rewards + (policy.read(repeated, blocks) - drawn_from) / self.beta  # pyright: ignore
        kept, values = self._choose(blocks, rewards)
        refused = [place for place, value in enumerate(values) if value < self.threshold or value == -math.inf]
        found.blocks += len(rows)
        found.accepted += len(rows) - len(refused)
        found.draft_tokens += sum(len(block.tokens) for block in blocks)
        if refused:
            again = [rows[place] for place in refused for _ in range(self.num_candidates)]
            written = policy.write(again)
            found.target_tokens += sum(len(block.tokens) for block in written)
            others = written if self.num_candidates == 1 else self._choose(written, self._rewards(again, written))[0]
            for place, block in zip(refused, others, strict=True):
                kept[place] = block
        return kept

    def _rewards(self, rows: Sequence[Row], blocks: Sequence[Block]) -> Float[Tensor, " rows"]:
        texts = read_rows([row.followed_by(block.tokens) for row, block in zip(rows, blocks, strict=True)])
        names = ("input_ids", "attention_mask", "completion_mask")
        if self._is_model:
            inputs = {name: text.to(self.reward.device) for name, text in zip(names, texts, strict=True)}  # pyright: ignore
            rewards = self.reward(**inputs).logits[:, 0]  # pyright: ignore[reportCallIssue]
        else:
            returned = self.reward(*texts)
            try:
                rewards = torch.as_tensor(returned)
            except (TypeError, ValueError, RuntimeError) as error:
                raise TypeError(
                    f"`reward` must return a tensor of one number for each text, got a `{type(returned).__name__}` "
                    f"({error}). Correct the function."
                ) from error
        if rewards.shape != (len(rows),) or not bool(rewards.isfinite().all()):
            raise ValueError(
                f"`reward` must return one finite number for each of {len(rows)} texts, got shape "
                f"{tuple(rewards.shape)} with values {rewards.flatten()[:4].tolist()}. Correct the function."
            )
        return rewards.double().cpu()

    def _choose(self, blocks: list[Block], rewards: Float[Tensor, " candidates"]) -> tuple[list[Block], list[float]]:
        """Draw one candidate of each row, and return it with its value; that of an impossible one is -inf."""
        values = rewards.view(-1, self.num_candidates)
        chosen = torch.zeros(len(values), dtype=torch.long)
        if self.num_candidates > 1:
            scores = (self.beta or 1.0) * values
            is_possible = (scores > -math.inf).any(-1, keepdim=True)
            shares = torch.where(is_possible, scores, torch.zeros_like(scores)).softmax(-1)
            chosen = torch.multinomial(shares, 1).squeeze(-1)
        places = torch.arange(len(values)) * self.num_candidates + chosen
        return [blocks[place] for place in places.tolist()], rewards[places].tolist()


@dataclass
class _Counts:
    blocks: int = 0
    accepted: int = 0
    draft_tokens: int = 0
    target_tokens: int = 0


_KNOWN = {"attention_mask", "position_ids", "use_cache", "logits_to_keep", *CACHE_NAMES}


def _check_vocabulary(policy, drafter) -> None:
    sizes = [one.config.get_text_config(decoder=True).vocab_size for one in (policy, drafter)]
    if sizes[0] != sizes[1]:
        raise ValueError(
            f"The drafter must have the tokens of the policy, got {sizes[1]} logits for {sizes[0]}. Pass one with the "
            "policy's tokenizer, and resize its embeddings if they are only padded differently."
        )


def _rows(input_ids: Tensor, model_kwargs: dict) -> list[Row]:
    """Return the rows at their prompts, after rejecting other inputs of the forward."""
    unknown = sorted(name for name, value in model_kwargs.items() if name not in _KNOWN and value is not None)
    if unknown:
        raise ValueError(
            f"`generate` must get inputs that policy and drafter read alike, got "
            f"{', '.join(f'`{name}`' for name in unknown)}. Leave them out."
        )
    take_cache(model_kwargs)  # that of `generate` is empty
    mask = model_kwargs.get("attention_mask")
    mask = torch.ones_like(input_ids) if mask is None else mask
    num_padding = (mask != 0).int().argmax(-1).tolist()
    width = input_ids.shape[1]
    return [Row(number, ids, num_padding[number], width) for number, ids in enumerate(input_ids)]
