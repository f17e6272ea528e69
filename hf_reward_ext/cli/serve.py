"""Command `hf-reward-ext serve`: a server of rewards."""

import logging
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from hf_reward_ext.base.options import Count, Number
from hf_reward_ext.base.plugins import plugin_value
from hf_reward_ext.cli.options import LoadingOptions, is_training_free, option
from hf_reward_ext.cli.parser import OptionParser, command_parser

logger = logging.getLogger(__name__)
SHORT = "a server of rewards: any scorer over HTTP"
DESCRIPTION = """\
Serves a reward model, head, channel, judge of single responses, or function over HTTP, on loopback by default, until it
is interrupted. Paths: /v1/rewards, /v1/score (as in vLLM), /get_reward (as in OpenRLHF), /classify (as verl sends it),
/health, /metrics. The environment variable HF_REWARD_EXT_API_KEY is the key that requests must have."""
EXAMPLES = (
    "--scorer outputs/elhsr",
    "--scorer my_rewards:shortest --port 5000 --missing_reward 0",
)


@dataclass
class ScorerOptions:
    """What is served."""

    title: ClassVar[str] = "scorer"
    scorer: str | None = option(
        "reward model, head, channel or judge by name or folder, or MODULE:FUNCTION", metavar="NAME", kind="scorer"
    )
    batch_size: Annotated[int, Count()] = option("number of texts per forward", 16)
    missing_reward: Annotated[float | None, Number()] = option(
        "reward for no answer in /get_reward and /classify, which cannot express it; default: such requests are refused"
    )


@dataclass
class ServerOptions:
    """Address and limits."""

    title: ClassVar[str] = "server"
    host: str = option("address to listen at; others than loopback require a key", "127.0.0.1", metavar="ADDRESS")
    port: Annotated[int, Count(least=0, most=65535)] = option("port to listen at; 0 for any free one", 8000)
    max_body_bytes: Annotated[int, Count()] = option("maximum size of a request", 2**24)
    max_rows: Annotated[int, Count()] = option("maximum number of rows of a request", 1024)
    max_characters: Annotated[int, Count()] = option("maximum number of characters of a text", 1_000_000)
    max_waiting_rows: Annotated[int, Count()] = option("number of rows that may wait; others are answered by 429", 4096)
    max_batch_rows: Annotated[int, Count()] = option("number of rows of several requests to score together", 64)
    max_wait_seconds: Annotated[float, Number(least=0)] = option("time that a request waits for others", 0.005)


@dataclass
class ServeOptions(LoadingOptions, ServerOptions, ScorerOptions):
    """Options of `serve`."""

    def check(self) -> None:
        """Raise `ValueError` for options that exclude each other."""
        self.scorer = plugin_value("rewards", self.scorer)
        if not self.scorer:
            raise ValueError("--scorer is missing: the reward to serve")
        if is_training_free(self.scorer):
            raise ValueError(f"--scorer {self.scorer} reads a running policy and cannot be served; give a reward model")
        if self.max_waiting_rows < self.max_rows:
            raise ValueError("--max_waiting_rows is lower than --max_rows, so that the largest request could not wait")


def parser() -> OptionParser:
    """Return the parser of the command."""
    return command_parser("serve", ServeOptions, DESCRIPTION, EXAMPLES)


def parse(arguments: Sequence[str]):
    """Parse the options, and the flags of every command."""
    return parser().parse_command(arguments)


def run(options: ServeOptions) -> None:
    """Load the scorer and serve it until the process is interrupted."""
    from hf_reward_ext.cli.folders import loading
    from hf_reward_ext.cli.memory import check_memory
    from hf_reward_ext.cli.models import check_name, load_scorer
    from hf_reward_ext.cli.options import is_url
    from hf_reward_ext.serving import Limits, RewardServer
    from hf_reward_ext.serving.server import check_address, check_free

    name = str(options.scorer)
    check_address(options.host)
    check_free(options.host, options.port)
    if not is_url(name):
        check_name(name, "--scorer", functions=True)
    check_memory(options)
    with loading(name, "--scorer"):
        scorer = load_scorer(name, "--scorer", options, options.batch_size, options.revision)
    limits = Limits(
        max_body_bytes=options.max_body_bytes,
        max_rows=options.max_rows,
        max_characters=options.max_characters,
        max_waiting_rows=options.max_waiting_rows,
        max_batch_rows=options.max_batch_rows,
        max_wait_seconds=options.max_wait_seconds,
    )
    server = RewardServer(
        scorer, host=options.host, port=options.port, limits=limits, missing_reward=options.missing_reward
    )
    print(f"Serving {name} at {server.url}", file=sys.stderr, flush=True)
    _note_form(scorer)
    with suppress(KeyboardInterrupt):
        server.run()


def _note_form(scorer: Any) -> None:
    """Log which requests go through the chat template of the scorer, if it has one."""
    if getattr(scorer, "reads_messages", False):
        logger.info(
            "Requests with text are scored as plain text; requests with messages go through the tokenizer's chat "
            "template."
        )
