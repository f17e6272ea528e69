"""Stage 2: GRPO with an additional loss that preserves the fast verdict of stage 1."""

import torch
from datasets import Dataset
from torch import Tensor
from torch.nn import functional as F
from trl import GRPOTrainer

from hf_reward_ext.base.lm.forward import forward_parameters, positions_of
from hf_reward_ext.fast_slow.judge.confidence import fast_score
from hf_reward_ext.fast_slow.judge.prompt import JudgePrompt
from hf_reward_ext.fast_slow.train.verdict_reward import slow_verdict_reward


class FastSlowGRPOTrainer(GRPOTrainer):
    r"""
    [`~trl.GRPOTrainer`] on [`counterfactual_prefixes`], plus a fast-score term on the same batch.

    $$ L = L_{GRPO}(\text{judgment} \mid x, y, v_0) - \mu \log\sigma\big(\pm s(x, y) / \tau_s\big) $$

    with + if the correct verdict is the favorable one. Our reconstruction:
    [Fast-Slow](https://huggingface.co/papers/2603.20212) describes GRPO only. With `fast_loss_weight=0` this is TRL's
    trainer, and the first verdict has no gradient. For pairwise verdicts the term is Bradley-Terry in the order shown;
    for yes and no it compares each response with the neutral score 0. Calibrate the judge again afterwards.

    Args:
        model, args, train_dataset, processing_class, **kwargs: Arguments of [`~trl.GRPOTrainer`], with
            rows of [`counterfactual_prefixes`].
        judge_prompt ([`JudgePrompt`]): Prompt of the judge.
        fast_loss_weight (`float`, *optional*, defaults to 0.1): Weight $\mu$ of the fast-score term.
        score_temperature (`float`, *optional*, defaults to 1.0): Temperature $\tau_s$ of scores.

    Raises:
        ValueError: If verdicts are ratings, whose rows do not include the difference of the responses.

    Example:
    ```python
    >>> rows = counterfactual_prefixes(pairs, judge.judge_prompt)
    >>> trainer = FastSlowGRPOTrainer(judge.causal_lm, GRPOConfig("stage2"), rows, judge_prompt=judge.judge_prompt)
    >>> trainer.train()
    >>> judge.calibrate(held_out_pairs, budget=0.4)
    ```
    """

    def __init__(
        self,
        model,
        args=None,
        train_dataset: Dataset | None = None,
        *,
        judge_prompt: JudgePrompt,
        fast_loss_weight: float = 0.1,
        score_temperature: float = 1.0,
        processing_class=None,
        **kwargs,
    ):
        if judge_prompt.kind == "rating" and fast_loss_weight:
            raise ValueError(
                f"`fast_loss_weight` must be 0 for ratings, got {fast_loss_weight}: the fast-score term compares two "
                "verdicts. Pass `fast_loss_weight=0`."
            )
        if train_dataset is None:
            raise ValueError("`train_dataset` is missing, but stage 2 needs rows. Pass `counterfactual_prefixes(...)`.")
        self.judge_prompt = judge_prompt
        self.fast_loss_weight = fast_loss_weight
        self.score_temperature = score_temperature
        self._num_given = 1 + len(judge_prompt.prefix_ids)
        self._favorable = self._right_verdicts(train_dataset, kwargs.get("eval_dataset")) if fast_loss_weight else {}
        super().__init__(
            model,
            kwargs.pop("reward_funcs", slow_verdict_reward),
            args,
            train_dataset,
            processing_class=processing_class or judge_prompt.tokenizer,
            **kwargs,
        )

    def _right_verdicts(self, *datasets) -> dict[tuple[int, ...], bool]:
        """Return whether the favorable verdict is correct, by the tokens of the judge prompt."""
        best = self.judge_prompt.verdicts[0]
        return {
            tuple(self.judge_prompt.tokenizer(row["prompt"])["input_ids"][: -self._num_given]): best
            in row["right_verdicts"]
            for dataset in datasets
            if dataset is not None
            for row in dataset
        }

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        loss = super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        if not self.fast_loss_weight:
            return loss
        term = self._fast_loss(model, inputs["prompt_ids"], inputs["prompt_mask"])
        mode = "train" if self.model.training else "eval"
        gathered: Tensor = self.accelerator.gather(term.detach())  # pyright: ignore[reportAssignmentType]
        self._metrics[mode]["fast_loss"].append(gathered.mean().item())
        accumulation = self.current_gradient_accumulation_steps if mode == "train" else 1
        return loss + self.fast_loss_weight * term / accumulation

    def _fast_loss(self, model, prompt_ids: Tensor, prompt_mask: Tensor) -> Tensor:
        """Return the fast-score loss; prompts are padded on the left, so all first verdicts are in one column."""
        ids, mask = prompt_ids[:, : -self._num_given], prompt_mask[:, : -self._num_given]
        optional = {"position_ids": positions_of(mask), "logits_to_keep": 1, "use_cache": False}
        known = forward_parameters(self.accelerator.unwrap_model(model))
        given = {name: value for name, value in optional.items() if name in known}
        logits = model(input_ids=ids, attention_mask=mask, **given).logits[:, -1].float()
        scores = fast_score(logits[:, self.judge_prompt.first_ids.to(logits.device)])
        rows = [tuple(row[kept].tolist()) for row, kept in zip(ids, mask.bool(), strict=True)]
        favorable = torch.tensor([self._favorable[row] for row in rows], device=scores.device)
        return -F.logsigmoid(torch.where(favorable, scores, -scores) / self.score_temperature).mean()
