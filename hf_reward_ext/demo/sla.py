"""SLA on the demo policy: a reward channel, and look-ahead against best-of-N by the same channel."""

import time

import numpy as np
import torch
from transformers.utils.logging import tqdm

from hf_reward_ext.demo import walk
from hf_reward_ext.demo.comparison import Comparison, Example, SampleText, make_way
from hf_reward_ext.demo.sampling import Rollouts
from hf_reward_ext.demo.setup import Setup
from hf_reward_ext.demo.walk_pairs import pairs_by_success
from hf_reward_ext.evaluation import mean_with_interval
from hf_reward_ext.evaluation.curves import chances_by_rank
from hf_reward_ext.sla import SLAConfig, SLATrainer, sla_generate

METHOD = "SLA"
TASK = "walk, equal tokens"
CANDIDATES = 16
TEMPERATURE = 0.3  # the best of 0.3, 0.5 and 0.8 for few candidates
NUMBERS = (1, 2, 4, 8, 16)
DEPTHS = (3, 7, 11, 15)
FORKS = dict(width=2, step=1, branch_entropy=0.5)  # only the sign of a move is uncertain
POOL = f"{CANDIDATES} samples at T = {TEMPERATURE}"


def compare(setup: Setup) -> Comparison:
    """
    Compare look-ahead with greedy decoding and with best-of-N by the same channel, on held-out walks.

    Tokens are those that the policy reads after the prompt, summed over all rows of the search.
    """
    channel, seconds = train_channel(setup)
    prompts = setup.test_walks()
    greedy = setup.sample(prompts, walk, 1, 0.0, name="greedy")
    pool = setup.sample(prompts, walk, CANDIDATES, TEMPERATURE, name=f"{CANDIDATES} candidates")
    flat = [text for group in pool.completions for text in group]
    repeated = [prompt for prompt in prompts for _ in range(CANDIDATES)]
    rewards = np.array(channel.scorer(setup.tokenizer, batch_size=256)(repeated, flat)).reshape(pool.correct.shape)
    each, one = float(pool.num_tokens.mean()) - 1, float(greedy.num_tokens.mean()) - 1  # the last is not read
    ways = [make_way(TASK, "greedy", "policy alone", greedy.correct[:, 0], one, series="greedy", x=one)]
    for number in NUMBERS:
        right = best_of(rewards, pool.correct, number)
        name = "one sample" if number == 1 else f"best of {number}"
        what = f"T = {TEMPERATURE}" + ("" if number == 1 else ", chosen by the channel")
        ways.append(
            make_way(TASK, name, what, right, number * each, candidates=POOL, series="best of N", x=number * each)
        )
    searches = {}
    for depth in DEPTHS:
        right, tokens, texts = look_ahead(setup, channel, prompts, depth)
        gain = mean_with_interval(right - best_of(rewards, pool.correct, tokens / each))
        what = f"minus best-of-N with as many tokens: {gain}"
        searches[depth] = right, texts
        ways.append(
            make_way(
                TASK, f"look-ahead, depth {depth}", what, right, tokens, seconds=seconds, series="look-ahead", x=tokens
            )
        )
    ways.append(
        make_way(
            TASK, f"any of {CANDIDATES}", f"oracle of best-of-N, T = {TEMPERATURE}", pool.correct.max(1),
            CANDIDATES * each, candidates=POOL, is_oracle=True,
        )
    )  # fmt: skip
    return Comparison(
        METHOD,
        "A channel that reads the reward inside the policy looks ahead before each choice. Does that solve more walks "
        "than sampling several and choosing by the same channel, at equal tokens? It writes walks of its own, so that "
        "the oracle of best-of-N is no bound for it.",
        {TASK: "tokens per problem"},
        ways,
        _examples(greedy, *searches[DEPTHS[1]]),
    )


def train_channel(setup: Setup):
    """Train the channel, and return the reward model with the seconds of training."""
    started = time.perf_counter()
    args = SLAConfig(
        str(setup.folder / "sla"),
        channel_size=32,
        cache_hidden_states=True,
        learning_rate=3e-3,
        num_train_epochs=setup.size.channel_epochs,
        per_device_train_batch_size=32,
        activation_checkpointing=False,
        report_to="none",
        logging_strategy="no",
        save_strategy="no",
        seed=setup.seed,
        use_cpu=not torch.cuda.is_available(),
    )
    rows = pairs_by_success(setup.walks, setup.seed)
    torch.manual_seed(setup.seed)
    trainer = SLATrainer(setup.policy, args, train_dataset=rows, processing_class=setup.tokenizer)
    trainer.train()
    trainer.save_model()
    return trainer.model.eval(), time.perf_counter() - started


def look_ahead(setup: Setup, channel, prompts: list[str], depth: int) -> tuple[np.ndarray, float, list[str]]:
    """Return the success on each prompt, the tokens read per prompt, and the walks of a search."""
    tokens, texts = 0, []
    for start in tqdm(range(0, len(prompts), 50), desc=f"look-ahead, depth {depth}"):
        inputs = setup.tokenizer(
            prompts[start : start + 50], return_tensors="pt", padding=True, return_token_type_ids=False
        )
        out = setup.policy.generate(
            **inputs, custom_generate=sla_generate, reward=channel, max_new_tokens=walk.MAX_NEW_TOKENS,
            return_dict_in_generate=True, depth=depth, **FORKS,
        )  # fmt: skip
        completions = out.sequences[:, inputs["input_ids"].shape[1] :]
        texts += setup.tokenizer.batch_decode(completions, skip_special_tokens=True)
        tokens += out.num_row_tokens
    right = [walk.is_correct(prompt, text) for prompt, text in zip(prompts, texts, strict=True)]
    return np.array(right, dtype=float), tokens / len(prompts), texts


def best_of(rewards: np.ndarray, correct: np.ndarray, number: float) -> np.ndarray:
    """Return the expected success of best-of-N on each prompt, interpolated linearly between integers N."""
    order = np.argsort(-rewards, axis=1, kind="stable")
    ranked, count = np.take_along_axis(correct.astype(float), order, axis=1), rewards.shape[1]
    number = float(np.clip(number, 1, count))
    low, share = int(number), number % 1
    below = ranked @ chances_by_rank(count, low)
    return below if not share else (1 - share) * below + share * (ranked @ chances_by_rank(count, low + 1))


def _examples(greedy: Rollouts, right: np.ndarray, texts: list[str], count: int = 3) -> list[Example]:
    """Return the first problems on which greedy decoding and the search differ."""
    differing = np.flatnonzero(greedy.correct[:, 0] != right)
    return [
        Example(
            greedy.prompts[row],
            [
                SampleText("greedy", greedy.completions[row][0], bool(greedy.correct[row, 0])),
                SampleText(f"look-ahead, depth {DEPTHS[1]}", texts[row], bool(right[row])),
            ],
        )
        for row in differing[:count]
    ]
