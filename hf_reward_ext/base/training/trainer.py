"""The seams of TRL's `RewardTrainer` that every method uses: data and model card."""

from dataclasses import replace

from trl import RewardTrainer

from hf_reward_ext.base.saving.card import CardText, write_model_card


class BaseRewardTrainer(RewardTrainer):
    """
    [`~trl.RewardTrainer`] whose rows keep the columns that a method's collator reads.

    A subclass names its `_columns`, prepares its dataset, computes its loss, and says what its card says. The
    loss is the same for any number of devices: TRL's trainer averages over them.
    """

    _columns: list[str] = []
    _tag_names = ["trl", "hf-reward-ext"]
    _card_settings: list[str] = []  # training arguments that the card tells

    def _set_signature_columns_if_needed(self):
        if self._signature_columns is None:
            self._signature_columns = list(self._columns)

    def _card_name(self) -> str:
        """Where the card's snippet loads the model from."""
        return self.args.hub_model_id or str(self.args.output_dir)

    def _card(self) -> CardText:
        """What the card says, with a snippet that loads the saved model."""
        raise NotImplementedError(f"`{type(self).__name__}` has no card.")

    def create_model_card(self, model_name=None, dataset_name=None, tags=None):
        """Writes our card in place of TRL's, whose snippet passes rewards through a sigmoid."""
        if not self.is_world_process_zero():
            return
        evaluations = [row for row in self.state.log_history if "eval_loss" in row]
        metrics = (
            {key: value for key, value in evaluations[-1].items() if key.startswith("eval_")} if evaluations else {}
        )
        own_tags = [tags] if isinstance(tags, str) else list(tags or [])
        text = self._card()
        write_model_card(
            str(self.args.output_dir),
            replace(text, tags=list(dict.fromkeys([*self._tag_names, *text.tags, *own_tags]))),
            name=model_name,
            trainer=type(self).__name__,
            dataset=dataset_name,
            settings={name: getattr(self.args, name) for name in self._card_settings},
            metrics={
                key: value for key, value in metrics.items() if isinstance(value, float) and "per_second" not in key
            },
        )
