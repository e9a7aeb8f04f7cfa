"""How good a loaded dictionary is: measured on held-out text, with intervals over texts.

Nothing is taken from what the training said of itself. Where texts have replies, the loss is that of reply
tokens: a chat model speaks there, and models of this lab were trained on nothing else.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from numpy import ndarray
from scipy import stats

from lab.features.corpora import Corpus, samples
from lab.features.load import Sae, decode, encode
from lab.features.stream import Tokens, by_length, padded, states, tokens_at_once, tokens_of
from lab.models import LoadedModel, hook_name
from lab.records import LabError, Site
from lab.records.features import SaeQuality
from lab.stats import MIN_CLUSTERS, cluster_weights, interval

LOGITS_AT_ONCE = 2**27
"""Logits that a batch may hold."""
Rule = Callable[[torch.Tensor], torch.Tensor]
PerText = Float[ndarray, " text"]
PerDraw = Float[ndarray, " draw"]


def held_out_tokens(
    model: LoadedModel, corpus: Corpus, texts: int, seed: int = 0, longest: int = 1024
) -> list[Tokens]:
    """The first `texts` texts of a corpus, in the order of `seed`; of a long one its first `longest` tokens.

    Equal ones (a small corpus begins anew) are taken once. LabError when there are fewer than 5.
    """
    found: dict[bytes, Tokens] = {}
    for sample, _ in islice(samples(corpus, seed), 4 * texts):
        rows = tokens_of(model.tokenizer, sample, min(longest, model.context))[:1]
        found |= {row.ids.tobytes(): row for row in rows if row.counts.any()}
        if len(found) == texts:
            break
    if len(found) < MIN_CLUSTERS:
        raise LabError(
            f"{corpus.name}: expected at least {MIN_CLUSTERS} held-out texts, got {len(found)}; give a larger corpus"
        )
    return list(found.values())


@dataclass(frozen=True)
class Coded:
    """Sums over the counted tokens of each text, float64.

    tokens; total [text, d_in]: of states; square: of squared states; residual: of squared residuals;
    active: of active features per token; fires [text, d_sae]: whether a feature is ever on.
    """

    tokens: PerText
    total: Float[ndarray, "text d_in"]
    square: PerText
    residual: PerText
    active: PerText
    fires: Bool[ndarray, "text d_sae"]


@dataclass(frozen=True)
class Losses:
    """Summed nats of each text's loss tokens, under three states of the site; tokens: how many."""

    tokens: PerText
    clean: PerText
    spliced: PerText
    ablated: PerText
    on: str


def measure(
    sae: Sae, model: LoadedModel, rows: Sequence[Tokens], rng: np.random.Generator, draws: int = 1000,
    progress: Callable[[float], None] | None = None,
) -> SaeQuality:  # fmt: skip
    """Quality of a dictionary on texts; `progress(fraction)`. Intervals are NaN below 5 texts."""
    coded = code(sae, model, rows)
    if progress is not None:
        progress(0.25)
    mean = coded.total.sum(axis=0) / coded.tokens.sum()
    found = losses(sae, model, rows, mean, progress)
    weights = cluster_weights([np.arange(len(rows))], draws, rng)
    one = np.ones((1, len(rows)))

    def bounded(number: Callable[[Float[ndarray, "draw text"]], PerDraw]) -> tuple[float, float, float]:
        low, high = interval(number(weights), len(rows))
        return float(number(one)[0]), float(low), float(high)

    explained = bounded(lambda w: explained_variance(coded, w))
    l0 = bounded(lambda w: (w @ coded.active) / (w @ coded.tokens))
    dead = dead_share(coded.fires)
    recovered = bounded(lambda w: loss_recovered(found, w))
    n = max(float(found.tokens.sum()), 1.0)
    return SaeQuality(
        explained_variance=explained[0], explained_low=explained[1], explained_high=explained[2],
        l0=l0[0], l0_low=l0[1], l0_high=l0[2], dead=dead[0], dead_low=dead[1], dead_high=dead[2],
        loss_recovered=recovered[0], recovered_low=recovered[1], recovered_high=recovered[2],
        loss_clean=float(found.clean.sum()) / n, loss_spliced=float(found.spliced.sum()) / n,
        loss_ablated=float(found.ablated.sum()) / n, loss_on=found.on, texts=len(rows),
        tokens=int(coded.tokens.sum()), loss_tokens=int(found.tokens.sum()),
    )  # fmt: skip


# ------------------------------------------------------------------ numbers from sums


def explained_variance(coded: Coded, weights: Float[ndarray, "draw text"]) -> PerDraw:
    """1 - squared residuals / squared distances from the mean, each draw with its own mean; NaN if nothing varies."""
    total = weights @ coded.total
    around = weights @ coded.square - (total**2).sum(axis=1) / (weights @ coded.tokens)
    return 1 - (weights @ coded.residual) / np.where(around > 0, around, np.nan)


