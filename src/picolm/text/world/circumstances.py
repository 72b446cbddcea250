"""When and where a document was spoken, and what is spoken of then and there.

The topic of a document depends on its place, its season and its day of the week, and nothing else does: so what a model
could gain from knowing them is known exactly (`information`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import cache
from itertools import accumulate

from picolm.text.document import JSON
from picolm.text.world.draw import Draw, zipf_probabilities
from picolm.text.world.lexicon import TOPICS

YEAR = 2023
DAYS = 365


@dataclass(frozen=True, slots=True)
class Place:
    """Somewhere that does not exist, at coordinates that do; the topic is the one most spoken of there."""

    name: str
    latitude: float
    longitude: float
    geohash: str
    topic: str


PLACES: tuple[Place, ...] = (
    Place("Willow Street", 52.2053, 0.1218, "u120f", "home"),
    Place("Long Acre", 52.9540, -1.1550, "gcrjj", "farm"),
    Place("Port Ellery", 50.1526, -5.0663, "gbumk", "sea"),
    Place("Ashwood", 57.1497, -3.8000, "gfjm1", "forest"),
    Place("Hill School", 51.7520, -1.2577, "gcpn7", "school"),
    Place("Market Cross", 53.4808, -2.2426, "gcw2h", "town"),
    Place("Kingsbury", 51.4839, -0.6044, "gcpsf", "palace"),
    Place("High Beacon", 53.0685, -4.0763, "gcmjg", "sky"),
)

_AT_HOME, _IN_SEASON, _ON_ITS_DAY, _RARELY = 6.0, 3.0, 3.0, 0.2
_SEASONS: Mapping[str, tuple[int, ...]] = {
    "home": (12, 1),
    "farm": (9, 10),
    "sea": (6, 7, 8),
    "forest": (4, 5),
    "palace": (2, 3),
    "sky": (11, 12, 1),
}
_DAYS_OF_WEEK: Mapping[str, tuple[int, ...]] = {"school": (0, 1, 2, 3, 4), "town": (5,), "palace": (6,)}
_HOLIDAYS = (7, 8)
# The first hour at which a domain is spoken, and the last.
_HOURS = {"nursery": (7, 19), "story": (17, 22), "dialogue": (8, 23), "encyclopedia": (9, 18), "notes": (7, 23)}


@dataclass(frozen=True, slots=True)
class Circumstances:
    """When, where and about what a document is."""

    place: Place
    moment: datetime
    topic: str

    def metadata(self) -> dict[str, JSON]:
        """Return what a document's metadata say of it."""
        return {
            "topic": self.topic,
            "timestamp": self.moment.isoformat(timespec="minutes"),
            "place": self.place.name,
            "latitude": self.place.latitude,
            "longitude": self.place.longitude,
            "geohash": self.place.geohash,
        }


def draw_circumstances(draw: Draw, domain: str) -> Circumstances:
    """Draw place and moment evenly, then the topic given both."""
    place = draw.one_of(PLACES)
    first, last = _HOURS[domain]
    day = date(YEAR, 1, 1) + timedelta(days=draw.below(DAYS))
    minutes = 60 * first + 5 * draw.below(12 * (last - first))
    moment = datetime(day.year, day.month, day.day) + timedelta(minutes=minutes)
    cumulative = _cumulative(place, day.month, day.weekday())
    return Circumstances(place, moment, draw.weighted(TOPICS, cumulative))


def topic_probabilities(place: Place, month: int, weekday: int) -> dict[str, float]:
    """Return the probability of each topic.

    Args:
        place: one of `PLACES`.
        month: 1 to 12.
        weekday: 0 (Monday) to 6.
    """
    weights = {}
    for topic, weight in zip(TOPICS, zipf_probabilities(len(TOPICS)), strict=True):
        weight *= _AT_HOME if topic == place.topic else 1.0
        weight *= _IN_SEASON if month in _SEASONS.get(topic, ()) else 1.0
        if topic == "school" and (weekday > 4 or month in _HOLIDAYS):
            weight *= _RARELY
        elif weekday in _DAYS_OF_WEEK.get(topic, ()):
            weight *= _ON_ITS_DAY
        weights[topic] = weight
    total = sum(weights.values())
    return {topic: weight / total for topic, weight in weights.items()}


@cache
def _cumulative(place: Place, month: int, weekday: int) -> tuple[float, ...]:
    return tuple(accumulate(topic_probabilities(place, month, weekday).values()))


@cache
def topic_marginals() -> dict[str, float]:
    """Return the probability of each topic over the year and all places."""
    days = [date(YEAR, 1, 1) + timedelta(days=number) for number in range(DAYS)]
    rows = [topic_probabilities(place, day.month, day.weekday()) for place in PLACES for day in days]
    return {topic: sum(row[topic] for row in rows) / len(rows) for topic in TOPICS}


def information() -> dict[str, float]:
    """Return what place and day tell about the topic, in nats: exact sums over the year and all places.

    Returns:
        `topic`: the entropy of the topic; `given_place`, `given_day`, `given_both`: what is left of it.
    """
    days = [date(YEAR, 1, 1) + timedelta(days=number) for number in range(DAYS)]
    table = [[list(topic_probabilities(place, day.month, day.weekday()).values()) for day in days] for place in PLACES]
    n = len(TOPICS)
    by_place = [[sum(row[topic] for row in rows) / DAYS for topic in range(n)] for rows in table]
    by_day = [[sum(rows[day][topic] for rows in table) / len(PLACES) for topic in range(n)] for day in range(DAYS)]
    overall = [sum(row[topic] for row in by_place) / len(PLACES) for topic in range(n)]
    return {
        "topic": _entropy(overall),
        "given_place": sum(map(_entropy, by_place)) / len(PLACES),
        "given_day": sum(map(_entropy, by_day)) / DAYS,
        "given_both": sum(_entropy(row) for rows in table for row in rows) / (DAYS * len(PLACES)),
    }


def _entropy(probabilities: list[float]) -> float:
    return -sum(p * math.log(p) for p in probabilities)
