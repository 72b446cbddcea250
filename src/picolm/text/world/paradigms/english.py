"""The paradigms of the embedded English corpus."""

from __future__ import annotations

from collections.abc import Callable

from picolm.text.world.draw import Draw
from picolm.text.world.paradigms import agreement, dependencies, quantity, verbs
from picolm.text.world.paradigms.material import Material
from picolm.text.world.paradigms.paradigm import Band, Paradigm, Twins

_Build = Callable[[Material], Twins]


def _paradigms(
    phenomenon: str, field: str, *entries: tuple[str, _Build, str], misleads: tuple[str, ...] = ()
) -> list[Paradigm]:
    return [
        Paradigm(name, phenomenon, field, rule, _with_material(build), name in misleads)
        for name, build, rule in entries
    ]


def _with_material(build: _Build) -> Callable[[Draw, Band], Twins]:
    return lambda draw, band: build(Material(draw, band))


_ACROSS = "the verb agrees with the head of its subject, not with the noun before it"

ENGLISH: tuple[Paradigm, ...] = (
    *_paradigms(
        "subject_verb_agreement",
        "morphology",
        ("agreement_be", agreement.be, "`be` agrees with its subject in number"),
        ("agreement_have", agreement.have, "`have` agrees with its subject in number"),
        ("agreement_do", agreement.do, "`do` agrees with its subject in number"),
        ("agreement_lexical", agreement.lexical, "a verb in the present agrees with its subject in number"),
        ("agreement_person", agreement.person, "only a third person singular takes the verb with -s"),
        ("agreement_person_be", agreement.person_be, "`I` takes `am`; `you`, `we` and `they` take `are`"),
        ("agreement_question", agreement.in_question, "an auxiliary agrees with the subject behind it"),
        ("agreement_across_phrase", agreement.across_phrase, _ACROSS),
        ("agreement_be_across_phrase", agreement.be_across_phrase, _ACROSS),
        ("agreement_across_subject_relative", agreement.across_subject_relative, _ACROSS),
        ("agreement_across_object_relative", agreement.across_object_relative, _ACROSS),
        misleads=(
            "agreement_across_phrase",
            "agreement_be_across_phrase",
            "agreement_across_subject_relative",
            "agreement_across_object_relative",
        ),
    ),
    *_paradigms(
        "determiner_noun_agreement",
        "morphology",
        ("demonstrative", agreement.demonstrative, "`this` and `that` take a singular, `these` and `those` a plural"),
        ("demonstrative_adjective", agreement.demonstrative_adjective, "so they do with an adjective between"),
        ("demonstrative_noun", agreement.demonstrative_noun, "so they do where the noun is what differs"),
    ),
    *_paradigms(
        "anaphor_agreement",
        "morphology",
        ("reflexive_gender", agreement.reflexive_gender, "a reflexive has the gender of its subject"),
        ("reflexive_number", agreement.reflexive_number, "a reflexive has the number of its subject"),
        (
            "reflexive_across_phrase",
            agreement.reflexive_across_phrase,
            "a reflexive agrees with the head of its subject, not with the noun before the verb",
        ),
        misleads=("reflexive_across_phrase",),
    ),
    *_paradigms(
        "filler_gap",
        "syntax",
        ("question_gap", dependencies.question_gap, "with `what` in front the object is missing, else it stands"),
        ("embedded_gap", dependencies.embedded_gap, "behind `what` the object is missing, behind `that` it stands"),
        ("what_or_that", dependencies.what_or_that, "a clause with a gap takes `what`, one without takes `that`"),
        misleads=("what_or_that",),
    ),
    *_paradigms(
        "npi_licensing",
        "semantics",
        ("ever_or_already", dependencies.ever_or_already, "`ever` needs a negation in its clause, `already` shuns it"),
        ("no_scope", dependencies.no_scope, "a negation inside the subject's modifier does not count"),
        ("relative_scope", dependencies.relative_scope, "a negation inside a relative clause does not count"),
        ("any_scope", dependencies.any_scope, "`any` needs a negation before it"),
        misleads=("no_scope",),
    ),
    *_paradigms(
        "verb_frames",
        "syntax_semantics",
        ("object_or_none", verbs.object_or_none, "some verbs take an object, some take none"),
        ("animate_subject", verbs.animate_subject, "what acts is a person or an animal; what rusts is a thing"),
        ("object_kind", verbs.object_kind, "food is eaten, things are handled"),
        ("clause_or_object", verbs.clause_or_object, "verbs of saying take a clause, verbs of handling an object"),
    ),
    *_paradigms(
        "verb_forms",
        "morphology",
        ("past_or_participle", verbs.past_or_participle, "behind `have` stands the participle, alone the past"),
        ("third_or_base", verbs.third_or_base, "behind `do` stands the bare form, alone the one that agrees"),
        ("ing_or_base", verbs.ing_or_base, "behind `be` stands the form in -ing, behind `can` the bare form"),
    ),
    *_paradigms(
        "quantifiers",
        "semantics",
        ("every_or_all", quantity.every_or_all, "`every` and `each` take a singular, `all` a plural"),
        ("one_or_two", quantity.one_or_two, "`one` takes a singular, higher numbers a plural"),
        ("much_or_many", quantity.much_or_many, "`much` goes with what cannot be counted, `many` with what can"),
    ),
    *_paradigms(
        "inversion",
        "syntax",
        (
            "where_be",
            dependencies.where_be,
            "`be` comes before the subject of a question, behind that of a clause in it",
        ),
        ("what_do", dependencies.what_do, "`do` comes before the subject of a question"),
        ("yes_no", dependencies.yes_no, "`be` comes before the subject of a question, behind that of a statement"),
    ),
)
