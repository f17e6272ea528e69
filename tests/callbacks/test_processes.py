from types import SimpleNamespace

import pytest

from hf_reward_ext.callbacks import processes


@pytest.mark.parametrize(("count", "world"), [(5, 4), (4, 2), (1, 3), (7, 1), (3, 2)])
def test_shares_are_equally_long_and_come_back_in_order(count, world, monkeypatch):
    items, shares = list(range(count)), []
    for rank in range(world):
        state = SimpleNamespace(num_processes=world, process_index=rank)
        monkeypatch.setattr(processes, "PartialState", lambda state=state: state)
        first, share = processes.own_share(items)
        assert share[0] == items[min(first, count - 1)]
        shares.append(share)
    assert len({len(share) for share in shares}) == 1
    monkeypatch.setattr(processes, "gather_object", lambda own: [item for share in shares for item in share])
    assert processes.gather_shares(shares[0], count) == items
