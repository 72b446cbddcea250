import math
import statistics
from collections import Counter

import pytest

from picolm.text.world.draw import Draw
from picolm.text.world.pcfg import END, GRAMMAR, Grammar, floor, log_probability
from picolm.text.world.pcfg import document as make


def derivations(grammar: Grammar, least: float) -> list[tuple[float, tuple[str, ...]]]:
    """Write out every leftmost derivation that is at least this likely."""
    done, open_ = [], [(1.0, (), (grammar.start,))]
    while open_:
        p, made, todo = open_.pop()
        if not todo:
            done.append((p, made))
        elif todo[0] not in grammar.rules:
            open_.append((p, (*made, todo[0]), todo[1:]))
        else:
            for q, body in grammar.rules[todo[0]]:
                if p * q >= least:
                    open_.append((p * q, made, (*body, *todo[1:])))
    return done


FINITE = Grammar(
    {
        "S": [(0.25, ("A", "x", "A")), (0.75, ("B",))],
        "A": [(0.5, ("a",)), (0.3, ("b",)), (0.2, ("c", "B"))],
        "B": [(0.9, ("d",)), (0.1, ("e", "e"))],
    },
    "S",
)
AMBIGUOUS = Grammar({"S": [(0.5, ("A", "A")), (0.5, ("a", "a"))], "A": [(0.6, ("a",)), (0.4, ("b",))]}, "S")


def test_the_closed_form_is_the_sum_over_all_sentences() -> None:
    every = derivations(FINITE, 0.0)
    assert math.isclose(sum(p for p, _ in every), 1.0)
    assert len({words for _, words in every}) == len(every) == 18
    assert math.isclose(FINITE.entropy(), -sum(p * math.log(p) for p, _ in every))
    assert math.isclose(FINITE.expected(len), sum(p * len("".join(words)) for p, words in every))
    for p, words in every:
        assert math.isclose(FINITE.log_probability(words), math.log(p))


def test_derivations_of_one_sentence_add_up() -> None:
    assert math.isclose(AMBIGUOUS.log_probability(["a", "a"]), math.log(0.5 + 0.5 * 0.36))
    assert AMBIGUOUS.log_probability(["a"]) == AMBIGUOUS.log_probability(["a", "x"]) == -math.inf


@pytest.fixture(scope="module")
def collapsed() -> Grammar:
    """The grammar of the corpus with one word in each class: its structure alone, which can be written out."""
    rules = {symbol: list(some) for symbol, some in GRAMMAR.rules.items()}
    for symbol, some in rules.items():
        if all(len(body) == 1 and body[0] not in rules for _, body in some):
            rules[symbol] = [(1.0, (f"<{symbol}>",))]
    return Grammar(rules, "S")


def test_every_sentence_of_the_corpus_has_one_derivation(collapsed: Grammar) -> None:
    found = derivations(collapsed, 1e-6)
    assert len(found) > 5000
    assert len({words for _, words in found}) == len(found)
    for p, words in found[::50]:
        assert math.isclose(collapsed.log_probability(words), math.log(p))


def test_the_closed_form_is_the_limit_of_what_can_be_written_out(collapsed: Grammar) -> None:
    found = derivations(collapsed, 1e-6)
    mass = sum(p for p, _ in found)
    part = -sum(p * math.log(p) for p, _ in found)
    # What is missing is less likely than a millionth each, and not much less: between 14 and 30 nats.
    assert 0.97 < mass < 1.0
    assert part + (1 - mass) * 13.8 < collapsed.entropy() < part + (1 - mass) * 30


def test_words_are_drawn_as_often_as_the_rules_say() -> None:
    draw = Draw.keyed(0, "test")
    counts = Counter(" ".join(word for word, _ in FINITE.sample(draw)) for _ in range(20_000))
    for p, words in derivations(FINITE, 0.0):
        assert abs(counts[" ".join(words)] - 20_000 * p) < 4.5 * math.sqrt(20_000 * p * (1 - p)), words


def test_the_floor_is_the_mean_loss_of_who_knows_the_grammar() -> None:
    documents = [make(0, index) for index in range(600)]
    for name, values in {
        "nats_per_document": [-log_probability(document.text) for document in documents],
        "words_per_document": [len(document.tags) for document in documents],
        "bytes_per_document": [len(document.text) for document in documents],
    }.items():
        error = statistics.stdev(values) / math.sqrt(len(values))
        assert abs(statistics.mean(values) - floor()[name]) < 3.5 * error, name
    assert math.isclose(
        floor()["bits_per_byte"] * floor()["bytes_per_document"] * math.log(2), floor()["nats_per_document"]
    )


def test_a_document_that_the_grammar_cannot_make_is_impossible() -> None:
    text = "the dog near the cats sleeps."
    assert math.isfinite(log_probability(text))
    assert log_probability("the dog near the cats sleep.") == -math.inf
    assert math.isclose(
        log_probability(f"{text} {text}"), 2 * log_probability(text) - math.log(END) + math.log(1 - END)
    )
