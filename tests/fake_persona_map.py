"""A made-up persona map for tests of figures and pages."""

import numpy as np

from lab.records import ModelIdentity
from lab.records.personas import AxisSummary, LoadingAgreement, PersonaMap, RoleLanding, RoleReply

MODELS = ("hearth-a", "b <i>")
ROLES = tuple(f"role {i}" for i in range(20))


def fake_persona_map(run: str = "axis-fake", models: tuple[str, ...] = MODELS) -> PersonaMap:
    """Twenty roles in one or two models; one name holds HTML, as users' files may."""
    rng = np.random.default_rng(1)
    landings = []
    for model in models:
        places = rng.normal(scale=0.4, size=len(ROLES))
        for role, x in zip(ROLES, places - places.mean(), strict=True):
            landings.append(RoleLanding(model, role, x, x - 0.1, x + 0.1, float(rng.normal())))
        landings.append(RoleLanding(model, "default", 1.0, np.nan, np.nan, 0.5))
        landings.append(RoleLanding(model, "no scaffold", 0.9, np.nan, np.nan, 0.4))
    identities = tuple(
        ModelIdentity(m, f"/models/{k}", f"print{k}", 1000, 4, 8 + k, 100, "float32", False)
        for k, m in enumerate(models)
    )
    summaries = tuple(AxisSummary(m, 2, "reply_mean", "test", 0.9, 0.4, 0.8, 3, 0.2, 8) for m in models)
    replies = [
        RoleReply(
            r.model,
            r.role,
            f"Be {r.role}.",
            f"Question {q}?",
            f"{r.role} of {r.model} to {q}",
            r.loading + q - 0.5,
        )
        for r in landings
        for q in range(2)
    ]
    agreement = LoadingAgreement(0.7, 0.4, 0.9, 0.001, 0.4, 0.9, 20) if len(models) == 2 else None
    return PersonaMap(run, identities, summaries, tuple(landings), agreement, tuple(replies))
