import math
from collections import Counter, defaultdict
from datetime import datetime

from picolm.text.document import Document
from picolm.text.world import lexicon
from picolm.text.world.circumstances import PLACES, information, topic_marginals, topic_probabilities

_LETTERS = "0123456789bcdefghjkmnpqrstuvwxyz"


def geohash(latitude: float, longitude: float, length: int) -> str:
    """Interleave the bits of both as integers, rather than by bisection."""
    bits = 5 * length
    longitudes = int((longitude + 180) / 360 * 2 ** ((bits + 1) // 2))
    latitudes = int((latitude + 90) / 180 * 2 ** (bits // 2))
    code = 0
    for place in range(bits):
        source, shift = (longitudes, (bits + 1) // 2) if place % 2 == 0 else (latitudes, bits // 2)
        code = code << 1 | source >> (shift - 1 - place // 2) & 1
    return "".join(_LETTERS[code >> 5 * (length - 1 - i) & 31] for i in range(length))


def test_geohashes_are_those_of_the_coordinates() -> None:
    assert geohash(57.64911, 10.40744, 11) == "u4pruydqqvj"
    assert [place.geohash for place in PLACES] == [geohash(place.latitude, place.longitude, 5) for place in PLACES]
    assert len({place.geohash for place in PLACES}) == len(lexicon.TOPICS)


def test_topics_follow_their_place_and_their_day(corpus: list[Document]) -> None:
    expected: Counter[tuple[object, str]] = Counter()
    found: Counter[tuple[object, object]] = Counter()
    by_name = {place.name: place for place in PLACES}
    for document in corpus:
        moment = datetime.fromisoformat(str(document.metadata["timestamp"]))
        place = by_name[str(document.metadata["place"])]
        keys = (place.name, moment.month, f"day {moment.weekday()}")
        for topic, probability in topic_probabilities(place, moment.month, moment.weekday()).items():
            for key in keys:
                expected[key, topic] += probability
        for key in keys:
            found[key, document.metadata["topic"]] += 1
    # Sums of independent draws: four standard deviations, of which about one in 16,000 lies beyond.
    assert len(expected) == (8 + 12 + 7) * 8
    assert all(abs(found[key] - mean) < 4.5 * math.sqrt(mean) + 1 for key, mean in expected.items())
    assert found["Port Ellery", "sea"] > 3 * found["Willow Street", "sea"]
    assert found["day 0", "school"] > 4 * found["day 6", "school"]


def test_information_is_that_of_a_count_over_the_year() -> None:
    known = information()
    assert known["given_both"] < known["given_place"] < known["given_day"] < known["topic"]
    assert math.isclose(known["topic"], -sum(p * math.log(p) for p in topic_marginals().values()))
    days: dict[tuple[int, int], int] = defaultdict(int)
    for number in range(365):
        day = datetime.fromordinal(datetime(2023, 1, 1).toordinal() + number)
        days[day.month, day.weekday()] += 1
    brute = 0.0
    for place in PLACES:
        for (month, weekday), count in days.items():
            for p in topic_probabilities(place, month, weekday).values():
                brute -= count / 365 / len(PLACES) * p * math.log(p)
    assert math.isclose(known["given_both"], brute)


def test_a_document_keeps_to_its_topic(corpus: list[Document]) -> None:
    shares: Counter[bool] = Counter()
    every = {noun.singular for kinds in lexicon.NOUNS.values() for nouns in kinds.values() for noun in nouns}
    for document in corpus:
        mine = {noun.singular for nouns in lexicon.NOUNS[str(document.metadata["topic"])].values() for noun in nouns}
        for start, stop, _ in document.tags:
            if document.text[start:stop] in every:
                shares[document.text[start:stop] in mine] += 1
    assert shares[True] > 2.5 * shares[False]
