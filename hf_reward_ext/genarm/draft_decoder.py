"""Decoder of a guided model that reads several draft tokens of every row in one forward."""

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import DynamicCache

from hf_reward_ext.base.lm.cache import select_columns
from hf_reward_ext.base.lm.forward import run_forward
from hf_reward_ext.genarm.acceptance import count_accepted, draw_following
from hf_reward_ext.genarm.combine import guided_logps
from hf_reward_ext.genarm.processed_policy import ProcessedPolicy
from hf_reward_ext.genarm.row_rules import RowRules
from hf_reward_ext.genarm.undefined import explain_undefined


class DraftDecoder:
    """
    Decoder whose rounds append to every row the drafts that it keeps, and one more token.

    Rows keep different numbers of drafts. After each round the rejected columns are removed from the caches and shorter
    rows move to the right, so that caches, mask and positions are those of a left-padded batch. Ended rows leave the
    batch.

    Args:
        model ([`GuidedCausalLM`] or [`ProcessedPolicy`]): Policy and guides.
        drafter (`PreTrainedModel` or `PeftModel`): Causal LM that drafts.
        num_draft_tokens (`int`): Maximum number of drafts per row and round.
        input_ids, attention_mask, position_ids (`torch.Tensor` of shape `(rows, seq)`): Prompts, padded on the left.
        rules ([`RowRules`]): Processors and criteria.
        rules_before ([`RowRules`], *optional*): Processors of the policy's scores, before they are guided.
        do_sample (`bool`): Whether to sample; otherwise the most probable tokens are chosen.
        max_length (`int`): Maximum length of a row, with the columns of its prompt.

    Attributes:
        texts (`list[torch.Tensor]`): Prompt, with its padding, and tokens of each row.
        num_rounds, num_drafted, num_accepted (`int`): Number of rounds, of draft tokens, and of those that were kept.
    """

    def __init__(
        self,
        model,
        drafter,
        num_draft_tokens: int,
        input_ids: Int[Tensor, "rows seq"],
        attention_mask: Int[Tensor, "rows seq"],
        position_ids: Int[Tensor, "rows seq"],
        rules: RowRules,
        *,
        do_sample: bool,
        max_length: int,
        rules_before: RowRules | None = None,
    ):
        self.model, self.drafter, self.rules, self.rules_before = model, drafter, rules, rules_before
        self.texts = list(input_ids)
        self.num_rounds = self.num_drafted = self.num_accepted = 0
        self._num_draft_tokens, self._do_sample, self._max_length = num_draft_tokens, do_sample, max_length
        self._prompt_length = input_ids.shape[1]
        self._live = torch.arange(len(input_ids), device=input_ids.device)
        self._ids, self._mask, self._positions = input_ids, attention_mask, position_ids
        # The last token of a row is never read, so no position follows that of its predecessor: drafts beyond it stay.
        self._last_positions = position_ids[:, -1] + max_length - self._prompt_length - 1
        # Without a configuration all layers have full length: rejected tokens of a sliding window can be removed.
        self._cache, self._draft_cache = DynamicCache(), DynamicCache()

    @property
    def is_finished(self) -> bool:
        """Whether all rows have ended."""
        return len(self._live) == 0

    @torch.no_grad()
    def advance(self) -> None:
        """Run one round: draft, read the drafts with policy and guides, and keep what the rule accepts."""
        width = self._ids.shape[1]
        draft_scores = self._draft()
        drafts = self._ids[:, width:]
        scores, counts = self._read(drafts, draft_scores)
        following = draw_following(scores, counts, draft_scores)
        self.num_rounds += 1
        self.num_drafted += drafts.numel()
        self.num_accepted += int(counts.sum())
        kept = self._extend_texts(drafts, counts, following)
        self._keep(kept, drafts.shape[1] - counts, following)

    def _texts(self) -> list[Tensor]:
        return [self.texts[row] for row in self._live.tolist()]

    def _append(self, tokens: Int[Tensor, " rows"]) -> None:
        position = torch.minimum(self._positions[:, -1] + 1, self._last_positions)
        self._ids = torch.cat([self._ids, tokens[:, None]], dim=-1)
        self._mask = torch.cat([self._mask, self._mask.new_ones(len(tokens), 1)], dim=-1)
        self._positions = torch.cat([self._positions, position[:, None]], dim=-1)

    def _draft(self) -> Float[Tensor, "rows drafts vocab"] | None:
        """Append the drafts of every row, and return the scores they were drawn from when sampling."""
        texts = self._texts()
        remaining = self._max_length - min(map(len, texts))
        drawn = []
        for _ in range(max(1, min(self._num_draft_tokens, remaining - 1))):
            unread = self._ids.shape[1] - int(self._draft_cache.get_seq_length())
            logits = run_forward(
                self.drafter,
                self._ids[:, -unread:].to(self.drafter.device),
                self._mask.to(self.drafter.device),
                cache=self._draft_cache,
                position_ids=self._positions[:, -unread:].to(self.drafter.device),
                logits_to_keep=1,
            ).logits[:, -1]
            scores = self._fit(logits)
            for rules in (self.rules_before, self.rules):
                scores = scores if rules is None else rules.scores(self._live.tolist(), texts, scores)
            drawn.append(scores)
            tokens = torch.multinomial(scores.softmax(-1), 1).squeeze(-1) if self._do_sample else scores.argmax(-1)
            self._append(tokens)
            texts = [torch.cat([text, token[None]]) for text, token in zip(texts, tokens, strict=True)]
        return torch.stack(drawn, dim=1) if self._do_sample else None

    def _fit(self, logits: Float[Tensor, "rows draft_vocab"]) -> Float[Tensor, "rows vocab"]:
        """Return the drafter's scores of the ids that the guided model scores; ids that it lacks are not drafted."""
        size = self.model.config.get_text_config(decoder=True).vocab_size
        logits = logits[:, :size].to(self._ids.device, torch.float32)
        return torch.nn.functional.pad(logits, (0, size - logits.shape[-1]), value=-torch.inf)

    def _read(
        self, drafts: Int[Tensor, "rows drafts"], draft_scores: Tensor | None
    ) -> tuple[Float[Tensor, "rows positions vocab"], Int[Tensor, " rows"]]:
        """Return the scores of the guided model at all drafts and after them, and the number of drafts to keep."""
        model, count = self.model, drafts.shape[1]
        unread = self._ids.shape[1] - int(self._cache.get_seq_length())
        reading = model.reader.read(
            self._ids[:, -unread:],
            self._cache,
            attention_mask=self._mask,
            position_ids=self._positions[:, -unread:],
            logits_to_keep=count + 1,
        )
        base, alpha, unguided = reading.base, self._alpha(count + 1), None
        if isinstance(model, ProcessedPolicy):
            base = self._processed(self.rules_before, drafts, base.to(self._ids.device, torch.float32))
            unguided = model.processor.unguided(base)
            alpha = alpha if unguided is None else alpha.masked_fill(unguided[..., None], 0)
        logps = guided_logps(base, reading.guides, alpha, model.common_size(base, reading.guides)).to(self._ids.device)
        scores = self._processed(self.rules, drafts, logps.float())  # `generate` decides in float32 too
        counts = count_accepted(scores, drafts, draft_scores)
        is_used = torch.arange(count + 1, device=counts.device) <= counts[:, None]
        bad = logps.isnan().any(-1) & is_used
        if bad.any():
            row, position = bad.nonzero()[0].tolist()
            parts = [logits[row : row + 1, position] for logits in (base, *reading.guides)]
            raise explain_undefined(parts[0], parts[1:], len(self._texts()[row]) - self._prompt_length + position)
        if unguided is not None:
            model.processor.count_skipped(unguided[is_used])
        return scores, counts

    def _alpha(self, count: int) -> Float[Tensor, "rows positions guides"]:
        """Return the weights of every live row for its next tokens; a schedule counts the tokens of the row."""
        steps = torch.tensor([len(text) - self._prompt_length for text in self._texts()])
        first, last = int(steps.min()), int(steps.max()) + count
        columns = torch.arange(first, last)
        weights = self.model.weights_of_columns(columns, 0, len(self.texts), self._ids.device)
        own = (steps[:, None] - first + torch.arange(count)).to(self._ids.device)
        return weights[self._live[:, None], own]

    def _processed(
        self, rules: RowRules | None, drafts: Tensor, scores: Float[Tensor, "rows positions vocab"]
    ) -> Float[Tensor, "rows positions vocab"]:
        if rules is None or not rules.changes_scores:
            return scores
        texts, columns = self._texts(), []
        for position in range(scores.shape[1]):
            known = [torch.cat([text, own[:position]]) for text, own in zip(texts, drafts, strict=True)]
            columns.append(rules.scores(self._live.tolist(), known, scores[:, position]))
        return torch.stack(columns, dim=1)

    def _extend_texts(self, drafts: Tensor, counts: Tensor, following: Tensor) -> list[int]:
        """Add the new tokens to the texts, up to their end, and return the live rows that go on."""
        kept = []
        for number, (row, count) in enumerate(zip(self._live.tolist(), counts.tolist(), strict=True)):
            start = len(self.texts[row])
            longer = torch.cat([self.texts[row], drafts[number, :count], following[number, None]])
            end = self.rules.first_end(longer, start)
            self.texts[row] = longer[:end]
            if end is None:
                kept.append(number)
        return kept

    def _keep(self, kept: list[int], removed: Int[Tensor, " rows"], following: Int[Tensor, " rows"]) -> None:
        """Keep rows, remove the rejected tokens of each at its end, and append the new token."""
        if len(kept) < len(removed):
            rows = torch.tensor(kept, dtype=torch.long, device=removed.device)
            self._live, self._last_positions = self._live[rows], self._last_positions[rows]
            removed, following = removed[rows], following[rows]
            self._ids, self._mask, self._positions = self._ids[rows], self._mask[rows], self._positions[rows]
            for cache in (self._cache, self._draft_cache):
                if kept:
                    cache.batch_select_indices(rows)
        if not kept:
            return
        common = int(removed.min())
        columns = torch.arange(self._ids.shape[1] - common, device=removed.device) - (removed - common)[:, None]
        mask = self._mask.gather(1, columns.clamp(min=0)).masked_fill(columns < 0, 0)
        first = int(mask.any(0).int().argmax())  # columns that are padding in all rows
        if first == 0 and bool((removed == common).all()):
            for cache in (self._cache, self._draft_cache):
                cache.crop(-common)
        else:
            select_columns(self._cache, columns[:, first:])
            select_columns(self._draft_cache, columns[:, first:-1])  # the last draft is not read by the drafter
        columns = columns[:, first:].clamp(min=0)
        self._mask = mask[:, first:]
        self._ids, self._positions = self._ids.gather(1, columns), self._positions.gather(1, columns)
        self._append(following)
