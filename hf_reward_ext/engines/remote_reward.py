"""Rewards of a server, as a reward function for trainers and as a scorer."""

from collections.abc import Collection, Sequence
from functools import partial
from typing import Any

from hf_reward_ext.base.options import check_choice, check_count
from hf_reward_ext.base.scoring.rewards import Rewards, check_rewards
from hf_reward_ext.engines.connection import BrokenAnswerError, Connection, RefusedError, Session, gather

_NO_ROWS = (400, 422)  # answers of servers that score no empty lists


class RemoteReward:
    """
    Reward of a running `hf-reward-ext serve`, for `reward_funcs` of TRL's trainers and everything that scores text.

    Args:
        url (`str`): Address of the server, such as `http://127.0.0.1:8000`.
        columns (`list[str]`, *optional*): Columns of the data that are sent too, for reward functions that read them.
        rows_per_request (`int`, *optional*, defaults to 64): Maximum number of rows of a request.
        unavailable (`str`, *optional*, defaults to `"raise"`): Result for rows whose requests all failed: `"raise"` for
            an error, or `"none"` for no reward (`None`). A request that the server refuses is always an error.
        api_key (`str`, *optional*): Key of the server. Default: the environment variable `HF_REWARD_EXT_API_KEY`.
        concurrency (`int`, *optional*, defaults to 16): Maximum number of requests at a time.
        timeout (`float`, *optional*, defaults to 600): Maximum number of seconds without a byte of an answer.
        retries (`int`, *optional*, defaults to 6): Number of repetitions of a request.
        retry_delay (`float`, *optional*, defaults to 0.5): Maximum delay before the first repetition, in seconds.

    Raises:
        TypeError, ValueError: If an argument is out of its range, or `url` is not an HTTP address.

    Example:
    ```python
    >>> reward = RemoteReward("http://127.0.0.1:8000")
    >>> GRPOTrainer(policy, reward_funcs=reward, ...)
    ```
    """

    __name__ = "remote_reward"  # the name in TRL's logs

    def __init__(
        self,
        url: str,
        *,
        columns: Collection[str] = (),
        rows_per_request: int = 64,
        unavailable: str = "raise",
        api_key: str | None = None,
        concurrency: int = 16,
        timeout: float = 600.0,
        retries: int = 6,
        retry_delay: float = 0.5,
    ):
        check_count("rows_per_request", rows_per_request)
        check_choice("unavailable", unavailable, ("raise", "none"))
        if isinstance(columns, str):
            raise TypeError(f"`columns` must be a list of names, got {columns!r}. Pass [{columns!r}].")
        if not isinstance(columns, Collection) or not all(isinstance(name, str) for name in columns):
            raise TypeError(f"`columns` must be a list of names, got {columns!r}. Pass names of columns of the data.")
        self.connection = Connection(
            url, api_key=api_key, concurrency=concurrency, timeout=timeout, retries=retries, retry_delay=retry_delay
        )
        self.columns = list(columns)
        self.rows_per_request = rows_per_request
        self.unavailable = unavailable

    def __call__(self, prompts: Sequence, completions: Sequence, **columns: Any) -> Rewards:
        """
        Score completions.

        Args:
            prompts, completions (`list` of `str` or of messages): One prompt per completion.
            **columns: Columns of the prompts; those that are not named in `columns` are not sent.

        Returns:
            `list` of `float` or `None`.

        Raises:
            TypeError: If a column is missing, or has values that JSON does not have.
            ValueError: If a column has not one value for each completion.
            RuntimeError: If the server refuses a request, or does not answer.
        """
        missing = [name for name in self.columns if name not in columns]
        if missing:
            raise TypeError(f"The data must have the columns {self.columns}, got none of {missing}. Add them.")
        sent = {"prompts": prompts, "completions": completions, **{name: columns[name] for name in self.columns}}
        lengths = {name: len(values) if not isinstance(values, str) else "text" for name, values in sent.items()}
        if len(set(lengths.values())) > 1 or "text" in lengths.values():
            raise ValueError(
                f"Prompts, completions and columns must be lists with one value for each completion, got {lengths}. "
                "Repeat the shorter ones."
            )
        rows = list(zip(*sent.values(), strict=True))
        parts = [rows[start : start + self.rows_per_request] for start in range(0, len(rows), self.rows_per_request)]

        async def ask(session: Session) -> list[Rewards]:
            return await gather(*(self._ask(session, part) for part in parts))

        return [reward for part in self.connection.run(ask) for reward in part] if parts else []

    def check_answers(self) -> None:
        """
        Send a request without rows, so that long work does not begin with a server that cannot score its results.

        Raises:
            RuntimeError: If nothing answers at the address after all retries, or the answer is that of another API, or
                refuses the key.
        """

        async def ask(session: Session) -> None:
            try:
                await session.post("/v1/rewards", {"prompts": [], "completions": []}, partial(_read, prompts=[]))
            except RefusedError as error:
                if error.status not in _NO_ROWS:
                    raise

        self.connection.run(ask)

    async def _ask(self, session: Session, rows: list[tuple]) -> Rewards:
        prompts, completions, *values = (list(column) for column in zip(*rows, strict=True))
        body: dict[str, Any] = {"prompts": prompts, "completions": completions}
        if values:
            body["columns"] = dict(zip(self.columns, values, strict=True))
        try:
            return await session.post("/v1/rewards", body, partial(_read, prompts=prompts))
        except RefusedError:
            raise
        except RuntimeError:
            if self.unavailable == "raise":
                raise
            return [None] * len(rows)


def _read(answer: Any, prompts: list) -> Rewards:
    try:
        found = {one["index"]: one["reward"] for one in answer["data"]}
        if len(answer["data"]) != len(prompts):
            raise ValueError(f"{len(answer['data'])} rewards of {len(prompts)} rows")
        return check_rewards([found[index] for index in range(len(prompts))], prompts, "remote_reward")
    except (KeyError, TypeError, ValueError) as error:
        raise BrokenAnswerError(f"an answer of another form: {type(error).__name__} {error}") from error
