"""Replies of two models, token by token, in the frames of their shared maps.

The replies are those that the maps were tested on. They are read again, teacher-forced, scaffold by scaffold
(the system prompt that its chats share is run once), and every token is projected on the two directions of
its model in each frame; no state is kept.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from lab.geometry.trajectories import Frame, running_mean
from lab.pipelines.compare import Progress
from lab.pipelines.replies import Job, Measured
from lab.records import Activations, Direction, LabError, Message, Rendered, Site
from lab.records.trajectories import PathPoint

if TYPE_CHECKING:
    from lab.models import LoadedModel
    from lab.pipelines.geometry import Side

Key = tuple[str, str, str, str]
"""Target, model, scaffold, question."""


def paths(
    models: Sequence["LoadedModel"], sides: Sequence["Side"], frames: Sequence[Frame],
    progress: Progress = lambda stage, part: None,
) -> tuple[PathPoint, ...]:  # fmt: skip
    """Every reply to the first wording of every scaffold on the frames' questions, of both models.

    Each model is read once for all frames; rows are in the order of frames, scaffolds, questions, models.
    Raises LabError for frames of other models, of another position than the mean over the reply, or of
    scaffolds and questions that were not asked.
    """
    _check(models, sides, frames)
    found: dict[Key, tuple[PathPoint, ...]] = {}
    names = list(dict.fromkeys(s for frame in frames for s in frame.scaffolds))
    for k, (model, side) in enumerate(zip(models, sides, strict=True)):
        for i, scaffold in enumerate(names):
            progress(f"paths of {side.label}", (k + i / len(names)) / len(sides))
            found |= _read(model, side, [f for f in frames if scaffold in f.scaffolds], scaffold)
    return tuple(
        point
        for frame in frames for scaffold in frame.scaffolds for question in frame.questions for side in sides
        for point in found[frame.target.model, side.label, scaffold, question]
    )  # fmt: skip


def _check(models: Sequence["LoadedModel"], sides: Sequence["Side"], frames: Sequence[Frame]) -> None:
    got = {(s.label, m.identity.fingerprint) for s, m in zip(sides, models, strict=True)}
    for frame in frames:
        expected = {(v.model, v.fingerprint) for v in (frame.source, frame.target)}
        if got != expected:
            raise LabError(
                f"expected the models of the frame, {sorted(expected)}, got {sorted(got)}; read the models that "
                "the map was fitted on"
            )
        if frame.position != "reply_mean":
            raise LabError(
                f"expected a frame of landings over the reply (reply_mean), got one of {frame.position}; the mean "
                "of a reply's tokens is a landing in no other"
            )
    if len({f.target.model for f in frames}) < len(frames):
        raise LabError("expected one frame per target, got two of one target; read them one after the other")


def _read(
    model: "LoadedModel", side: "Side", frames: Sequence[Frame], scaffold: str
) -> dict[Key, tuple[PathPoint, ...]]:
    """The paths of one model under one scaffold."""
    from lab.reading import read

    jobs, measured = _group(side, scaffold)
    wanted = {q for frame in frames for q in frame.questions}
    rows = [k for k, job in enumerate(jobs) if job.paraphrase == 0 and job.question.id in wanted]
    missing = wanted - {jobs[k].question.id for k in rows}
    if missing:
        raise LabError(
            f"expected replies of {side.label} to the frame's questions, none to {sorted(missing)[:3]} under "
            f"{scaffold}; read the replies that the map was tested on"
        )
    chats = [_chat(model, jobs[k], measured.prompts[k]) for k in rows]
    acts = read(
        model, chats, [measured.replies[k].text for k in rows], directions=_directions(frames, side, scaffold)
    )
    found = {}
    for frame in frames:
        for i, k in enumerate(rows):
            question = jobs[k].question.id
            if question in frame.questions:
                at = _places(frame, side.label, scaffold, question, acts, i)
                if acts.replies[i].tokens != measured.replies[k].tokens:
                    at = np.full_like(at, np.nan)
                key = (frame.target.model, side.label, scaffold, question)
                found[key] = _points(key, acts.replies[i].tokens, at)
    return found


def _group(side: "Side", scaffold: str) -> tuple[Sequence[Job], Measured]:
    """The test replies of a model under one scaffold."""
    for jobs, measured in zip(side.landed.groups[1:], side.landed.measured[1:], strict=True):
        if jobs and jobs[0].condition == scaffold:
            return jobs, measured
    raise LabError(
        f"expected replies of {side.label} under {scaffold}, there are none; read the replies that the map was tested on"
    )


def _chat(model: "LoadedModel", job: Job, prompt: str) -> Rendered:
    from lab.prompts.chat import render

    system = [Message("system", job.system)] if job.system else []
    chat = render(model.tokenizer, [*system, Message("user", job.question.text)])
    if chat.text != prompt:
        raise LabError(
            f"expected the prompt that the reply was generated under, {prompt[:80]!r}, got {chat.text[:80]!r}; the "
            "chat template changed: remove the cache of replies and run again"
        )
    return chat


# ------------------------------------------------------------------ directions and places


def _directions(frames: Sequence[Frame], side: "Side", scaffold: str) -> list[Direction]:
    """Both directions of the model in each frame, at unit length."""
    found = []
    for frame in frames:
        view, along = frame.of(side.label), frame.along(side.label, scaffold)
        for k, column in enumerate(along.T):
            length = float(np.linalg.norm(column))
            unit = (column / (length or 1.0)).astype(np.float32)
            name = _name(frame, k)
            found.append(
                Direction(name, Site(view.layer), frame.position, unit, length, view.fingerprint, "select")
            )
    return found


def _name(frame: Frame, k: int) -> str:
    return f"axis {k} of {frame.target.model}"


def _places(
    frame: Frame, model: str, scaffold: str, question: str, acts: Activations, row: int
) -> Float[ndarray, "token 2"]:
    lengths = np.linalg.norm(frame.along(model, scaffold), axis=0)
    reply = acts.replies[row]
    projected = np.array([reply.projections[_name(frame, k)] for k in range(2)], np.float64).T * lengths
    return frame.place(model, scaffold, question, projected)


def _points(key: Key, tokens: Sequence[str], at: Float[ndarray, "token 2"]) -> tuple[PathPoint, ...]:
    rows = zip(tokens, at.tolist(), running_mean(at).tolist(), strict=True)
    return tuple(PathPoint(*key, k, token, *own, *mean) for k, (token, own, mean) in enumerate(rows))
