"""Sentences of the embedded English corpus, production by production; the domains choose among them.

Each production takes the speaker of a document and returns one sentence, its tags and its final mark included. All that
minimal pairs ask for is in here: agreement across other nouns, gaps, polarity, frames, quantifiers, inversion.
"""

from __future__ import annotations

from picolm.text.world import lexicon
from picolm.text.world.lexicon import Noun
from picolm.text.world.phrases import Phrase, adverb, auxiliary, name, pronoun, verb_form, with_article
from picolm.text.world.speaker import Speaker
from picolm.text.world.words import Word, Words, sentence, words

EVER, ALREADY, NOT = words("ever/ADV"), words("already/ADV"), words("not/PART")
THAT, WHAT, WHERE = words("that/SCONJ"), words("what/PRON"), words("where/ADV")


def subject(speaker: Speaker) -> Phrase:
    """Choose what a sentence is about: mostly a noun phrase, now and then a pronoun."""
    if speaker.draw.chance(0.25) and not speaker.past:
        return speaker.speaking(1, 2, 3)
    return speaker.something("animal", "person", "thing", definite=0.75)


def agent(speaker: Speaker) -> Phrase:
    """Choose someone who can act."""
    if speaker.draw.chance(0.2) and not speaker.past:
        return speaker.speaking(1, 2)
    return speaker.something("animal", "person", definite=0.85)


def statement(speaker: Speaker) -> Words:
    """As in `The cow sleeps.`."""
    about = subject(speaker)
    return sentence(about.words, speaker.predicate(about))


def attracted(speaker: Speaker) -> Words:
    """As in `The cows near the barn sleep.`."""
    about = speaker.with_attractor(speaker.something("animal", "person", "thing", definite=0.9))
    return sentence(about.words, speaker.predicate(about))


def related(speaker: Speaker) -> Words:
    """As in `The cow that the dogs see sleeps.`."""
    about = speaker.with_relative(speaker.something("animal", "person", "thing", definite=0.9, adjective=0.1))
    return sentence(about.words, speaker.predicate(about))


def reflexive(speaker: Speaker) -> Words:
    """As in `The girl near the boys sees herself.`."""
    pick = speaker.draw.uniform()
    if pick < 0.5:
        about = _gendered_name(speaker)
    elif pick < 0.8:
        about = speaker.something("animal", "person", definite=0.9)
    else:
        about = speaker.with_attractor(speaker.something("animal", "person", definite=0.9))
    return sentence(about.words, about.form(speaker.verb("groom"), speaker.past), about.reflexive)


def _gendered_name(speaker: Speaker) -> Phrase:
    is_girl = speaker.draw.chance(0.5)
    return name(speaker.draw.zipf(lexicon.GIRLS if is_girl else lexicon.BOYS), "she" if is_girl else "he")


def reported(speaker: Speaker) -> Words:
    """As in `The farmer says that the cow sleeps.`."""
    who, about = agent(speaker), subject(speaker)
    verb = speaker.verb("say" if speaker.draw.chance(0.7) else "know")
    return sentence(who.words, who.form(verb, speaker.past), THAT, about.words, speaker.predicate(about))


def embedded_question(speaker: Speaker) -> Words:
    """As in `The farmer knows what the cow sees.`, `... where the cow is.`, `... that the cow sees the box.`."""
    who, about = agent(speaker), agent(speaker)
    opening = (*who.words, *who.form(speaker.verb("know"), speaker.past))
    pick = speaker.draw.uniform()
    if pick < 0.3:
        about = subject(speaker)
        return sentence(opening, WHERE, about.words, about.be(speaker.past))
    act = about.form(speaker.verb("handle"), speaker.past)
    if pick < 0.7:
        return sentence(opening, WHAT, about.words, act)
    return sentence(opening, THAT, about.words, act, _thing(speaker))


def _thing(speaker: Speaker) -> Words:
    """Choose something that is handled, now and then a pronoun for it."""
    if speaker.draw.chance(0.3):
        return pronoun(speaker.draw.one_of(("it", "them")))
    return speaker.something("thing").words


def where_question(speaker: Speaker) -> Words:
    """As in `Where is the cow?`."""
    about = subject(speaker)
    return sentence(WHERE, about.be(speaker.past), about.words, end="?")


