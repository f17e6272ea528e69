"""GenARM on the demo policy: a guide trained on its own walks, against sampling at a lower temperature."""

import time
from collections.abc import Sequence

import numpy as np
import torch
from datasets import Dataset

from hf_reward_ext.demo import walk
from hf_reward_ext.demo.comparison import Comparison, Example, SampleText, Way, make_way
from hf_reward_ext.demo.elhsr import choose
from hf_reward_ext.demo.sampling import Rollouts
from hf_reward_ext.demo.setup import Setup
from hf_reward_ext.demo.walk_pairs import pairs_by, pairs_by_success
from hf_reward_ext.genarm import GenARMConfig, GenARMLogitsProcessor, GenARMTrainer

METHOD = "GenARM"
ALPHAS = (0.25, 0.5, 1.0)
FRONT = (0.0, 0.1, 0.25, 0.5, 1.0)  # weights of the style guide
STYLE = "+"
SAMPLES = 2
TASK, FRONT_TASK = "walk, guided", "walk, success against style"


def compare(setup: Setup) -> Comparison:
    """
    Compare guided sampling with the policy alone and with its control, on held-out walks.

    Each way samples as many tokens. The control samples from the policy alone at temperature 1 / (1 + alpha), which is
    what a guide equal to the policy would do.
    """
    guide, seconds = train_guide(setup, pairs_by_success(setup.walks, setup.seed), setup.size.guide_steps, "guide")
    style_pairs = pairs_by(lambda text: -text.count(STYLE), setup.walks)
    style, style_seconds = train_guide(setup, style_pairs, setup.size.style_steps, "style guide")
    prompts = setup.test_walks()

    def decode(name: str, temperature: float = 1.0, guides=None, alpha: float | Sequence[float] = 0.0) -> Rollouts:
        processors = [] if guides is None else [GenARMLogitsProcessor(guides, alpha=alpha)]
        return setup.sample(prompts, walk, SAMPLES, temperature, name=name, logits_processor=processors)

    greedy = setup.sample(prompts, walk, 1, 0.0, name="greedy")
    alone = decode("policy alone")
    ways = [
        make_way(TASK, "greedy", "policy alone", greedy.correct[:, 0], greedy.num_tokens.mean()),
        _way("policy alone", "T = 1", alone, series="policy alone, sharpened", x=0.0),
        make_way(
            TASK, "policy alone, best of 2", "the more likely of 2: as many forwards as guided",
            choose(alone, alone.mean_logps), alone.num_tokens.sum(1).mean(),
        ),
    ]  # fmt: skip
    for alpha in ALPHAS:
        temperature = 1 / (1 + alpha)
        sharp = decode(f"T = {temperature:.2f}", temperature)
        name = f"policy alone, T = {temperature:.2f}"
        ways.append(_way(name, f"control of alpha {alpha}", sharp, series="policy alone, sharpened", x=alpha))
    guided = {}
    for alpha in ALPHAS:
        guided[alpha] = decode(f"alpha = {alpha}", 1.0, guide, alpha)
        what = f"guide trained for {setup.size.guide_steps} steps"
        ways.append(_way(f"GenARM, alpha = {alpha}", what, guided[alpha], seconds=seconds, series="GenARM", x=alpha))
    for weight in FRONT:
        found = decode(f"weights {1 - weight:g}, {weight:g}", 1.0, [guide, style], [1 - weight, weight])
        count = float(np.mean([text.count(STYLE) for group in found.completions for text in group]))
        ways.append(
            _way(
                f"weights {1 - weight:g}, {weight:g}",
                f'{count:.2f} "{STYLE}" per walk',
                found,
                task=FRONT_TASK,
                seconds=style_seconds,
                series="weights of success and style",
                x=count,
            )  # fmt: skip
        )
    return Comparison(
        METHOD,
        "Does a small guide, trained on right and wrong walks of the policy, help more than a lower temperature? Then "
        f'the same guide beside a second guide that prefers walks with few "{STYLE}", at several weights.',
        {TASK: "alpha", FRONT_TASK: f'number of "{STYLE}" per walk'},
        ways,
        _examples(alone, guided[0.5]),
    )


def train_guide(setup: Setup, rows: Dataset, steps: int, name: str):
    """Train a copy of the policy as an autoregressive reward model, and return it with the seconds of training."""
    started = time.perf_counter()
    args = GenARMConfig(
        str(setup.folder / "genarm" / name.replace(" ", "-")),
        beta=0.3,
        learning_rate=3e-4,
        max_steps=steps,
        per_device_train_batch_size=32,
        activation_checkpointing=False,
        report_to="none",
        logging_strategy="no",
        save_strategy="no",
        seed=setup.seed,
        use_cpu=not torch.cuda.is_available(),
    )
    trainer = GenARMTrainer(setup.policy_copy(), args, train_dataset=rows, processing_class=setup.tokenizer)
    trainer.train()
    trainer.save_model()
    trainer.create_model_card()
    return trainer.model.eval(), time.perf_counter() - started


def _way(name: str, what: str, found: Rollouts, task: str = TASK, **values) -> Way:
    return make_way(task, name, what, found.correct.mean(1), found.num_tokens.mean(), **values)


def _examples(alone: Rollouts, guided: Rollouts, count: int = 3) -> list[Example]:
    """Return the first problems on which the two differ."""
    differing = np.flatnonzero(alone.correct[:, 0] != guided.correct[:, 0])
    return [
        Example(
            alone.prompts[row],
            [
                SampleText(name, found.completions[row][0], bool(found.correct[row, 0]))
                for name, found in (("policy alone", alone), ("GenARM, alpha = 0.5", guided))
            ],
        )
        for row in differing[:count]
    ]
