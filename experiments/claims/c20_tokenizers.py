"""Claim 20: whether two tokenizers' different cuts show in where scaffolds land.

Question. Do the models' tokenizers cut words differently, and do scaffolds that are cut more differently land more
differently in the two models?

Prediction. Yes to the first; no to the second: how differently a scaffold is cut explains less than a tenth of where
its landings differ. (Seen before this was written: tokens per word 1.08 and 1.20, cuts inside words agree with F1
.60. Never looked at: whether that goes with landings or with places of words.)

Measure. (a) Distinct words of all scaffolds that the two tokenizers cut at different places, as a share; interval by
resampling words. (b) Per wording of every scaffold: the gap in tokens per word, absolute; and the gap between the two
models' landings, Euclidean over traits, each trait's mean gap taken out (what the models do differently everywhere is
no matter of this text). Spearman correlation; interval by jackknife over scaffolds, their wordings together, on
Fisher's scale. Beside it, word by word: the same correlation of the gap in tokens with the log rank of the word's own
place where a map puts it (claim 1's atlas), in the two models and in their untrained twins.

Null. (b) 0: gaps in tokens dealt anew to the scaffolds, wordings together.

Verdict rule. (a) supported if more than a quarter of the words are cut differently, refuted if fewer. (b) "the cut
matters" is supported if the correlation lies above .3, about a tenth of the variance, and its null is rejected;
refuted if it lies below. The claim needs both; one refuted refutes it. Abstains where landings have no unit.

What would change it. Scaffolds in a language that one tokenizer hardly knows (the shipped ones are cut little by
both: a large effect of heavy fragmentation would not be seen here), rare names, numbers, more scaffolds.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import stats

from lab.claims import Frame, abstain, all_of, effect, mean_over, of
from lab.dosage import jackknife_interval
from lab.geometry.words import cut_words, distinct, pieces, words_of
from lab.pipelines.atlas import AtlasConfig, atlas
from lab.pipelines.claim_landings import Landings, land, load_model, scaffolds_of
from lab.pipelines.claims import ClaimConfig
from lab.pipelines.compare import Progress
from lab.pipelines.texts import PLACES, load_models
from lab.pipelines.untrained_atlas import untrained_atlas
from lab.records import ScaffoldFile
from lab.records.atlas import AtlasBook
from lab.records.claims import Effect, Observation
from lab.stats import MIN_CLUSTERS, correlation, upper_p
from lab.store import Store

TITLE = "Tokenizers cut the world differently, and the cut matters"
COMBINE = all_of
TRAINED, TWINS = "two models", "untrained twins"


@dataclass(frozen=True)
class Config(ClaimConfig):
    """What counts as different, and as mattering. Settings of the atlas are claim 1's."""

    concepts: str = "auto"
    permutations: int = 99
    pairings: int = 39
    different: float = 0.25
    matters: float = 0.3


CONFIG = Config(scaffolds=0)
QUICK = Config(scaffolds=6, questions=8, max_new_tokens=16, permutations=19, pairings=9)


def observe(config: Config, store: Store, progress: Progress) -> list[Observation]:
    """Cuts of words, gaps of tokens and of landings by wording, and tokens and ranks of concept words."""
    one, two = config.models[:2]
    files = scaffolds_of(config)
    landed = [
        land(load_model(name, config), files, config, store, lambda s, x, k=k: progress(s, 0.3 * (k + x)))
        for k, name in enumerate((one, two))
    ]
    inner = AtlasConfig(
        (one, two), config.concepts, config.dtype, config.seed, config.permutations, config.pairings
    )
    book = atlas(inner, store, lambda s, x: progress(s, 0.6 + 0.2 * x))
    twins = untrained_atlas(inner, 0, store, lambda s, x: progress(s, 0.8 + 0.2 * x))
    pair = " | ".join(book.labels)
    return [
        *_cuts(config, files, pair),
        *_gaps(landed, pair),
        *_concepts(book, TRAINED),
        *_concepts(twins, TWINS),
    ]


def _cuts(config: Config, files: Sequence[ScaffoldFile], pair: str) -> list[Observation]:
    """Of every distinct word whether it is cut differently; of every wording the tokens per word of both."""
    tokenizers = [m.tokenizer for m in load_models(config.models[:2], config.dtype)]
    found, every = [], []
    for file in files:
        for w, wording in enumerate(file.paraphrases):
            cuts = [PLACES["system"](t, wording.text.strip()).cut for t in tokenizers]
            words = [x for x in words_of(cuts[0].text) if not x.mark]
            rates = [float(pieces(cut, words).sum() / len(words)) for cut in cuts]
            told = f"{rates[0]:.3f} and {rates[1]:.3f} tokens per word"
            found.append(Observation(pair, "tokens", f"{file.name}/{w}", abs(rates[1] - rates[0]), note=told))
            every += cut_words(*cuts)
    different: dict[str, bool] = {}
    for word in distinct(every):
        different[word.form] = different.get(word.form, False) or bool((word.a != word.b).any())
    return [*(Observation(pair, "cut differently", form, float(x)) for form, x in different.items()), *found]


