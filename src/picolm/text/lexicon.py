"""The words of the embedded English corpus: classes, inflection, topics. Within a class, the commonest comes first.

A noun belongs to one topic, so that a document about the farm speaks of other things than one about the sea.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["person", "animal", "thing", "food", "place"]
Gender = Literal["she", "he", "it"]

# `word:f` and `word:m` mark people whose gender the word gives; `word/plural` an irregular plural.
_NOUNS: dict[str, dict[Kind, str]] = {
    "home": {
        "person": "mother:f father:m sister:f brother:m baby grandmother:f grandfather:m aunt:f uncle:m cousin",
        "animal": "cat dog mouse/mice kitten puppy hamster goldfish/goldfish parrot",
        "thing": "box chair table lamp cup book key blanket clock toy pillow candle mirror carpet shelf/shelves",
        "food": "soup roll apple cookie pancake sandwich dumpling biscuit",
        "place": "house room kitchen door garden roof attic cellar balcony",
    },
    "farm": {
        "person": "farmer shepherd milkmaid:f stableboy:m neighbor",
        "animal": "cow horse pig hen sheep/sheep goat duck goose/geese donkey rooster calf/calves turkey",
        "thing": "fence wagon bucket tractor rope basket ladder shovel plow wheelbarrow",
        "food": "egg carrot potato/potatoes turnip pumpkin cabbage radish/radishes",
        "place": "barn field farm meadow stable orchard well haystack",
    },
    "sea": {
        "person": "fisherman/fishermen:m sailor captain pirate diver",
        "animal": "fish/fish whale seal crab gull dolphin turtle octopus/octopuses shark jellyfish/jellyfish lobster",
        "thing": "boat net shell sail anchor rope raft lantern oar compass/compasses",
        "food": "shrimp/shrimp herring/herring biscuit lemon coconut",
        "place": "beach island harbor ship wave cliff lighthouse reef",
    },
    "forest": {
        "person": "hunter woodcutter witch/witches:f traveler ranger hermit:m",
        "animal": "bear wolf/wolves fox/foxes owl rabbit deer/deer squirrel hedgehog snake badger beaver woodpecker",
        "thing": "tree leaf/leaves stick nest log flower trap tent branch/branches acorn",
        "food": "berry nut mushroom plum pear chestnut",
        "place": "forest hill cave river path lake cabin clearing ravine",
    },
    "school": {
        "person": "teacher girl:f boy:m child/children student friend nurse janitor librarian",
        "animal": "hamster rabbit frog snail beetle caterpillar",
        "thing": "book pencil ball map desk bag ruler drum flag poster notebook globe eraser telescope",
        "food": "apple cake banana cracker sandwich cherry",
        "place": "school classroom library playground hall corridor laboratory",
    },
    "town": {
        "person": "man/men:m woman/women:f policeman/policemen:m baker mayor doctor driver painter tailor lawyer",
        "animal": "dog cat pigeon horse sparrow rat",
        "thing": "car bus/buses bicycle lamp letter coin umbrella hat bell wheel newspaper statue suitcase",
        "food": "cake pie sausage bun pretzel peach/peaches",
        "place": "street shop market bridge church/churches station park tower museum bakery",
    },
    "palace": {
        "person": "king:m queen:f princess/princesses:f prince:m knight wizard:m servant cook jester",
        "animal": "dragon horse swan peacock falcon unicorn",
        "thing": "crown ring sword castle cloak mirror throne harp goblet scepter",
        "food": "roast tart grape honeycomb fig",
        "place": "palace tower garden hall gate dungeon courtyard",
    },
    "sky": {
        "person": "pilot astronaut scientist engineer inventor",
        "animal": "bird eagle butterfly bee bat swallow dragonfly crane",
        "thing": "star cloud plane kite balloon rocket planet telescope comet satellite",
        "food": "orange sandwich apple raisin",
        "place": "mountain airport moon valley tower desert observatory",
    },
}

_VERBS: dict[str, str] = {
    # What a person or an animal does alone.
    "act": "run/ran sleep/slept walk jump play sit/sat stand/stood wait sing/sang fall/fell hide/hid swim/swam dance "
    "laugh rest dream climb wander shiver tremble hurry/hurried whistle snore yawn stumble",
    # What it does with a thing.
    "handle": "see/saw find/found take/took like want hold/held carry/carried bring/brought lose/lost drop move "
    "push pull touch lift need watch hide/hid paint mend polish guard admire borrow inspect",
    # What it does with someone.
    "meet": "see/saw help love follow find/found know/knew call watch meet/met chase hug trust visit greet warn fear "
    "comfort rescue annoy startle praise",
    # What it does with food.
    "eat": "eat/ate want like find/found taste share cook buy/bought smell peel chew steal/stole swallow devour",
    # What a thing does.
    "happen": "fall/fell move break/broke shine/shone stop roll disappear vanish tremble glitter rattle creak",
    # What one says.
    "say": "say/said think/thought know/knew believe whisper shout hope remember explain declare murmur",
}

_ADJECTIVES: dict[str, str] = {
    "look": "big little red old small new blue white long black green round brown yellow tall gray huge tiny pretty "
    "purple heavy golden narrow wooden silver enormous crooked dusty slender",
    "mind": "happy good sad hungry tired kind angry brave afraid clever proud quiet busy lonely gentle curious shy "
    "clumsy cheerful stubborn patient grumpy nervous",
    "taste": "good sweet warm fresh cold hot sour ripe delicious bitter salty juicy crisp tasteless",
}


def _words(words: str) -> tuple[str, ...]:
    return tuple(words.split())


GIRLS = _words("Anna Mary Lily Emma Rose Lucy Sara Nora Ella Ruth Clara Ivy Alice Hazel Maya Edith Olive Freya Agnes")
BOYS = _words(
    "Tom Ben Jack Sam Peter Max Leo Henry Oscar Hugo Adam Felix Simon Arthur Edgar Rupert Walter Silas Magnus"
)
ADVERBS = _words("slowly quickly again happily quietly often always together carefully suddenly gladly loudly")
PREPOSITIONS = _words("in near behind beside under above")
NUMBERS = _words("two three four five six seven eight nine ten twelve twenty")


@dataclass(frozen=True, slots=True)
class Noun:
    """A countable noun; `gender` is None for people who may be a woman or a man."""

    singular: str
    plural: str
    kind: Kind
    gender: Gender | None


@dataclass(frozen=True, slots=True)
class Verb:
    """A verb with the forms that simple English needs."""

    base: str
    third: str
    past: str


def _with_s(word: str) -> str:
    if word.endswith(("s", "x", "z", "ch", "sh")):
        return word + "es"
    if word.endswith("y") and word[-2] not in "aeiou":
        return word[:-1] + "ies"
    return word + "s"


def _past(base: str) -> str:
    if base.endswith("e"):
        return base + "d"
    if len(base) <= 4 and base[-1] in "bdgmnpt" and base[-2] in "aeiou" and base[-3] not in "aeiou":
        return base + base[-1] + "ed"
    return base + "ed"


def _noun(entry: str, kind: Kind) -> Noun:
    word, _, mark = entry.partition(":")
    singular, _, plural = word.partition("/")
    gender: Gender | None = {"f": "she", "m": "he"}.get(mark) if kind == "person" else "it"  # type: ignore[assignment]
    return Noun(singular, plural or _with_s(singular), kind, gender)


def _verb(entry: str) -> Verb:
    base, _, past = entry.partition("/")
    return Verb(base, _with_s(base), past or _past(base))


NOUNS: dict[str, dict[Kind, tuple[Noun, ...]]] = {
    topic: {kind: tuple(_noun(entry, kind) for entry in words.split()) for kind, words in kinds.items()}
    for topic, kinds in _NOUNS.items()
}
TOPICS: tuple[str, ...] = tuple(NOUNS)
VERBS: dict[str, tuple[Verb, ...]] = {
    name: tuple(_verb(entry) for entry in words.split()) for name, words in _VERBS.items()
}
ADJECTIVES: dict[str, tuple[str, ...]] = {name: _words(words) for name, words in _ADJECTIVES.items()}


def with_article(phrase: str) -> str:
    """Put the right one of `a` and `an` before a phrase."""
    vowel = phrase[0] in "aeiou" and not phrase.startswith("uni")
    return f"{'an' if vowel else 'a'} {phrase}"