def loss_recovered(found: Losses, weights: Float[ndarray, "draw text"]) -> PerDraw:
    """(ablated - spliced) / (ablated - clean); NaN where the ablation does no harm."""
    harm = weights @ (found.ablated - found.clean)
    return (weights @ (found.ablated - found.spliced)) / np.where(harm > 0, harm, np.nan)


def dead_share(fires: Bool[ndarray, "text d_sae"]) -> tuple[float, float, float]:
    """Share of features that no text switches on, and its 95 % delete-one jackknife interval over texts.

    Without text i those features die that only it switches on, so one count per text is all that is needed.
    """
    n, times = len(fires), fires.sum(axis=0)
    dead = float((times == 0).mean())
    if n < MIN_CLUSTERS:
        return dead, float("nan"), float("nan")
    alone = fires[:, times == 1].sum(axis=1) / fires.shape[1]
    error = np.sqrt((n - 1) / n * ((alone - alone.mean()) ** 2).sum())
    reach = float(stats.t.ppf(0.975, n - 1) * error)
    return dead, max(0.0, dead - reach), min(1.0, dead + reach)


# ------------------------------------------------------------------ sums from the model


def code(sae: Sae, model: LoadedModel, rows: Sequence[Tokens]) -> Coded:
    """Code the counted tokens of every text."""
    n, d_in, d_sae = len(rows), sae.origin.d_in, sae.origin.d_sae
    found = Coded(
        np.zeros(n), np.zeros((n, d_in)), np.zeros(n), np.zeros(n), np.zeros(n), np.zeros((n, d_sae), bool)
    )
    for i, value in states(model, sae.site, rows):
        x = value[_mask(rows[i].counts, value)]
        features = encode(sae, x)
        residual = (x - decode(sae, features)).double()
        found.tokens[i], found.total[i] = len(x), x.double().sum(dim=0).cpu().numpy()
        found.square[i], found.residual[i] = float((x.double() ** 2).sum()), float((residual**2).sum())
        found.active[i] = float((features != 0).sum())
        found.fires[i] = (features != 0).any(dim=0).cpu().numpy()
    return found


def _mask(which: Bool[ndarray, " pos"], like: torch.Tensor) -> torch.Tensor:
    return torch.from_numpy(which).to(like.device)


@contextmanager
def spliced(
    model: LoadedModel, site: Site, rule: Rule, counts: Bool[torch.Tensor, "row pos"]
) -> Iterator[None]:
    """Inside the block, forward passes have rule(state) in place of the site's state where `counts` says so."""

    def put(value: torch.Tensor, hook: Any) -> torch.Tensor:
        return torch.where(counts[..., None], rule(value.float()).to(value.dtype), value)

    with model.bridge.hooks(fwd_hooks=[(hook_name(site), put)]):
        yield


def losses(
    sae: Sae, model: LoadedModel, rows: Sequence[Tokens], mean: Float[ndarray, " d_in"],
    progress: Callable[[float], None] | None = None,
) -> Losses:  # fmt: skip
    """Loss with the state as it is, with the dictionary's output, and with the mean state, at counted tokens."""
    middle = torch.from_numpy(mean).float().to(model.device)
    rules: list[Rule] = [
        lambda x: x,
        lambda x: decode(sae, encode(sae, x)),
        lambda x: middle.expand_as(x),
    ]
    on = "replies" if any(row.reply.any() for row in rows) else "all"
    sums, tokens, done = np.zeros((3, len(rows))), np.zeros(len(rows)), 0
    budget = min(tokens_at_once(model), LOGITS_AT_ONCE // model.identity.vocab)
    for batch in by_length(rows, budget):
        part = [rows[i] for i in batch]
        inputs, counts = padded(part, model), _stacked([row.counts for row in part], model)
        asked = _stacked([row.reply if on == "replies" else row.counts for row in part], model)[:, 1:]
        tokens[batch] = asked.sum(dim=1).cpu().numpy()
        for k, rule in enumerate(rules):
            with torch.no_grad(), spliced(model, sae.site, rule, counts):
                logits = model.network(**inputs, use_cache=False).logits[:, :-1][asked].float()
            nats = torch.nn.functional.cross_entropy(
                logits, inputs["input_ids"][:, 1:][asked], reduction="none"
            )
            place = torch.nonzero(asked)[:, 0]
            sums[k, batch] = (
                torch.zeros(len(batch), dtype=torch.float64)
                .index_add(0, place.cpu(), nats.double().cpu())
                .numpy()
            )
        done += len(batch)
        if progress is not None:
            progress(0.25 + 0.75 * done / len(rows))
    clean, spliced_in, ablated = sums
    return Losses(tokens, clean, spliced_in, ablated, on)


def _stacked(rows: Sequence[ndarray], model: LoadedModel) -> Bool[torch.Tensor, "row pos"]:
    """Padded on the right with False."""
    found = np.zeros((len(rows), max(map(len, rows))), bool)
    for k, row in enumerate(rows):
        found[k, : len(row)] = row
    return torch.from_numpy(found).to(model.device)
