"""Loop of all commands that read rows: in batches, resumable, with a progress bar."""

from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack

from transformers import set_seed
from transformers.utils.logging import tqdm

from hf_reward_ext.best_of_n.writer import ResumableWriter, read_back
from hf_reward_ext.cli.options import OutputOptions
from hf_reward_ext.cli.processes import count_processes, own_rank

Batch = Callable[[list[dict]], list[dict]]


def work_through(
    rows: Sequence[dict],
    prepare: Callable[[], Batch],
    options: OutputOptions,
    writer: ResumableWriter | None,
    what: str,
) -> Iterable[dict]:
    """
    Process all rows in batches, each with its own seed, so that a resumed run gives the same results.

    Args:
        rows (`list[dict]`): Input rows.
        prepare (`callable`): Function that loads models, if any row is left, and returns a function of a batch.
        options: Options with `batch_size`, and an optional `seed`.
        writer ([`ResumableWriter`], *optional*): Writer of the results, with a part for each batch.
        what (`str`): Description for the progress bar.

    Several processes compute a batch each at a time; the first one writes the batches in order. The others end here.

    Returns:
        Results, from the finished file if there is one.
    """
    if count_processes() > 1:
        return _work_in_processes(rows, prepare, options, writer, what)
    results: list[dict] = []
    do: Batch | None = None
    bar = None
    with ExitStack() as stack:  # closes the bar before an error is printed
        for number, start in enumerate(range(0, len(rows), options.batch_size)):
            batch = list(rows[start : start + options.batch_size])
            if writer and writer.has(number, batch):
                continue
            do = do or prepare()
            bar = bar or stack.enter_context(tqdm(total=len(rows), initial=start, desc=what, disable=len(rows) == 1))
            set_seed((getattr(options, "seed", 0) + start) % 2**32)
            done = do(batch)
            results += done if not writer else []
            if writer:
                writer.write(number, batch, done)
            bar.update(len(batch))
    return read_back(writer.finish()) if writer else results


def _work_in_processes(
    rows: Sequence[dict],
    prepare: Callable[[], Batch],
    options: OutputOptions,
    writer: ResumableWriter | None,
    what: str,
) -> Iterable[dict]:
    """Process the batches as [`work_through`] in several processes, with the same results."""
    from hf_reward_ext.cli.ranks import join_processes, share, work_in_rounds

    join_processes()
    is_first = own_rank() == 0
    size = options.batch_size
    batches = [list(rows[start : start + size]) for start in range(0, len(rows), size)]

    def is_missing(number: int) -> bool:
        return writer is None or not writer.has(number, batches[number])

    do: Batch | None = None

    def work(number: int) -> list[dict]:
        nonlocal do
        do = do or prepare()
        set_seed((getattr(options, "seed", 0) + number * size) % 2**32)
        return do(batches[number])

    missing = share([number for number in range(len(batches)) if is_missing(number)] if is_first else None)
    results: list[dict] = []
    asked = 0
    done_before = len(rows) - sum(len(batches[number]) for number in missing)
    with tqdm(total=len(rows), initial=done_before, desc=what, disable=not is_first or len(rows) == 1) as bar:
        for number, done in work_in_rounds(missing, work):
            if writer:
                for earlier in range(asked, number):  # parts are asked for in their order
                    writer.has(earlier, batches[earlier])
                writer.write(number, batches[number], done)
                asked = number + 1
            results += done if not writer else []
            bar.update(len(batches[number]))
    if not is_first:
        raise SystemExit(0)
    if writer is None:
        return results
    for number in range(asked, len(batches)):
        writer.has(number, batches[number])
    return read_back(writer.finish())
