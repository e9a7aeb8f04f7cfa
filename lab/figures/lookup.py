"""Look-ups in a comparison that figures, tables and the report share."""

from collections.abc import Sequence

from lab.records import Anchors, Comparison, Interaction, LabError, Landing, Position, ReplyRow


def traits(comparison: Comparison) -> list[str]:
    """Traits in the order in which the run measured them."""
    return list(dict.fromkeys(x.trait for x in comparison.landings))


def positions(comparison: Comparison) -> list[Position]:
    """Token positions in the order in which the run measured them."""
    return list(dict.fromkeys(x.position for x in comparison.landings))


def scaffolds(comparison: Comparison) -> list[str]:
    """Scaffolds in the order in which the run measured them."""
    return list(dict.fromkeys(x.scaffold for x in comparison.landings))


def require(value: str, known: Sequence[str], what: str) -> None:
    """Say what there is when `value` is not in the run."""
    if value not in known:
        raise LabError(f"No {what} {value!r} in this comparison; it has {', '.join(known) or 'none'}.")


def landing(
    comparison: Comparison, model: str, scaffold: str, trait: str, position: Position
) -> tuple[Landing | None, list[Landing]]:
    """The landing over all paraphrases and those of the single paraphrases."""
    mine = [
        x
        for x in comparison.landings
        if (x.model, x.scaffold, x.trait, x.position) == (model, scaffold, trait, position)
    ]
    return next((x for x in mine if x.paraphrase == -1), None), [x for x in mine if x.paraphrase >= 0]


def interaction(comparison: Comparison, scaffold: str, trait: str, position: Position) -> Interaction | None:
    """D of one scaffold, or None where the run has none."""
    wanted = (scaffold, trait, position)
    return next((x for x in comparison.interactions if (x.scaffold, x.trait, x.position) == wanted), None)


def floor(comparison: Comparison, trait: str, position: Position) -> float | None:
    """The wider of the models' 95 % limits of what rewording a scaffold does to L."""
    limits = [
        x.difference_95 for x in comparison.noise_floor if x.trait == trait and x.position == position
    ]  # fmt: skip
    return max((x for x in limits if x == x), default=None)


def anchors(comparison: Comparison, model: str, trait: str, position: Position) -> Anchors:
    """The fixed points of one model's L."""
    wanted = (model, trait, position)
    for x in comparison.anchors:
        if (x.model, x.trait, x.position) == wanted:
            return x
    raise LabError(
        f"No anchors for model, trait, position {wanted}: this comparison is not whole; run it again."
    )


def replies(comparison: Comparison, scaffold: str, paraphrase: int, question: str) -> list[ReplyRow]:
    """The replies to one question under one wording, in the order of the models."""
    wanted = (scaffold, paraphrase, question)
    rows = [x for x in comparison.replies if (x.scaffold, x.paraphrase, x.question) == wanted]
    return sorted(rows, key=lambda x: comparison.labels.index(x.model))


def split_size(comparison: Comparison, split: str) -> str:
    """How many questions a split has: from the settings, else counted in the stored replies."""
    recorded = comparison.settings.get("questions")
    if isinstance(recorded, dict) and split in recorded:
        return str(recorded[split])
    counted = len({x.question for x in comparison.replies if x.split == split})
    return str(counted) if counted else "not recorded"
