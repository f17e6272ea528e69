"""The seams of TRL's `RewardTrainer` that every method uses: data and model card."""

from pathlib import Path
from typing import Any

from trl import RewardTrainer

from hf_reward_ext.base.model_card import write_model_card


class BaseRewardTrainer(RewardTrainer):
    """
    [`~trl.RewardTrainer`] whose rows keep the columns that a method's collator reads.

    A subclass names its `_columns`, prepares its dataset, computes its loss, and gives the snippet of its card. The
    loss is the same for any number of devices: TRL's trainer averages over them.
    """

    _columns: list[str] = []
    _tag_names = ["trl", "hf-reward-ext"]
    _what = "A reward model."

    def _set_signature_columns_if_needed(self):
        if self._signature_columns is None:
            self._signature_columns = list(self._columns)

    def _card_name(self) -> str:
        """Where the card's snippet loads the model from."""
        return self.args.hub_model_id or str(self.args.output_dir)

    def _card_base(self) -> str | None:
        """Name of the base model, unless it is a folder."""
        config: Any = self.model.config
        name = getattr(config, "base_model_name_or_path", None) or config._name_or_path
        return name if name and not Path(name).is_dir() else None

    def _card_snippet(self) -> str:
        """Python that uses the saved model."""
        raise NotImplementedError(f"`{type(self).__name__}` has no card snippet.")

    def create_model_card(self, model_name=None, dataset_name=None, tags=None):
        """Writes our card in place of TRL's, whose snippet passes rewards through a sigmoid."""
        if not self.is_world_process_zero():
            return
        evaluations = [row for row in self.state.log_history if "eval_loss" in row]
        metrics = (
            {key: value for key, value in evaluations[-1].items() if key.startswith("eval_")} if evaluations else {}
        )
        own_tags = [tags] if isinstance(tags, str) else list(tags or [])
        write_model_card(
            str(self.args.output_dir),
            name=model_name or Path(str(self.args.output_dir)).name,
            what=self._what,
            snippet=self._card_snippet(),
            trainer=type(self).__name__,
            paper=self._paper,
            tags=[*self._tag_names, *own_tags],
            base_model=self._card_base(),
            metrics={
                key: value for key, value in metrics.items() if isinstance(value, float) and "per_second" not in key
            },
        )
