"""Checks a reward model on a few rows."""

from collections.abc import Callable, Iterable
from pathlib import Path

from hf_reward_ext.checks.batching import check_batch_size, check_padding_side
from hf_reward_ext.checks.finding import Finding
from hf_reward_ext.checks.head import check_fresh_head, check_unsaved_head, has_known_head
from hf_reward_ext.checks.merge import check_lora_merge, has_adapter
from hf_reward_ext.checks.padding_token import check_pad_is_eos
from hf_reward_ext.checks.probe import Probe
from hf_reward_ext.checks.reloading import check_reloaded, load_reward_model
from hf_reward_ext.checks.report import RewardModelReport
from hf_reward_ext.checks.rows import encode_rows
from hf_reward_ext.checks.sigmoid import check_sigmoid


def _can_pad(probe: Probe) -> str | None:
    return None if probe.tokenizer.pad_token_id is not None else "the tokenizer has no padding token"


def _always(probe: Probe) -> str | None:
    return None


# Name, what finds the fault, and what says why it does not apply.
_CHECKS: list[tuple[str, Callable[[Probe], Finding | None], Callable[[Probe], str | None]]] = [
    ("batch_size", check_batch_size, _always),
    ("padding_side", check_padding_side, _can_pad),
    ("pad_is_eos", check_pad_is_eos, _can_pad),
    ("fresh_head", check_fresh_head, has_known_head),
    ("unsaved_head", check_unsaved_head, has_known_head),
    ("lora_merge", check_lora_merge, has_adapter),
    ("sigmoid", check_sigmoid, _always),
]


def check_reward_model(
    model,
    tokenizer,
    rows: Iterable,
    *,
    saved_to: str | Path | None = None,
    batch_size: int = 8,
    tolerance: float | None = None,
) -> RewardModelReport:
    """
    Looks for the faults of reward models that no loss curve shows.

    | check | fault |
    |---|---|
    | `batch_size` | the score of a text depends on the other texts of its batch |
    | `padding_side` | it depends on the side of the padding |
    | `pad_is_eos` | the padding token ends texts too |
    | `fresh_head` | the head has random weights: the checkpoint had none, and nothing was trained |
    | `unsaved_head` | the head is not where the model is saved: lost from the checkpoint, not in the adapter |
    | `lora_merge` | merging the adapter changes the scores |
    | `sigmoid` | the text-classification pipeline would squash the rewards |

    Nothing is changed or downloaded; the checkpoint is read where it lies. A merge is tried on a copy, so a model with
    an adapter needs its memory twice. Any model with `logits` of the shape (batch, 1) will do: those of this package,
    those of TRL's `RewardTrainer`.

    Args:
        model (`str`, `Path`, `PreTrainedModel` or `PeftModel`): The reward model, or its name or folder.
        tokenizer: Its tokenizer.
        rows (`Dataset` or `list`): A few texts as it will see them; see [`encode_rows`].
        saved_to (`str` or `Path`, *optional*): Where it was saved; loaded from there it must give the same scores.
        batch_size (`int`, *optional*, defaults to 8): Texts per batch.
        tolerance (`float`, *optional*): Largest difference between two scores of one text that is no finding. Default:
            what rounding explains in the model's float type, 4 % of the largest reward in bfloat16 for instance.

    Returns:
        [`RewardModelReport`]: Prints as text; `is_sound`, `findings`, `to_dict()`.

    Raises:
        ValueError: If rows have no text, the model gives no single logit per text, or the padding token has no
            embedding.

    Example:
    ```python
    >>> print(check_reward_model("path/to/reward_model", tokenizer, ["2+2=4", "2+2=5, or so"]))
    ```
    """
    if isinstance(model, (str, Path)):
        model = load_reward_model(model)
    _check_embedding(model, tokenizer)
    probe = Probe(model, tokenizer, encode_rows(tokenizer, rows), batch_size, tolerance)
    rewards = probe.alone.tolist()
    found: dict[str, Finding] = {}
    skipped: dict[str, str] = {}
    for name, check, why_not in _CHECKS:
        reason = why_not(probe)
        finding = None if reason else check(probe)
        if reason:
            skipped[name] = reason
        elif finding:
            found[name] = finding
    if saved_to is not None and "unsaved_head" not in found:
        finding = check_reloaded(probe, saved_to)
        skipped.pop("unsaved_head", None)
        if finding:
            found["unsaved_head"] = finding
    names = [name for name, _, _ in _CHECKS]
    return RewardModelReport(
        model=type(model).__name__,
        rewards=rewards,
        findings=[found[name] for name in names if name in found],
        passed=[name for name in names if name not in found and name not in skipped],
        skipped=skipped,
    )


def _check_embedding(model, tokenizer) -> None:
    pad, embedding = tokenizer.pad_token_id, model.get_input_embeddings()
    count = getattr(embedding, "num_embeddings", None)
    if pad is not None and count is not None and pad >= count:
        raise ValueError(
            f"`tokenizer.pad_token_id` is {pad}, but the model embeds {count} tokens, so padding cannot be read. "
            "Call `model.resize_token_embeddings(len(tokenizer))`."
        )
