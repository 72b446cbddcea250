"""The words of the embedded English corpus: classes, inflection, topics. Within a class, the commonest comes first.

A noun belongs to one topic or a few, so that a document about the farm speaks of other things than one about the sea.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["person", "animal", "thing", "food", "place", "stuff"]
Gender = Literal["she", "he", "it"]
VerbClass = Literal["act", "handle", "meet", "eat", "happen", "say", "know", "groom"]

# `word:f` and `word:m` mark people whose gender the word gives; `word/plural` an irregular plural.
_NOUNS: dict[str, dict[Kind, str]] = {
    "home": {
        "person": "mother:f father:m sister:f brother:m baby grandmother:f grandfather:m aunt:f uncle:m cousin "
        "niece:f nephew:m",
        "animal": "cat dog mouse/mice kitten puppy hamster goldfish/goldfish parrot",
        "thing": "box chair table lamp cup book key blanket clock toy pillow candle mirror carpet shelf/shelves",
        "food": "cookie apple roll pancake sandwich dumpling biscuit",
        "place": "house room kitchen door garden roof attic cellar balcony",
    },
    "farm": {
        "person": "farmer shepherd milkmaid:f stableboy:m neighbor",
        "animal": "cow horse pig hen goat duck goose/geese donkey rooster calf/calves turkey",
        "thing": "fence wagon bucket tractor rope basket ladder shovel plow wheelbarrow",
        "food": "egg carrot potato/potatoes turnip pumpkin cabbage radish/radishes",
        "place": "barn field farm meadow stable orchard well haystack",
    },
    "sea": {
        "person": "fisherman/fishermen:m sailor captain pirate diver mermaid:f",
        "animal": "whale seal crab gull dolphin turtle octopus/octopuses shark jellyfish/jellyfish lobster",
        "thing": "boat net shell sail anchor rope raft lantern oar compass/compasses",
        "food": "lemon coconut biscuit oyster shrimp/shrimp",
        "place": "beach island harbor ship wave cliff lighthouse reef",
    },
    "forest": {
        "person": "hunter woodcutter witch/witches:f traveler ranger hermit:m",
        "animal": "bear wolf/wolves fox/foxes owl rabbit squirrel hedgehog snake badger beaver woodpecker",
        "thing": "tree leaf/leaves stick nest log flower trap tent branch/branches acorn",
        "food": "berry nut mushroom plum pear chestnut",
        "place": "forest hill cave river path lake cabin clearing ravine",
    },
    "school": {
        "person": "teacher girl:f boy:m student friend child/children nurse janitor librarian governess:f",
        "animal": "rabbit frog hamster snail beetle caterpillar",
        "thing": "book pencil ball map desk bag ruler drum flag poster notebook globe eraser telescope",
        "food": "apple cake banana cracker sandwich cherry",
        "place": "school classroom library playground hall corridor laboratory",
    },
    "town": {
        "person": "man/men:m woman/women:f policeman/policemen:m baker mayor doctor driver painter tailor lawyer "
        "seamstress:f waiter:m",
        "animal": "dog cat pigeon horse sparrow rat",
        "thing": "car bus/buses bicycle lamp letter coin umbrella hat bell wheel newspaper statue suitcase",
        "food": "cake pie sausage bun pretzel peach/peaches",
        "place": "street shop market bridge church/churches station park tower museum bakery",
    },
    "palace": {
        "person": "king:m queen:f princess/princesses:f prince:m knight wizard:m servant jester duchess:f duke:m",
        "animal": "dragon horse swan peacock falcon unicorn",
        "thing": "crown ring sword castle cloak mirror throne harp goblet scepter",
        "food": "tart grape roast honeycomb fig",
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

# What has no plural, and belongs to no topic.
_STUFF = "water milk bread sand snow honey butter rice wool sugar salt flour mud gold"

# `base/past/participle`; the participle is the past unless it is given.
_VERBS: dict[VerbClass, str] = {
    # What a person or an animal does alone.
    "act": "run/ran/run sleep/slept walk jump play sit/sat stand/stood wait sing/sang/sung fall/fell/fallen dance "
    "laugh swim/swam/swum hide/hid/hidden rest wake/woke/woken dream speak/spoke/spoken climb wander shiver tremble "
    "hurry whistle snore yawn stumble kneel/knelt",
    # What it does with a thing.
    "handle": "see/saw/seen find/found take/took/taken like want hold/held carry bring/brought lose/lost drop "
    "throw/threw/thrown push lift need draw/drew/drawn choose/chose/chosen hide/hid/hidden break/broke/broken paint "
    "mend polish guard admire borrow inspect",
    # What it does with someone.
    "meet": "see/saw/seen help love follow find/found know/knew/known call watch meet/met chase hug trust visit "
    "forget/forgot/forgotten greet warn fear comfort rescue annoy startle praise",
    # What it does with food.
    "eat": "eat/ate/eaten want like find/found taste share cook buy/bought smell peel bite/bit/bitten "
    "steal/stole/stolen swallow devour",
    # What a thing does.
    "happen": "fall/fell/fallen break/broke/broken shine/shone stop roll disappear rust rattle creak crumble glitter "
    "wobble leak",
    # What one says or holds for true; `that` follows.
    "say": "say/said think/thought hope believe shout whisper declare murmur",
    # `that`, `what` or `where` follows.
    "know": "know/knew/known remember learn forget/forgot/forgotten guess notice",
    # What one does with oneself.
    "groom": "see/saw/seen hurt/hurt wash like help dress watch admire praise scratch blame comfort",
}

_ADJECTIVES: dict[str, str] = {
    "look": "big little red old small new blue white long black green round brown yellow tall gray huge tiny pretty "
    "purple heavy golden narrow wooden silver enormous crooked dusty slender",
    "mind": "happy good sad hungry tired kind angry brave afraid clever proud quiet busy lonely gentle curious shy "
    "clumsy cheerful stubborn patient grumpy nervous",
    "taste": "good sweet warm fresh cold hot sour ripe delicious bitter salty juicy crisp tasteless",
}


@dataclass(frozen=True, slots=True)
class Noun:
    """A noun; `gender` is None for people who may be a woman or a man."""

    singular: str
    plural: str
    kind: Kind
    gender: Gender | None


@dataclass(frozen=True, slots=True)
class Verb:
    """A verb with all its forms."""

    base: str
    third: str
    past: str
    participle: str
    ing: str


def _with_s(word: str) -> str:
    if word.endswith(("s", "x", "z", "ch", "sh")):
        return word + "es"
    if word.endswith("y") and word[-2] not in "aeiou":
        return word[:-1] + "ies"
    return word + "s"


def _doubles(base: str) -> bool:
    is_short = len(base) <= 4 and base[-1] in "bdgmnpt"
    return is_short and base[-2] in "aeiou" and base[-3] not in "aeiou"


def _past(base: str) -> str:
    if base.endswith("e"):
        return base + "d"
    if base.endswith("y") and base[-2] not in "aeiou":
        return base[:-1] + "ied"
    return base + (base[-1] if _doubles(base) else "") + "ed"


def _ing(base: str) -> str:
    if base.endswith("e") and not base.endswith("ee"):
        return base[:-1] + "ing"
    return base + (base[-1] if _doubles(base) or base == "forget" else "") + "ing"


def _noun(entry: str, kind: Kind) -> Noun:
    word, _, mark = entry.partition(":")
    singular, _, plural = word.partition("/")
    genders: dict[str, Gender] = {"f": "she", "m": "he"}
    return Noun(singular, plural or _with_s(singular), kind, genders.get(mark) if kind == "person" else "it")


def _verb(entry: str) -> Verb:
    base, *irregular = entry.split("/")
    past = irregular[0] if irregular else _past(base)
    return Verb(base, _with_s(base), past, irregular[-1] if irregular else past, _ing(base))


NOUNS: dict[str, dict[Kind, tuple[Noun, ...]]] = {
    topic: {kind: tuple(_noun(entry, kind) for entry in nouns.split()) for kind, nouns in kinds.items()}
    for topic, kinds in _NOUNS.items()
}
STUFF: tuple[Noun, ...] = tuple(Noun(word, word, "stuff", "it") for word in _STUFF.split())
TOPICS: tuple[str, ...] = tuple(NOUNS)
VERBS: dict[VerbClass, tuple[Verb, ...]] = {
    name: tuple(_verb(entry) for entry in verbs.split()) for name, verbs in _VERBS.items()
}
ADJECTIVES: dict[str, tuple[str, ...]] = {name: tuple(adjectives.split()) for name, adjectives in _ADJECTIVES.items()}


def _several(entries: str) -> tuple[str, ...]:
    return tuple(entries.split())


GIRLS = _several("Anna Mary Lily Emma Rose Lucy Sara Nora Ella Ruth Clara Ivy Alice Hazel Maya Edith Olive Freya")
BOYS = _several("Tom Ben Jack Sam Peter Max Leo Henry Oscar Hugo Adam Felix Simon Arthur Edgar Rupert Walter Silas")
ADVERBS = _several("slowly quickly again happily quietly often always together carefully suddenly gladly loudly")
PREPOSITIONS = _several("in near behind beside under above")
NUMBERS = _several("two three four five six seven eight nine ten twelve twenty")


def only(name: VerbClass) -> tuple[Verb, ...]:
    """Return the verbs of a class that are in no other: their frame is certain.

    Left out are also those that English, though not this corpus, lets stand with or without an object.
    """
    others = {verb.base for other, verbs in VERBS.items() if other != name for verb in verbs}
    return tuple(verb for verb in VERBS[name] if verb.base not in others | _LABILE)


_LABILE = frozenset(
    _several(
        "call watch follow drop push paint draw taste share cook smell steal swallow bite "
        "walk jump play sing dance dream climb whistle"
    )
)
