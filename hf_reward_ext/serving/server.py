"""A reward server in this process."""

import socket
import threading
from typing import Any, Self

from hf_reward_ext.base.options import Count, check_number
from hf_reward_ext.base.scoring.scorer import as_single_scorer
from hf_reward_ext.engines.connection import API_KEY, check_key, is_loopback
from hf_reward_ext.serving.limits import Limits

_SHUTDOWN_SECONDS = 30
_PORT = Count(least=0, most=65535)


class RewardServer:
    """
    Server of any scorer over HTTP.

    | path | request | answer |
    |---|---|---|
    | `POST /v1/rewards` | `{"prompts", "completions", "columns"?}` | `{"data": [{"index", "reward"}]}`; may be `null` |
    | `POST /v1/score` | `{"text_1", "text_2"}`, as in vLLM | `{"data": [{"index", "score"}]}` |
    | `POST /get_reward` | `{"query", "prompts", "labels"?}`, as in OpenRLHF | `{"rewards", "scores", "extra_logs"}` |
    | `POST /classify` | `{"input"}`, as verl sends it | `{"data": [{"index", "probs"}]}` with the raw reward |
    | `GET /health`, `GET /metrics` | | state; counters for Prometheus |

    Rows of concurrent requests are scored in common batches.

    Args:
        scorer: Anything that [`as_scorer`] takes.
        tokenizer (*optional*): Tokenizer of a model that is passed as an object.
        batch_size (`int`, *optional*, defaults to 16): Number of texts per forward of a model.
        host (`str`, *optional*, defaults to `"127.0.0.1"`): Address to listen at. Others than loopback require a key.
        port (`int`, *optional*, defaults to 8000): Port to listen at; 0 for any free one.
        limits ([`Limits`], *optional*): Limits of requests and batches.
        api_key (`str`, *optional*): Key that requests must have as a bearer token. Default: the environment variable
            `HF_REWARD_EXT_API_KEY`, if it is set.
        missing_reward (`float`, *optional*): Reward for "no answer" in `/get_reward` and `/classify`.

    Attributes:
        url (`str`): Address of the server.

    Raises:
        ValueError: If the scorer compares pairs, or `host` is not loopback and there is no key.
        OSError: If the port is not free.
        ImportError: Without the packages of the extra `serve`.

    Example:
    ```python
    >>> with RewardServer("path/to/reward_model", port=0) as server:  # or RewardServer(...).run()
    ...     print(RemoteReward(server.url)(["2+2="], ["4"]))
    ```
    """

    def __init__(
        self,
        scorer: Any,
        tokenizer: Any = None,
        batch_size: int = 16,
        *,
        host: str = "127.0.0.1",
        port: int = 8000,
        limits: Limits | None = None,
        api_key: str | None = None,
        missing_reward: float | None = None,
    ):
        if missing_reward is not None:
            check_number("missing_reward", missing_reward)
        _PORT.check("port", port)
        api_key = check_address(host, api_key)
        try:
            import uvicorn

            from hf_reward_ext.serving.app import create_app
        except ImportError as error:
            raise ImportError(
                f"A reward server needs the packages of the extra `serve` ({error}). Run `pip install "
                "hf_reward_ext[serve]`."
            ) from error
        scorer = as_single_scorer(scorer, tokenizer, batch_size)
        app = create_app(scorer, limits or Limits(), api_key, missing_reward)
        config = uvicorn.Config(
            app, log_level="warning", timeout_graceful_shutdown=_SHUTDOWN_SECONDS, server_header=False, lifespan="on"
        )
        self._server = uvicorn.Server(config)
        self._socket = _bind(host, port)
        shown = f"[{host}]" if ":" in host else host
        self.url = f"http://{shown}:{self._socket.getsockname()[1]}"
        self._thread: threading.Thread | None = None

    def run(self) -> None:
        """Serve until the process gets SIGINT or SIGTERM; requests that have begun are answered."""
        try:
            self._server.run(sockets=[self._socket])
        finally:
            self._socket.close()

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self.run, name="reward server", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_) -> None:
        self._server.should_exit = True
        if self._thread is not None:
            self._thread.join()


def check_address(host: str, api_key: str | None = None) -> str | None:
    """
    Return the key of the server.

    Args:
        host (`str`): Address to listen at.
        api_key (`str`, *optional*): Key of the server. Default: that of the environment.

    Raises:
        TypeError: If one is not text.
        ValueError: If others can reach the address, and there is no key.
    """
    if not isinstance(host, str):
        raise TypeError(f"`host` must be text, got a `{type(host).__name__}`. Pass an address such as '127.0.0.1'.")
    api_key = check_key(api_key)
    if api_key is None and not is_loopback(host):
        raise ValueError(
            f"`host` must be a loopback address such as '127.0.0.1' unless there is a key, got {host!r}. Set "
            f"{API_KEY}, or leave `host` out."
        )
    return api_key


def check_free(host: str, port: int) -> None:
    """Raise `OSError` if a server cannot listen at an address, before a model is loaded for it."""
    _bind(host, port).close()


def _bind(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((host, port))
        bound.listen(2048)
    except OSError as error:
        bound.close()
        raise OSError(f"The server must listen at {host}:{port}, but {error.strerror}. Choose another port.") from error
    return bound
