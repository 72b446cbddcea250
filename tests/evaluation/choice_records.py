"""A few records of each format, made up, and where the harness defines the task that reads them."""

from typing import Any

TASKS = {
    "arc": "arc/arc_easy.yaml",
    "hellaswag": "hellaswag/hellaswag.yaml",
    "lambada": "lambada/lambada_openai.yaml",
    "piqa": "piqa/piqa.yaml",
    "sciq": "sciq/sciq.yaml",
    "winogrande": "winogrande/default.yaml",
}
RECORDS: dict[str, list[dict[str, Any]]] = {
    "arc": [
        {
            "id": "a1",
            "question": "Which animal says moo?",
            "choices": {
                "text": ["the cow", "a dog", "one naïve cat", "thirteen whales"],
                "label": ["A", "B", "C", "D"],
            },
            "answerKey": "A",
        },
        {
            "id": "a2",
            "question": "What is three and four?",
            "choices": {"text": ["six", "seven", "eleven"], "label": ["1", "2", "3"]},
            "answerKey": "2",
        },
        {
            "id": "a3",
            "question": "Where do fish live?",
            "choices": {
                "text": ["in the café", "under unbelievably long words", "here", "in water", "up"],
                "label": ["A", "B", "C", "D", "E"],
            },
            "answerKey": "D",
        },
        {
            "id": "a4",
            "question": "Which of these costs 12 €?",
            "choices": {"text": ["a", "b", "c", "d"], "label": ["A", "B", "C", "D"]},
            "answerKey": "B",
        },
    ],
    "hellaswag": [
        {
            "activity_label": "Feeding cats",
            "ctx_a": "The cats that the dog sees are here.",
            "ctx_b": "one of the CATS",
            "endings": ["eats.", "is thirteen  [step] dogs.", "sees the dog [title] that it sees.", "costs 12 €."],
            "label": "0",
        },
        {
            "activity_label": "Counting",
            "ctx_a": "one two three [title] four five",
            "ctx_b": "",
            "endings": ["six seven", "seven six", "a", "unbelievably"],
            "label": "0",
        },
        {
            "activity_label": "Cooking",
            "ctx_a": " [header] How to boil water [substeps] Take a pot. ",
            "ctx_b": "then",
            "endings": ["run.", "put water in it.", "dépêche-toi!", "B: There."],
            "label": "1",
        },
    ],
    "lambada": [
        {"text": "one two three four five six seven"},
        {"text": "The cats that the dog sees are here"},
        {"text": "A: Where is it?\nB: There. A: Where is the café"},
    ],
    "piqa": [
        {"goal": "How to see a cat", "sol1": "Open both eyes.", "sol2": "Close one, two, three eyes.", "label": 0},
        {"goal": "Count to three", "sol1": "three two one", "sol2": "one two three", "label": 1},
        {"goal": "Say hello in French", "sol1": "Zoë", "sol2": "bonjour", "label": 1},
    ],
    "sciq": [
        {
            "question": "What falls from clouds?",
            "distractor1": "cats",
            "distractor2": "cafés",
            "distractor3": "thirteen dogs",
            "correct_answer": "rain",
            "support": "\nRain falls from clouds. It is wet.",
        },
        {
            "question": "What is after eleven?",
            "distractor1": "two",
            "distractor2": "unbelievably",
            "distractor3": "ten",
            "correct_answer": "twelve",
            "support": "",
        },
    ],
    "winogrande": [
        {
            "sentence": "The cat saw the dog, because _ was awake.",
            "option1": "the cat",
            "option2": "dog",
            "answer": "1",
        },
        {"sentence": "Zoë paid Ann 12 €, so _ is rich.", "option1": "Zoë", "option2": "Ann", "answer": "2"},
        {"sentence": "_ counts to twelve unbelievably fast.", "option1": "A", "option2": "One two", "answer": "1"},
    ],
}