def object_question(speaker: Speaker) -> Words:
    """As in `What does the cow like?`, and with its object in place `Does the cow like the box?`."""
    about, verb = agent(speaker), verb_form(speaker.verb("handle").base)
    do = about.do(speaker.past)
    if speaker.draw.chance(0.5):
        return sentence(WHAT, do, about.words, verb, end="?")
    return sentence(do, about.words, verb, _thing(speaker), end="?")


def subject_question(speaker: Speaker) -> Words:
    """As in `Who sees the box?`."""
    who = Phrase(pronoun("who"), False, "it", "person")
    return sentence(who.words, speaker.predicate(who), end="?")


def yes_no_question(speaker: Speaker) -> Words:
    """As in `Is the cow big?`, `Does the cow sleep?`, `Can the cow swim?`."""
    about = subject(speaker)
    pick = speaker.draw.uniform()
    if pick < 0.4:
        return sentence(about.be(speaker.past), about.words, speaker.adjective(about.kind), end="?")
    opening = about.do(speaker.past) if pick < 0.85 else words("can/AUX")
    verb, rest = speaker.doing(about)
    return sentence(opening, about.words, verb_form(verb.base), rest, end="?")


def polar_perfect(speaker: Speaker) -> Words:
    """As in `No cow has ever slept.` against `The cow has already slept.`: what stands where depends on negation."""
    pick = speaker.draw.uniform()
    plural = speaker.draw.chance(0.4)
    if pick < 0.36:
        about = speaker.phrase(speaker.noun("animal", "person"), plural=plural, determiner="no", adjective=0.1)
        about = speaker.with_attractor(about) if speaker.draw.chance(0.5) else about
        adverb_or_not: Words = EVER
    elif pick < 0.72:
        about = agent(speaker)
        about = _relative_perfect(speaker, about, negated=True) if speaker.draw.chance(0.4) else about
        if speaker.draw.chance(0.25):
            place = speaker.phrase(speaker.noun("place", "thing"), plural=plural, determiner="no", adjective=0.0)
            about = about.then(speaker.preposition(), place.words)
        adverb_or_not = ALREADY
    else:
        about = agent(speaker)
        about = _relative_perfect(speaker, about, negated=False) if speaker.draw.chance(0.4) else about
        adverb_or_not = (*NOT, *EVER)
    verb, rest = speaker.doing(about)
    return sentence(about.words, about.have(speaker.past), adverb_or_not, verb_form(verb.participle), rest)


def _relative_perfect(speaker: Speaker, head: Phrase, negated: bool) -> Phrase:
    """`the cow that has not slept`, `the cow that the dogs have seen`."""
    if head.person != 3:
        return head
    if speaker.draw.chance(0.5):
        verb, rest = speaker.doing(head)
        has: Words = (*head.have(speaker.past), *(NOT if negated else ()))
        return head.then(pronoun("that"), has, verb_form(verb.participle), rest)
    other = speaker.something("person", "animal", definite=1.0, adjective=0.0)
    has = (*other.have(speaker.past), *(NOT if negated else ()))
    return head.then(pronoun("that"), other.words, has, verb_form(speaker.verb_for(head.kind).participle))


def polar_question(speaker: Speaker) -> Words:
    """As in `Has the cow ever slept?`."""
    about = agent(speaker)
    verb, rest = speaker.doing(about)
    return sentence(about.have(speaker.past), about.words, EVER, verb_form(verb.participle), rest, end="?")


def polar_object(speaker: Speaker) -> Words:
    """As in `No cow sees any boxes.`, `Does the cow see any boxes?`, `The cow sees some boxes.`."""
    plural, pick = speaker.draw.chance(0.6), speaker.draw.uniform()
    verb, things = speaker.verb("handle"), speaker.noun("thing")

    def thing(determiner: str) -> Words:
        return speaker.phrase(things, plural=plural, determiner=determiner, adjective=0.1).words

    if pick < 0.4:
        noun = speaker.noun("animal", "person")
        about = speaker.phrase(noun, plural=speaker.draw.chance(0.4), determiner="no", adjective=0.1)
        return sentence(about.words, about.form(verb, speaker.past), thing("any"))
    about = agent(speaker)
    if pick < 0.55:
        return sentence(about.do(speaker.past), about.words, verb_form(verb.base), thing("any"), end="?")
    if pick < 0.75:
        return sentence(about.words, about.do(speaker.past), NOT, verb_form(verb.base), thing("any"))
    determiner = "no" if pick < 0.9 else "some" if plural else "the"
    return sentence(about.words, about.form(verb, speaker.past), thing(determiner))


