"""The exact judge against brute force, and its calibration."""

import numpy as np
import pytest

from lab.world.conversation import draw_reply, make_turn, reply_text
from lab.world.grammar import Grammar
from lab.world.judge import Evidence, posterior, read_evidence
from lab.world.latent import KINDS, TRAITS, prior_covariance, sample_prior
from lab.world.library import library
from lab.world.scaffolds import NO_EXTRAS, named_character

LIB = library()


def _reply(seed: int, z: np.ndarray):
    rng = np.random.default_rng([99, seed])
    who = named_character(rng, LIB, LIB.personas[seed % 60], extras=NO_EXTRAS)
    turn = make_turn(rng, LIB, who, KINDS[seed % 8])
    return reply_text(draw_reply(rng, LIB, z, turn, who)), turn


def _two_trait_grid(log_likelihood):
    """Posterior mean and sd of warmth and candour by a fine grid, the other traits integrated out."""
    i, j = TRAITS.index("warmth"), TRAITS.index("candour")
    cov = prior_covariance()[np.ix_([i, j], [i, j])]
    axis = np.linspace(-5, 5, 401)
    w, c = np.meshgrid(axis, axis, indexing="ij")
    z = np.stack([w, c], -1)
    log_prior = -0.5 * np.einsum("...i,ij,...j->...", z, np.linalg.inv(cov), z)
    weight = np.exp(log_prior + log_likelihood(w, c))
    weight /= weight.sum()
    mean = np.array([(weight * w).sum(), (weight * c).sum()])
    return mean, np.sqrt([(weight * (w - mean[0]) ** 2).sum(), (weight * (c - mean[1]) ** 2).sum()])


def _log_choice(x, loads, index):
    logits = 2.0 * np.asarray(loads)[:, None, None] * x
    return logits[index] - np.log(np.exp(logits).sum(0))


@pytest.mark.parametrize("text", ["Kind frank.", "Cold coy. Kind coy. Kind coy.", "Mild frank. Cold frank."])
def test_posterior_equals_brute_force(tmp_path, text):
    (tmp_path / "g.txt").write_text(
        "[reply.x]\n= <s>\n[s]\n= <a> <b>.\n[a : warmth]\n++ kind\n+ mild\n-- cold\n[b : candour]\n++ frank\n- coy\n"
    )
    grammar = Grammar.read([tmp_path / "g.txt"])
    evidence = read_evidence(grammar, text, {})
    assert evidence.coherence == 1

    def log_likelihood(w, c):
        total = 0.0
        for first, second in (s.split() for s in text.lower().rstrip(".").split(". ")):
            total = total + _log_choice(w, [1, 0.6, -1], ["kind", "mild", "cold"].index(first))
            total = total + _log_choice(c, [1, -0.6], ["frank", "coy"].index(second))
        return total

    mean, sd = _two_trait_grid(log_likelihood)
    found = posterior(grammar, evidence, np.random.default_rng(0), samples=40000)
    rows = [TRAITS.index("warmth"), TRAITS.index("candour")]
    np.testing.assert_allclose(found.mean[rows], mean, atol=0.02)
    np.testing.assert_allclose(found.sd[rows], sd, atol=0.02)


def test_ambiguous_sentence_is_a_mixture(tmp_path):
    (tmp_path / "g.txt").write_text(
        "[reply.x]\n= <s>\n[s]\n= <a>.\n= <b>.\n[a : warmth]\n++ soft\n-- hard\n[b : candour]\n++ plain\n-- soft\n"
    )
    grammar = Grammar.read([tmp_path / "g.txt"])
    evidence = read_evidence(grammar, "Soft.", {})
    assert len(evidence.derivations[0]) == 2

    def log_likelihood(w, c):
        return np.log(np.exp(_log_choice(w, [1, -1], 0)) + np.exp(_log_choice(c, [1, -1], 1)))

    mean, sd = _two_trait_grid(log_likelihood)
    found = posterior(grammar, evidence, np.random.default_rng(0), samples=40000)
    rows = [TRAITS.index("warmth"), TRAITS.index("candour")]
    np.testing.assert_allclose(found.mean[rows], mean, atol=0.03)
    np.testing.assert_allclose(found.sd[rows], sd, atol=0.03)


def test_intervals_cover_what_they_promise():
    inside = []
    for i in range(120):
        z = sample_prior(np.random.default_rng([5, i]))
        text, turn = _reply(i, z)
        found = posterior(
            LIB.grammar,
            read_evidence(LIB.grammar, text, turn.filling, turn.kind),
            np.random.default_rng(i),
            1000,
        )
        assert found.effective_samples > 100
        inside.append((z >= found.low) & (z <= found.high))
    share, n = np.mean(inside), len(inside)
    # 120 replies x 12 traits; traits of one reply are correlated, so the tolerance counts replies.
    assert abs(share - 0.8) < 4 * np.sqrt(0.8 * 0.2 / n) / 2


def test_no_evidence_gives_the_prior():
    found = posterior(LIB.grammar, Evidence((), 0, 0), np.random.default_rng(0), 20000)
    np.testing.assert_allclose(found.mean, 0, atol=0.05)
    np.testing.assert_allclose(found.sd, 1, atol=0.05)


def test_nonsense_lowers_coherence_only():
    text, turn = _reply(3, np.zeros(12))
    clean = read_evidence(LIB.grammar, text, turn.filling, turn.kind)
    broken = read_evidence(LIB.grammar, text + " Colourless green ideas sleep.", turn.filling, turn.kind)
    assert clean.coherence == 1
    assert broken.parsed == clean.parsed
    assert broken.coherence < 1
    assert np.isnan(read_evidence(LIB.grammar, "", {}).coherence)


def test_more_replies_narrow_the_posterior():
    z = sample_prior(np.random.default_rng(1))
    found = [
        read_evidence(LIB.grammar, t, turn.filling, turn.kind)
        for t, turn in (_reply(i, z) for i in range(16))
    ]
    one = posterior(LIB.grammar, found[0], np.random.default_rng(0))
    many = posterior(LIB.grammar, sum(found[1:], found[0]), np.random.default_rng(0))
    assert np.all(many.sd < one.sd)
    assert np.abs(many.mean - z).mean() < 0.5