def _gaps(landed: Sequence[Landings], pair: str) -> list[Observation]:
    """L of the first less the second model, mean over questions, by trait and wording."""
    one, two = landed
    rows = []
    for trait in one.traits:
        gap = one.L[trait, "reply_mean"] - two.L[trait, "reply_mean"]
        for name, cells in zip(one.scaffolds, gap, strict=True):
            rows += [
                Observation(pair, f"landings, {trait}", f"{name}/{w}", float(np.nanmean(c)))
                for w, c in enumerate(cells)
                if not np.isnan(c).all()
            ]
    return rows


def _concepts(book: AtlasBook, what: str) -> list[Observation]:
    """The gap in tokens of every concept word, and the log rank of its own place, mean over both ways."""
    if "chosen layers" not in book.stages:
        return []
    pair, rows = " | ".join(book.labels), []
    ranks = book.scores_at("chosen layers", "within category")
    for c in book.concepts:
        rank = float(np.mean([np.log(s.rank) for s in ranks[c.concept]]))
        rows.append(Observation(pair, f"{what}: tokens of a word", c.concept, abs(c.pieces_a - c.pieces_b)))
        rows.append(Observation(pair, f"{what}: rank of a word", c.concept, rank))
    return rows


def judge(
    observed: Sequence[Observation], rng: np.random.Generator, different: float = Config.different,
    matters: float = Config.matters,
) -> list[Effect]:  # fmt: skip
    """The verdict rule."""
    cut = of(observed, series="cut differently")
    label = cut[0].models
    frame = Frame(
        label,
        "words that are cut differently",
        "share",
        "above",
        different,
        "0: one tokenizer",
        "words",
        split="all",
    )
    matter = Frame(
        label,
        "gap of landings with gap of tokens",
        "Spearman r",
        "above",
        matters,
        "0: gaps dealt anew",
        "scaffolds",
    )
    found = [mean_over(cut, rng, frame), _texts(observed, matter, rng)]
    for what in (TRAINED, TWINS):
        tokens = {r.cluster: r.value for r in of(observed, series=f"{what}: tokens of a word")}
        ranks = {r.cluster: r.value for r in of(observed, series=f"{what}: rank of a word")}
        words = Frame(
            f"{label}, {what}", "words: rank on the map with gap of tokens", "Spearman r", "above", matters,
            "0: gaps dealt anew", "words", decides=False,
        )  # fmt: skip
        if tokens:
            x, y = np.array(list(tokens.values())), np.array([ranks[w] for w in tokens])
            found.append(_correlated(x, y, np.array(list(tokens)), words, rng))
    return found


def _texts(observed: Sequence[Observation], frame: Frame, rng: np.random.Generator) -> Effect:
    """Over wordings, scaffolds resampled."""
    tokens = {r.cluster: r.value for r in of(observed, series="tokens")}
    by_trait: dict[str, dict[str, float]] = {}
    for r in observed:
        if r.series.startswith("landings, "):
            by_trait.setdefault(r.series, {})[r.cluster] = r.value
    traits = [t for t in by_trait.values() if len(t) == len(tokens)]
    if not traits:
        return abstain("no trait whose poles lie apart in both models", frame)
    gaps = np.array([[t[w] for w in tokens] for t in traits])
    size = np.linalg.norm(gaps - gaps.mean(axis=1, keepdims=True), axis=0)
    scaffolds = np.array([w.rsplit("/", 1)[0] for w in tokens])
    return _correlated(np.array(list(tokens.values())), size, scaffolds, frame, rng)


def _correlated(
    x: np.ndarray, y: np.ndarray, clusters: np.ndarray, frame: Frame, rng: np.random.Generator
) -> Effect:
    """Rank correlation with its interval over clusters, and a one-sided p by dealing x anew to whole clusters."""
    names, code = np.unique(clusters, return_inverse=True)
    if len(names) < MIN_CLUSTERS or np.ptp(x) == 0:
        return abstain(f"{len(names)} {frame.cluster}, or no gap in tokens: nothing to correlate", frame)
    ranks = stats.rankdata(x), stats.rankdata(y)
    weights = np.array([np.ones(len(x)), *(code != k for k in range(len(names)))])
    one, other = (np.broadcast_to(v, weights.shape) for v in ranks)
    # On Fisher's scale: by bootstrap 6.5 % of simulated runs with r at the bar were called supported, not 2.5 %.
    z = np.arctanh(np.clip(correlation(one, other, weights), -0.999999, 0.999999))
    (low,), (high,) = jackknife_interval(z[:1], z[1:, None])
    rows = [np.flatnonzero(code == k) for k in range(len(names))]
    r = float(np.tanh(z[0]))
    null = np.array([_dealt(ranks, rows, rng) for _ in range(999)])
    return effect(
        r, float(np.tanh(low)), float(np.tanh(high)), len(names), replace(frame, p=upper_p(r, null))
    )


def _dealt(
    ranks: tuple[np.ndarray, np.ndarray], rows: Sequence[np.ndarray], rng: np.random.Generator
) -> float:
    """Correlation with clusters' x given to other clusters, as far as these are as large."""
    x = ranks[0].copy()
    for size in {len(r) for r in rows}:
        alike = [r for r in rows if len(r) == size]
        for k, j in enumerate(rng.permutation(len(alike))):
            x[alike[k]] = ranks[0][alike[j]]
    return float(np.corrcoef(x, ranks[1])[0, 1])
