"""Every claim runs on any two models and does not call noise a finding."""

import pytest
from conftest import save_checkpoint

from lab.pipelines.claims import claims, configured, load, run
from lab.stats import binomial_interval
from lab.store import Store

ALL = claims()
FAST = (13, 17)


@pytest.fixture(scope="module")
def anyone(tmp_path_factory):
    """Two random networks of different families with tokenizers of their own, and a store that claims share."""
    folder = tmp_path_factory.mktemp("anyone")
    names = [
        str(save_checkpoint(folder / family, family, style, seed, max_position_embeddings=4096))
        for family, style, seed in (("llama", "chatml", 3), ("gpt_neox", "base", 4))
    ]
    return names, Store(folder / "runs")


def verdict_of(number, anyone):
    names, store = anyone
    each = next(c for c in ALL if c.number == number)
    found = run(each, configured(each, names, quick=True), store, lambda stage, part: None)
    assert found.verdict in ("supported", "refuted", "cannot tell")
    assert all(e.why or e.low == e.low for e in found.effects), found.effects
    assert repr(load(found.run, store)) == repr(found)
    return found


@pytest.mark.parametrize("number", FAST)
def test_a_claim_runs_on_two_random_networks(number, anyone):
    assert verdict_of(number, anyone).verdict != "supported"


@pytest.mark.slow
def test_no_claim_is_supported_by_random_networks_beyond_chance(anyone):
    said = {c.number: verdict_of(c.number, anyone).verdict for c in ALL}
    supported = [n for n, verdict in said.items() if verdict == "supported"]
    low, _ = binomial_interval(len(supported), len(said), 0.99)
    assert low <= 0.05, said


@pytest.mark.slow
def test_two_runs_with_one_seed_agree_bit_for_bit(anyone, tmp_path):
    names, store = anyone
    each = next(c for c in ALL if c.number == 21)
    config = configured(each, names, quick=True)
    one, two = (run(each, config, s, lambda stage, part: None) for s in (store, Store(tmp_path)))
    assert one.run == two.run
    assert repr(one.observations) == repr(two.observations)
    assert repr(one.effects) == repr(two.effects)
