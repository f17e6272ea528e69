"""Configuration of Fast-Slow reward models."""

from transformers import AutoConfig

from hf_reward_ext.base.options import check_count, check_number
from hf_reward_ext.base.saving.config import RewardModelConfig
from hf_reward_ext.fast_slow.judge.gate import Gate
from hf_reward_ext.fast_slow.judge.template import JudgeTemplate
from hf_reward_ext.fast_slow.judge.verdicts import VerdictKind, verdict_kind


class FastSlowRewardModelConfig(RewardModelConfig):
    r"""
    Configuration of [`FastSlowRewardModel`], saved as `config.json` with the causal LM's weights.

    Args:
        causal_lm_config (`PreTrainedConfig` or `dict`, *optional*): Configuration of the causal LM; `None` with an
            adapter, whose base is given by `adapter_config.json`.
        verdicts (`list[str]`): The verdict strings.
        kind (`str`, *optional*): Kind of verdicts, `"pairwise"`, `"binary"` or `"rating"`. Default: inferred from
            the strings.
        template (`dict`, *optional*): Fields of [`JudgeTemplate`]. Default: the template for `kind`.
        gate (`dict`, *optional*): Fields of [`Gate`], calibrated or not.
        both_orders (`bool`, *optional*, defaults to `True`): Whether to show each pair in both orders.
        num_votes (`int`, *optional*, defaults to 1), sampling_temperature (`float`, *optional*, defaults to 0),
            max_new_tokens (`int`, *optional*, defaults to 256): Options of written judgments.
        hard_votes (`bool`, *optional*): Whether to count final verdicts instead of averaging their probabilities.
        slow_temperature (`float`, *optional*, defaults to 1.0): Temperature Temperature $\tau$ of final verdicts.
        fast_vote_weight (`float`, *optional*, defaults to 0): Weight of the fast log-odds in
            escalated decisions.
        calibration (`dict`, *optional*): Result of [`FastSlowRewardModel.calibrate`].
        adapter (`bool`, *optional*): Whether the folder has an adapter instead of whole weights.

    Raises:
        TypeError: If a field has another type.
        ValueError: If a field is out of its range, or `template` or `gate` has unknown fields.

    Example:
    ```python
    >>> FastSlowRewardModelConfig(verdicts=["Yes", "No"]).kind
    'binary'
    ```
    """

    model_type = "fast_slow"
    sub_configs = {"causal_lm_config": AutoConfig}  # pyright: ignore[reportAssignmentType]

    def __init__(
        self,
        causal_lm_config=None,
        verdicts: list[str] | tuple[str, ...] = ("A", "B"),
        kind: VerdictKind | None = None,
        template: dict | None = None,
        gate: dict | None = None,
        both_orders: bool = True,
        num_votes: int = 1,
        sampling_temperature: float = 0.0,
        max_new_tokens: int = 256,
        hard_votes: bool = False,
        slow_temperature: float = 1.0,
        fast_vote_weight: float = 0.0,
        calibration: dict | None = None,
        adapter: bool = False,
        **kwargs,
    ):
        if isinstance(causal_lm_config, dict):
            fields = dict(causal_lm_config)
            causal_lm_config = AutoConfig.for_model(fields.pop("model_type"), **fields)
        self.causal_lm_config = causal_lm_config
        self.kind: VerdictKind = verdict_kind(verdicts, kind)
        self.verdicts = list(verdicts)
        self.template = JudgeTemplate.default(self.kind).to_dict() if template is None else template
        self.gate = Gate().to_dict() if gate is None else gate
        self.both_orders = both_orders
        self.num_votes = num_votes
        self.sampling_temperature = sampling_temperature
        self.max_new_tokens = max_new_tokens
        self.hard_votes = hard_votes
        self.slow_temperature = slow_temperature
        self.fast_vote_weight = fast_vote_weight
        self.calibration = calibration
        self.adapter = adapter
        self.check()
        kwargs.setdefault("problem_type", "regression")  # keeps text-classification from applying a sigmoid
        kwargs["num_labels"] = 1
        super().__init__(**kwargs)

    def check(self) -> None:
        """Raise `ValueError` or `TypeError` for an invalid field, which may have been set after construction."""
        verdict_kind(self.verdicts, self.kind)
        JudgeTemplate.from_dict(self.template).check_slots(self.kind)
        Gate.from_dict(self.gate)
        check_count("num_votes", self.num_votes)
        check_number("sampling_temperature", self.sampling_temperature, least=0)
        check_count("max_new_tokens", self.max_new_tokens)
        check_number("slow_temperature", self.slow_temperature, above=0)
        check_number("fast_vote_weight", self.fast_vote_weight, least=0, most=1)
