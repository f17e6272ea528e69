"""
Load test of a server of rewards: requests of one row by many clients, with and without common batches, in turns.

    python examples/benchmarks/serving.py path/to/reward_model
"""

import argparse
import asyncio
import time

import httpx2
import numpy as np

from hf_reward_ext.base.scoring.scorer import as_single_scorer
from hf_reward_ext.demo.arithmetic import problems
from hf_reward_ext.serving import Limits, RewardServer


async def load(url: str, rows: list[tuple[str, str]], clients: int) -> list[float]:
    """Return the seconds of each request; each client sends its next one when the last is answered."""
    waiting = iter(rows)
    seconds: list[float] = []

    async def send(client: httpx2.AsyncClient) -> None:
        for prompt, completion in waiting:
            start = time.perf_counter()
            answer = await client.post(f"{url}/v1/rewards", json={"prompts": [prompt], "completions": [completion]})
            answer.raise_for_status()
            seconds.append(time.perf_counter() - start)

    async with httpx2.AsyncClient(timeout=120) as client:
        await asyncio.gather(*(send(client) for _ in range(clients)))
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scorer")
    parser.add_argument("--requests", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    scorer = as_single_scorer(args.scorer, batch_size=64)
    rows = [(problem.prompt, "6-1=5;5*3=15;15-3=12") for problem in problems("train")[: args.requests]]
    print("| clients | rows per batch | requests/s | p50 | p99 |\n|---:|---:|---:|---:|---:|")
    for clients in (1, 16, 64):
        for size in (1, 64):
            found, seconds = [], 0.0
            with RewardServer(scorer, port=0, limits=Limits(max_batch_rows=size)) as server:
                asyncio.run(load(server.url, rows[:32], clients))  # warms up
                for _ in range(args.rounds):
                    start = time.perf_counter()
                    found += asyncio.run(load(server.url, rows, clients))
                    seconds += time.perf_counter() - start
            p50, p99 = np.percentile(found, [50, 99]) * 1000
            print(f"| {clients} | {size} | {len(found) / seconds:.0f} | {p50:.0f} ms | {p99:.0f} ms |", flush=True)


if __name__ == "__main__":
    main()
