"""Checks of a reward model on a few rows."""

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


# Name, function that finds the fault, and function that returns why the check does not apply.
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
    Check a reward model for faults that no loss curve shows.

    | check | fault |
    |---|---|
    | `batch_size` | the score of a text depends on the other texts of its batch |
    | `padding_side` | the score depends on the side of the padding |
    | `pad_is_eos` | the padding token is also an EOS token |
    | `fresh_head` | the head has random weights, because it is missing in the checkpoint and was not trained |
    | `unsaved_head` | the head is missing in the saved checkpoint or adapter |
    | `lora_merge` | merging the adapter changes the scores |
    | `sigmoid` | the text-classification pipeline would apply a sigmoid to the rewards |

    Nothing is changed or downloaded, and the checkpoint is read in place. An adapter is merged in a copy, which doubles
    the memory. Any model with `logits` of the shape (batch, 1) is supported, including those of this library and of
    TRL's `RewardTrainer`.

    Args:
        model (`str`, `Path`, `PreTrainedModel` or `PeftModel`): Reward model, or its name or folder.
        tokenizer: Tokenizer of the reward model.
        rows (`Dataset` or `list`): A few texts as in use, see [`encode_rows`].
        saved_to (`str` or `Path`, *optional*): Folder of the saved model, which must give the same scores.
        batch_size (`int`, *optional*, defaults to 8): Number of texts per batch.
        tolerance (`float`, *optional*): Maximum accepted difference between two scores of one text. Default: the effect
            of rounding in the model's float type, for example 4 % of the largest reward in bfloat16.

    Returns:
        [`RewardModelReport`]: Report with `is_sound`, `findings` and `to_dict()`, which prints as text.

    Raises:
        ValueError: If rows have no text, the model does not give one logit per text, or the padding token has no
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
