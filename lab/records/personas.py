"""What stands on a persona map beside the roles: the default assistant, no scaffold, a base model."""

from collections.abc import Collection

from lab.records import PersonaMap

DEFAULT = "default"
NOBODY = "no scaffold"


def said_by(model: str) -> str:
    """The row of a model's replies without scaffold, weighed by the model of the map: by what is said alone."""
    return f"{model}: its replies"


def states_of(base: str) -> str:
    """The row of a base model's own states. There is none where it has coordinates of its own."""
    return f"{base}: its states"


def bases_of(found: PersonaMap) -> tuple[str, ...]:
    """Models that were placed on the axes of others and have none here."""
    return tuple(m.name for m in found.models[len(found.summaries) :])


def said_rows(found: PersonaMap) -> dict[str, str]:
    """Rows that stand by what was said, with the model that said it."""
    bases = bases_of(found)
    return {said_by(m): m for m in (*bases, *(s.model for s in found.summaries))} if bases else {}


def state_rows(found: PersonaMap) -> dict[str, str]:
    """Rows of base models' own states, with the model."""
    return {states_of(base): base for base in bases_of(found)}


def beside_roles(found: PersonaMap) -> tuple[str, ...]:
    """The names of all rows that are no roles."""
    return (DEFAULT, NOBODY, *said_rows(found), *state_rows(found))


def base_words(found: PersonaMap, model: str) -> tuple[str, ...]:
    """Sentences about the base models in one model's map: what their rows say, or why there are none."""
    rows = {r.role for r in found.landings if r.model == model}
    return tuple(text for base in bases_of(found) for text in _words(base, model, rows))


def _words(base: str, model: str, rows: Collection[str]) -> tuple[str, str]:
    if said_by(base) in rows:
        said = (
            f"Replies of {base} and of {model} itself, given without scaffold, stand where {model} would have to "
            "be pushed along its axis to say them (0 what the mean role says, 1 what the default says)."
        )
    else:
        said = (
            f"What {base} says cannot be placed: {model} does not tell the default's words from the mean role's "
            "by more than chance."
        )
    if states_of(base) in rows:
        own = (
            f"Its states are {base}'s own, which compare because both models hold the same words in the same "
            "coordinates."
        )
    else:
        own = f"{base}'s own states are not placed: its coordinates are not {model}'s."
    return said, own
