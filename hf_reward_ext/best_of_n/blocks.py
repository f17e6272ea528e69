"""Blocks of tokens that a model writes or reads after rows of different lengths."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from hf_reward_ext.base.lm.forward import run_forward
from hf_reward_ext.base.lm.guide import CachedGuide
from hf_reward_ext.base.lm.tokens import left_padded
from hf_reward_ext.genarm.row_rules import RowRules


@dataclass
class Row:
    """
    A row of `generate`.

    Args:
        number (`int`): Its number in the call.
        shown (`torch.Tensor` of shape `(seq,)`): Prompt with its padding, and the tokens so far: what processors see.
        num_padding, num_prompt (`int`): Number of columns of padding, and of padding and prompt.
    """

    number: int
    shown: Int[Tensor, " seq"]
    num_padding: int
    num_prompt: int

    def followed_by(self, tokens: Int[Tensor, " new"]) -> "Row":
        """Return the row with more tokens."""
        return Row(self.number, torch.cat([self.shown, tokens]), self.num_padding, self.num_prompt)


@dataclass
class Block:
    """
    Tokens that a model has written after a row.

    Args:
        tokens (`torch.Tensor` of shape `(new,)`): The tokens.
        logp (`float`): Their log-probability, after processors.
        ends_row (`bool`): Whether the row ends with them.
    """

    tokens: Int[Tensor, " new"]
    logp: float
    ends_row: bool


def read_rows(
    rows: Sequence[Row],
) -> tuple[Int[Tensor, "rows seq"], Int[Tensor, "rows seq"], Bool[Tensor, "rows seq"]]:
    """Return ids, attention mask and completion mask of rows, padded on the left."""
    texts = [row.shown[row.num_padding :].tolist() for row in rows]
    device = rows[0].shown.device
    ids, mask = left_padded(texts, 0, device)
    num_prompt = torch.tensor([row.num_prompt - row.num_padding for row in rows], device=device)
    return ids, mask, (mask.cumsum(-1) > num_prompt[:, None]) & mask.bool()


class BlockWriter:
    """
    Writer of blocks by one model.

    Args:
        model (`PreTrainedModel` or `PeftModel`): Causal LM.
        rules ([`RowRules`]): Processors and criteria of the call.
        most_tokens (`int`): Maximum number of tokens in a block.
        ends (`set[int]`): Token ids after which a block ends.
        do_sample (`bool`): Whether to sample; otherwise the most probable tokens are written.
    """

    def __init__(self, model, rules: RowRules, most_tokens: int, ends: Collection[int], do_sample: bool):
        self._model, self._guide, self._rules = model, CachedGuide(model), rules
        self._most_tokens, self._ends, self._do_sample = most_tokens, ends, do_sample

    def write(self, rows: Sequence[Row]) -> list[Block]:
        """Write one block after each row; equal rows get separate blocks."""
        grown, logps = list(rows), torch.zeros(len(rows), dtype=torch.float64)
        ends_row = [False] * len(rows)
        live = list(range(len(rows)))
        for _ in range(self._most_tokens):
            here = [grown[place] for place in live]
            ids, mask, _ = read_rows(here)
            scores = self._scores(here, self._guide.next_token_logits(ids, mask))
            tokens = torch.multinomial(scores.softmax(-1), 1) if self._do_sample else scores.argmax(-1, keepdim=True)
            drawn = scores.double().log_softmax(-1).gather(-1, tokens).squeeze(-1)
            going_on = []
            for place, token, logp in zip(live, tokens, drawn.tolist(), strict=True):
                grown[place] = grown[place].followed_by(token)
                logps[place] += logp
                shown = grown[place].shown
                ends_row[place] = self._rules.first_end(shown, len(shown) - 1) is not None
                if not ends_row[place] and int(token) not in self._ends:
                    going_on.append(place)
            live = going_on
            if not live:
                break
        return [
            Block(after.shown[len(before.shown) :], float(logp), end)
            for before, after, logp, end in zip(rows, grown, logps, ends_row, strict=True)
        ]

    def read(self, rows: Sequence[Row], blocks: Sequence[Block]) -> Float[Tensor, " rows"]:
        """Return the log-probability, after processors, of blocks that another model has written."""
        longest = max(len(block.tokens) for block in blocks)
        whole = [row.followed_by(block.tokens) for row, block in zip(rows, blocks, strict=True)]
        ids, mask, _ = read_rows(whole)
        logits = run_forward(self._model, ids, mask, logits_to_keep=longest + 1).logits[:, -longest - 1 : -1]
        sums = torch.zeros(len(rows), dtype=torch.float64)
        for position in range(longest):
            left = [place for place, block in enumerate(blocks) if len(block.tokens) > position]
            here = [rows[place].followed_by(blocks[place].tokens[:position]) for place in left]
            columns = [longest - len(blocks[place].tokens) + position for place in left]
            logps = self._scores(here, logits[left, columns]).double().log_softmax(-1)
            for place, own in zip(left, logps, strict=True):
                sums[place] += float(own[blocks[place].tokens[position]])
        return sums

    def _scores(self, rows: Sequence[Row], logits: Float[Tensor, "rows vocab"]) -> Float[Tensor, "rows vocab"]:
        """Return processed scores; `generate` decides in float32."""
        shown = [row.shown for row in rows]
        return self._rules.scores([row.number for row in rows], shown, logits.float().to(shown[0].device))
