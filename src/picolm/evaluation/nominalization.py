"""Nominalization and its like: does a model waver between two forms as much as people do?

BabyLM's task of 2025 has nonce adjectives, of which people made a noun in -ity or -ness (Hofmann et al. 2025). A file may hold
any two candidates with the share of people who chose the first one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import BeforeValidator, Field

from picolm.config.section import Positive, Section, Seed, one_is_a_list
from picolm.errors import PicoLMError, nearest
from picolm.evaluation import controls
from picolm.evaluation.controls import Unigram
from picolm.evaluation.correlation import correlation, pearson, spearman
from picolm.evaluation.pairs import ALL_CONTROLS, Control, outcomes, scorer_of
from picolm.evaluation.scoring import Engine, FirstToken, FloatArray, encode
from picolm.evaluation.statistics import share_of
from picolm.evaluation.task import Figure, Found, Material, Subject, Task
from picolm.runs.digest import sha256_of_file
from picolm.text.document import JSON
from picolm.text.lines import Lines, decode
from picolm.text.reading import parse_record
from picolm.text.records import describe
