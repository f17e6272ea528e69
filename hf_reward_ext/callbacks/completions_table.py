"""Table of completions over training steps, as in TRL's `LogCompletionsCallback`."""

from typing import TYPE_CHECKING

from transformers import TrainingArguments
from trl.trainer.utils import log_table_to_comet_experiment, print_prompt_completions_sample

if TYPE_CHECKING:
    import pandas as pd


class CompletionsTable:
    """
    Table that grows at each evaluation and is logged to Weights & Biases and Comet.

    Args:
        name (`str`): Name of the table in the trackers.
        num_printed (`int`, defaults to 0): Number of rows of each evaluation that are printed.
    """

    def __init__(self, name: str, num_printed: int = 0):
        self.name = name
        self.num_printed = num_printed
        self._rows: list[dict] = []

    @property
    def frame(self) -> "pd.DataFrame":
        """All rows so far: `step`, `prompt`, `completion` and columns of the callback."""
        import pandas as pd  # takes a second to import

        return pd.DataFrame(self._rows)

    def log(self, rows: list[dict], step: int, args: TrainingArguments) -> None:
        """
        Add rows and log the table. Call it in the main process only.

        Args:
            rows (`list` of `dict`): Rows with `prompt`, `completion`, `reward` and others.
            step (`int`): Training step.
            args (`TrainingArguments`): Training arguments with `report_to`.
        """
        self._rows += [{"step": str(step), **row} for row in rows]
        trackers = args.report_to or ()
        if "wandb" in trackers:
            import wandb  # pyright: ignore[reportMissingImports]

            wandb.log({self.name: self.frame})
        if "comet_ml" in trackers:
            log_table_to_comet_experiment(name=f"{self.name}.csv", table=self.frame)
        if self.num_printed:
            self._print(rows[: self.num_printed], step)

    def _print(self, rows: list[dict], step: int) -> None:
        shown = ("prompt", "completion", "reward")
        extra = {name: [f"{row[name]:.3g}" for row in rows] for name in rows[0] if name not in shown}
        print_prompt_completions_sample(
            [row["prompt"] for row in rows],
            [row["completion"] for row in rows],
            {"reward": [row["reward"] for row in rows]},
            None,
            step,
            extra=extra,
        )
