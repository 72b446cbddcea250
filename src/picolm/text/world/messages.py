"""What is said, before any language says it: the typologies realise the same messages."""

from __future__ import annotations

from dataclasses import dataclass, replace

from picolm.text.world.draw import Draw

# How many concepts of each class there are; a concept is its rank.
ANIMATES, THINGS, PLACES = 48, 60, 20
INTRANSITIVES, TRANSITIVES, QUALITIES, RELATIONS = 28, 44, 24, 5


@dataclass(frozen=True, slots=True)
class Quality:
    """What something is like."""

    rank: int


@dataclass(frozen=True, slots=True)
class Entity:
    """Someone or something that a message is about.

    Attributes:
        kind: `animate`, `thing` or `place`.
        rank: which one.
        plural: whether there are several.
        quality: what it is like, if that is said.
        near: its relation to a place, if that is said.
        relative: what else it does, or what is done to it, if that is said.
    """

    kind: str
    rank: int
    plural: bool
    quality: Quality | None = None
    near: tuple[int, Entity] | None = None
    relative: Relative | None = None


@dataclass(frozen=True, slots=True)
class Relative:
    """A clause about an entity: it acts on `other`, or `other` acts on it."""

    verb: int
    other: Entity
    is_subject: bool


@dataclass(frozen=True, slots=True)
class Message:
    """Who does what, to whom, and when.

    Attributes:
        subject: always animate.
        verb: the rank of a verb, transitive where there is an object.
        object: who or what it is done to.
        past: whether it is over.
    """

    subject: Entity
    verb: int
    object: Entity | None
    past: bool


def messages(seed: int, index: int) -> tuple[Message, ...]:
    """Return what the document of this index says, in every typology."""
    draw = Draw.keyed(seed, "embedded:messages", index)
    # A document keeps to a few of those that act, so that they come again.
    cast = [draw.zipf(range(ANIMATES)) for _ in range(3)]
    return tuple(message(draw, cast) for _ in range(8 + draw.below(9)))


def message(draw: Draw, cast: list[int]) -> Message:
    """Draw one message; `cast` are the animates that a document returns to."""
    rank = draw.one_of(cast) if draw.chance(0.5) else draw.zipf(range(ANIMATES))
    subject = modified(draw, Entity("animate", rank, draw.chance(0.4)))
    if draw.chance(0.35):
        return Message(subject, draw.zipf(range(INTRANSITIVES)), None, draw.chance(0.5))
    target = modified(draw, entity(draw), depth=1)
    return Message(subject, draw.zipf(range(TRANSITIVES)), target, draw.chance(0.5))


def entity(draw: Draw) -> Entity:
    """Draw a bare entity."""
    kind = "animate" if draw.chance(0.4) else "thing"
    return Entity(kind, draw.zipf(range(ANIMATES if kind == "animate" else THINGS)), draw.chance(0.4))


def modified(draw: Draw, bare: Entity, depth: int = 0) -> Entity:
    """Say more of an entity, or not; `depth` 1: no clause."""
    pick = draw.uniform()
    if pick < 0.2:
        return replace(bare, quality=Quality(draw.zipf(range(QUALITIES))))
    if pick < 0.38:
        place = Entity("place", draw.zipf(range(PLACES)), draw.chance(0.5))
        return replace(bare, near=(draw.zipf(range(RELATIONS)), place))
    if pick < 0.5 and not depth:
        return replace(bare, relative=Relative(draw.zipf(range(TRANSITIVES)), entity(draw), True))
    if pick < 0.58 and not depth:
        other = Entity("animate", draw.zipf(range(ANIMATES)), draw.chance(0.5))
        return replace(bare, relative=Relative(draw.zipf(range(TRANSITIVES)), other, False))
    return bare
