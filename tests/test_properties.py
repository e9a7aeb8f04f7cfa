"""One suite of properties on every measure of agreement, and on wrong ones, which fail it."""

import numpy as np
import properties
import pytest


@pytest.mark.parametrize("has", properties.PROPERTIES, ids=lambda p: p.__name__)
@pytest.mark.parametrize("subject", [*properties.OURS, *properties.BORROWED], ids=lambda s: s.name)
def test_every_measure_has_every_property(subject, has):
    has(subject, np.random.default_rng(0))


@pytest.mark.parametrize("has", properties.PROPERTIES, ids=lambda p: p.__name__)
@pytest.mark.parametrize(("subject", "lacks"), properties.WRONG, ids=lambda v: getattr(v, "name", ""))
def test_wrong_measures_fail_where_they_are_wrong(subject, lacks, has):
    if has.__name__ not in lacks:
        has(subject, np.random.default_rng(0))
        return
    with pytest.raises(AssertionError, match=f"^{has.__name__}.*{subject.name}"):
        has(subject, np.random.default_rng(0))


def test_rsatoolbox_says_the_same_as_our_rsa():
    pytest.importorskip("rsatoolbox")
    rng = np.random.default_rng(1)
    ours, theirs = (
        next(s for s in found if "RSA" in s.name) for found in (properties.OURS, properties.BORROWED)
    )
    for noise in (0.5, 1.5, 4.0):
        pair = properties.related(rng, noise)
        assert theirs.value(*pair, rng) == pytest.approx(ours.value(*pair, rng))
