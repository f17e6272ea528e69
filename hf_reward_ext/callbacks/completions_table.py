"""Table of completions over training steps, as TRL's trainers and its `LogCompletionsCallback` log them."""

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from transformers import TrainerCallback, TrainingArguments
from transformers.integrations import TensorBoardCallback
from trl.trainer.utils import log_table_to_comet_experiment, print_prompt_completions_sample

from hf_reward_ext.base.saving.atomic import replace_file
from hf_reward_ext.base.saving.markdown import markdown_table

if TYPE_CHECKING:
    import pandas as pd

_WITH_TABLES = ("wandb", "trackio")  # with the same interface, also used by TRL


class CompletionsTable:
    """
    Table that grows at each evaluation and is logged to every tracker of `report_to` that can show it.

    Weights & Biases and trackio get a table, Comet a csv file, and TensorBoard a text with the rows of the evaluation.

    Args:
        name (`str`): Name of the table in the trackers.
        num_printed (`int`, defaults to 0): Number of rows of each evaluation that are printed.
        is_saved (`bool`, defaults to `False`): Whether the rows of each step are also written to
            `<output_dir>/completions/<name>_<step>.parquet`, beside the `completions_<step>.parquet` of TRL.
    """

    def __init__(self, name: str, num_printed: int = 0, is_saved: bool = False):
        self.name = name
        self.is_saved = is_saved
        self.num_printed = num_printed
        self._rows: list[dict] = []

    @property
    def frame(self) -> "pd.DataFrame":
        """All rows so far: `step`, `prompt`, `completion` and columns of the callback."""
        import pandas as pd  # takes a second to import

        return pd.DataFrame(self._rows)

    def log(
        self, rows: list[dict], step: int, args: TrainingArguments, callbacks: Sequence[TrainerCallback] = ()
    ) -> None:
        """
        Add rows and log the table. Call it in the main process only.

        Args:
            rows (`list` of `dict`): Rows with `prompt`, `completion`, `reward` and others.
            step (`int`): Training step.
            args (`TrainingArguments`): Training arguments with `report_to`.
            callbacks (`list` of `TrainerCallback`, *optional*): Callbacks of the trainer; that of TensorBoard has its
                writer.
        """
        self._rows += [{"step": str(step), **row} for row in rows]
        for name in args.report_to or ():
            if name in _WITH_TABLES:
                self._log_table(importlib.import_module(name))
            elif name == "comet_ml":
                log_table_to_comet_experiment(name=f"{self.name}.csv", table=self.frame)
        for callback in callbacks:
            if isinstance(callback, TensorBoardCallback) and callback.tb_writer is not None:
                callback.tb_writer.add_text(self.name, markdown_table(rows), step)
        if self.is_saved:
            self._save(Path(str(args.output_dir)) / "completions" / f"{self.name}_{step:05d}.parquet", step)
        if self.num_printed:
            self._print(rows[: self.num_printed], step)

    def _save(self, path: Path, step: int) -> None:
        """Write all rows of a step, which may have several evaluation sets."""
        import pandas as pd

        rows = [{**row, "step": step} for row in self._rows if row["step"] == str(step)]
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, lambda draft: pd.DataFrame(rows).to_parquet(draft))

    def _log_table(self, tracker) -> None:
        if getattr(tracker, "run", True) is not None:  # later tables have the rows of an evaluation before a run
            tracker.log({self.name: tracker.Table(dataframe=self.frame)})

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