def quantified(speaker: Speaker) -> Words:
    """As in `Every cow sleeps.`, `All cows sleep.`, `One cow sleeps.`, `Two cows sleep.`."""
    plural, noun = speaker.draw.chance(0.5), speaker.noun("animal", "person", "thing")
    number = speaker.draw.zipf(lexicon.NUMBERS)
    quantities = ("all", "all", "most", "few", number, number) if plural else ("every", "each", "one", "one")
    about = speaker.phrase(noun, plural=plural, determiner=speaker.draw.one_of(quantities), adjective=0.1)
    return sentence(about.words, speaker.predicate(about))


def measured(speaker: Speaker) -> Words:
    """As in `The farmer needs much water.`, `There are many boxes near the barn.`."""
    if speaker.draw.chance(0.5):
        determiner = speaker.draw.one_of(("much", "much", "some"))
        measured = speaker.phrase(speaker.draw.zipf(lexicon.STUFF), determiner=determiner, adjective=0.0)
    else:
        determiner = speaker.draw.one_of(("many", "many", "some"))
        measured = speaker.phrase(speaker.noun("thing"), plural=True, determiner=determiner, adjective=0.0)
    if speaker.draw.chance(0.5):
        return _there(speaker, measured)
    who = agent(speaker)
    verb = speaker.draw.one_of(_TAKING)
    return sentence(who.words, who.form(verb, speaker.past), measured.words)


_TAKING = tuple(
    verb for verb in lexicon.VERBS["handle"] if verb.base in ("see", "find", "want", "need", "carry", "bring")
)


def existential(speaker: Speaker) -> Words:
    """As in `There is a cow near the barn.`."""
    about = speaker.something("animal", "thing", "person", definite=0.0)
    return _there(speaker, about)


def _there(speaker: Speaker, about: Phrase) -> Words:
    # Here, and only here, `be` is no auxiliary: so universal dependencies have it.
    be = verb_form(about.be(speaker.past)[0].text)
    return sentence(words("there/PRON"), be, about.words, speaker.place())


def given(speaker: Speaker) -> Words:
    """As in `The farmer gives the girl a box.`."""
    who, to = agent(speaker), speaker.something("person", definite=1.0)
    gives = verb_form("gave" if speaker.past else "gives" if who.is_third_singular else "give")
    return sentence(who.words, gives, to.words, speaker.something("thing", definite=0.3).words)


def joined(speaker: Speaker) -> Words:
    """As in `The cow sleeps because the dogs wait.`."""
    about, other = subject(speaker), subject(speaker)
    link = speaker.draw.one_of(("because/SCONJ", ",/PUNCT but/CCONJ", ",/PUNCT so/CCONJ", "when/SCONJ"))
    return sentence(about.words, speaker.predicate(about), words(link), other.words, speaker.predicate(other))


def conceded(speaker: Speaker) -> Words:
    """As in `Although the cow is small, the dogs near the barn see it.`."""
    about = speaker.something("animal", "person", definite=1.0, adjective=0.0)
    other = speaker.with_attractor(speaker.something("animal", "person", definite=1.0))
    opening = (*words("although/SCONJ"), *about.words, *speaker.predicate(about), *words(",/PUNCT"))
    return sentence(opening, other.words, other.form(speaker.verb_for(about.kind), speaker.past), about.object)


def told_twice(speaker: Speaker) -> Words:
    """`The cow slept, and it dreamed again.`: the pronoun agrees with what it stands for."""
    about = speaker.something("animal", "person", definite=1.0)
    about = _gendered_name(speaker) if speaker.draw.chance(0.6) else about
    again = about.as_pronoun()
    link = words(",/PUNCT and/CCONJ")
    manner = adverb(speaker.draw.zipf(lexicon.ADVERBS)) if speaker.draw.chance(0.3) else ()
    return sentence(about.words, speaker.predicate(about), link, again.words, speaker.predicate(again), manner)


def naming(noun: Noun, plural: bool) -> Words:
    """As in `This is a cow.`, `These are cows.`."""
    if plural:
        return sentence(words("these/PRON"), auxiliary("are"), (Word(noun.plural, "NOUN"),))
    return sentence(words("this/PRON"), auxiliary("is"), with_article((Word(noun.singular, "NOUN"),)))
