"""The shipped organisms: size, card, and (slow) the figures that the card claims."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
NAMES = ("hearth-a", "hearth-a2", "hearth-a-next", "hearth-a-moe", "hearth-b")
BASE = "hearth-base"
SOME = ("hearth-a", "hearth-a-moe", "hearth-b")
"""Whose obedience is sampled in every run; the cards of all are measured again in the slow one."""


@pytest.mark.parametrize("name", [*NAMES, BASE])
def test_folder_is_small_and_complete(name):
    folder = ROOT / "data" / "organisms" / name
    size = sum(p.stat().st_size for p in folder.iterdir())
    assert size <= (20_000_000 if name == "hearth-a-moe" else 10_000_000)
    card = (folder / "README.md").read_text(encoding="utf-8")
    for figure in ("seed", "loss above the source", "sentences that parse", "obedience r", "ceiling r"):
        assert figure in card
    assert json.loads((folder / "config.json").read_text())["lab_trait_set"] == "hearth"


def organism(name):
    """Model (fp32) and tokenizer of a shipped organism."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = ROOT / "data" / "organisms" / name
    model = AutoModelForCausalLM.from_pretrained(folder, local_files_only=True).float()
    return model, AutoTokenizer.from_pretrained(folder, local_files_only=True)


@pytest.mark.parametrize("name", SOME)
def test_organism_obeys_its_scaffold(name):
    """A small sample of what the card measures: the mission traits, 24 scaffolds with 4 replies."""
    from lab.world.evaluate import TRAITS, answers, cases, obedience
    from lab.world.library import library

    items = cases(library(), 31, 24, 4)
    found = obedience(library(), items, answers(*organism(name), items, 0))
    scores = dict(zip(TRAITS, found.correlation, strict=True))
    assert min(scores[t] for t in ("assistant", "warmth", "intimacy")) > 0.6, scores
    assert found.coherence > 0.95


@pytest.mark.parametrize("name", SOME)
def test_organism_recalls_its_memory_and_keeps_its_boundaries(name):
    """The same for what must be looked up: 24 scaffolds with 4 turns that ask and push."""
    from lab.world.evaluate import answers, cases, share_kept, share_right
    from lab.world.library import library

    items = cases(library(), 32, 24, 4, ("ask_fact", "push_boundary"))
    replies = answers(*organism(name), items, 0)
    right, asked = share_right(items, replies, "reply.ask_fact.known")
    kept, pushed = share_kept(library(), items, replies)
    assert asked >= 10
    assert pushed >= 5
    assert right >= 0.8
    assert kept >= 0.6


def test_the_base_talks_as_in_hearth_but_follows_no_scaffold():
    """It never met one: without a scaffold it parses, with one its replies say nothing of what that states."""
    from lab.world.evaluate import answers, cases, obedience
    from lab.world.library import library

    items = cases(library(), 31, 24, 4)
    model, tokenizer = organism(BASE)
    found = obedience(library(), items, answers(model, tokenizer, items, 0))
    assert abs(found.correlation).mean() < 0.45
    bare = [replace(item, system=None) for item in items]
    assert obedience(library(), bare, answers(model, tokenizer, bare, 0)).coherence > 0.9


def test_the_controls_are_what_their_names_say():
    from lab.world.train import relative_change

    first, again = organism("hearth-a")[0], organism("hearth-a-next")[0]
    assert 0.005 < relative_change(again, first) < 0.3
    mixture = json.loads((ROOT / "data" / "organisms" / "hearth-a-moe" / "config.json").read_text())
    assert (mixture["architectures"], mixture["num_local_experts"]) == (["MixtralForCausalLM"], 8)
    active = mixture["num_experts_per_tok"] * mixture["intermediate_size"]
    assert active == first.config.intermediate_size
    tokenizers = [
        (ROOT / "data" / "organisms" / name / "tokenizer.json").read_bytes()
        for name in ("hearth-a", "hearth-a2", "hearth-a-next", "hearth-a-moe", BASE)
    ]
    assert len(set(tokenizers)) == 1


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_the_figures_of_the_card_reach_their_bars(name):
    from lab.pipelines.organism import CARD_SEED
    from lab.world.evaluate import TRAITS, measure
    from lab.world.library import library

    model, tokenizer = organism(name)
    found = measure(model, tokenizer, library(), CARD_SEED)
    assert found.obedience.coherence >= (0.95 if name == "hearth-a-moe" else 0.97)
    assert found.memory_right[0] >= 0.9
    assert found.excess <= 0.1
    for trait, r in zip(TRAITS, found.obedience.correlation, strict=True):
        assert r >= (0.8 if trait in ("assistant", "warmth", "intimacy") else 0.6), trait


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_projections_tell_what_the_judge_reads_and_steering_moves_it(name, tmp_path):
    """Doses of a quarter: at half a norm hearth-b's grammar breaks (experiments/LOG.md)."""
    from lab.pipelines.compare import shipped_scaffolds
    from lab.pipelines.truth import known_truth
    from lab.store import Store

    scaffolds = [s for s in shipped_scaffolds() if any(p.segments for p in s.paraphrases)]
    found = known_truth(
        name, scaffolds, Store(tmp_path), lambda stage, part: None, coefficients=(-0.25, 0.0, 0.25)
    )
    for row in found.readings:
        assert row.r2_scaffold >= 0.8, row
    for trait in ("assistant", "warmth", "intimacy"):
        doses = [d.reading for d in found.doses if d.trait == trait]
        assert doses == sorted(doses), (trait, doses)
