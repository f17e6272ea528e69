"""The options of `train` that are neither TRL's nor a method's."""

from dataclasses import dataclass, field

from trl import ScriptArguments


@dataclass
class TrainArguments(ScriptArguments):
    """
    [`~trl.ScriptArguments`], whose data may be local, and evaluation data of its own.

    Args:
        eval_dataset_name (`str`, *optional*): As `dataset_name`, for evaluation.
    """

    eval_dataset_name: str | None = field(
        default=None,
        metadata={"help": "Evaluation data: name, file or folder. Default: the test split of the training data."},
    )


@dataclass
class JudgeArguments(TrainArguments):
    """
    What a judge needs beside its training.

    Args:
        judge_template (`str`, *optional*): JSON object or file of the fields of [`JudgeTemplate`]; a mapping in YAML.
        judge_max_new_tokens (`int`, *optional*): Longest written judgment.
        calibration_budget, calibration_risk (`float`, *optional*): Calibrate on the evaluation pairs after training;
            see [`FastSlowRewardModel.calibrate`].
    """

    judge_template: str | None = field(
        default=None, metadata={"help": "Judge prompt: JSON or a JSON file of JudgeTemplate's fields; a YAML mapping."}
    )
    judge_max_new_tokens: int | None = field(default=None, metadata={"help": "Longest written judgment, in tokens."})
    calibration_budget: float | None = field(
        default=None, metadata={"help": "After training, calibrate: largest share of decisions to escalate."}
    )
    calibration_risk: float | None = field(
        default=None, metadata={"help": "After training, calibrate: largest error rate of fast verdicts."}
    )
