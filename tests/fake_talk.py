"""A model that talks and a watcher that listens, without weights, for the pages Steer and Drift."""

import numpy as np

from lab.monitoring import TokenBand, follow, learn
from lab.pipelines.live import Spoken
from lab.pipelines.watcher import Seen, Watch, Watched
from lab.records import LabError, Reply

TRAITS = ("warmth", "intimacy")
ORDINARY = learn([np.random.default_rng(k).normal(size=6) for k in range(20)])
BANDS = tuple(TokenBand(m, 2.0, m - 4, m + 4, 500) for m in (1.0, -1.0))


def held(trait, series):
    """A series of one trait held against what is ordinary."""
    series = np.array(series, float)
    expected, sd = ORDINARY.expected(series)
    return Watched(
        trait, 2, series, expected, ORDINARY.reach * sd, follow(series, ORDINARY, 3.0), ORDINARY, 3.0
    )


class Listener:
    """Stands in for a watcher: a reply's value is its length, its tokens project on their own length."""

    def __init__(self):
        self.read_on = []

    def read(self, conversation, seen=None):
        self.read_on.append(len(conversation))
        return Seen(tuple(conversation), None)

    def report(self, seen):
        said = [m.content for m in seen.messages if m.role == "assistant"]
        lengths = [tuple(float(len(w)) for w in x.split()) for x in said]
        replies = tuple(
            Reply(x, tuple(f"{w} " for w in x.split()), dict.fromkeys(TRAITS, values))
            for x, values in zip(said, lengths, strict=True)
        )
        ratios = tuple(held(t, [len(x) for x in said]) for t in TRAITS)
        levels = tuple(held(t, [np.mean(v) for v in lengths]) for t in TRAITS)
        return Watch("a", ratios, levels, replies, 40, 1.0, BANDS)


class Parrot:
    """Stands in for a loaded model: says what it was pushed by, `times` over."""

    def __init__(self, name, times=1):
        self.name, self.times, self.learned = name, times, []
        self.gauges, self.watchers = dict.fromkeys(TRAITS), {}

    def say(self, messages, pushes, *, max_new_tokens, seed):
        if "be silent" in messages[-1].content and pushes.get("warmth"):
            raise LabError("the chat is too long")
        text = " ".join([f"{self.name} says warmth {pushes.get('warmth', 0):+.2f}"] * self.times)
        values = (0.1, 0.2, 0.3, 0.8) * self.times
        return Spoken(text, tuple(f"{w} " for w in text.split()), dict.fromkeys(TRAITS, values))

    def learn(self, system, store, progress):
        self.learned.append(system)
        self.watchers[system] = Listener()
