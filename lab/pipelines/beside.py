"""One saved geometry run beside another: is this pair of models less alike than the reference pair?

With two seeds of one recipe as reference this is the noise floor of training: a next version "inside" it differs by no
more than another seed would. With a model against itself as reference it is the floor of sampling and wording.
"""

from collections.abc import Mapping

import numpy as np

from lab.geometry.beside import beside as side_by_side
from lab.pipelines.geometry import MEASURES
from lab.pipelines.geometry_runs import load_geometry, load_grams
from lab.records import LabError
from lab.records.geometry import GeometryBook
from lab.records.similarity import Beside
from lab.store import Store


def beside(run: str, reference: str, store: Store, seed: int = 0) -> tuple[Beside, ...]:
    """Both places and every measure. LabError for runs of different designs, naming what differs."""
    one, other = (load_geometry(store, name) for name in (run, reference))
    check_designs(one, other)
    rng = np.random.default_rng([seed, 9])
    mine, theirs = (load_grams(store, name) for name in (run, reference))
    return tuple(
        row
        for place in one.places
        for row in side_by_side(
            place.position, mine.get(place.position, ()), theirs.get(place.position, ()), MEASURES, rng
        )
    )


def check_designs(one: GeometryBook, other: GeometryBook) -> None:
    """LabError unless both runs were made with the same first model, scaffolds, questions and template."""
    designs: list[Mapping[str, object]] = []
    for book in (one, other):
        design = book.settings.get("design")
        if not isinstance(design, Mapping):
            raise LabError(
                f"run {book.run} does not say how it was made (an older version made it); make it again"
            )
        designs.append(design)
    differ = [k for k in designs[0] if designs[0][k] != designs[1].get(k)]
    if differ:
        raise LabError(
            f"runs {one.run} ({' and '.join(one.labels)}) and {other.run} ({' and '.join(other.labels)}) cannot be "
            f"compared: they differ in {', '.join(differ)}; run `lab geometry` for both with the same"
        )
