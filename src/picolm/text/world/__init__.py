"""The embedded world: seeded corpora with tags, circumstances, minimal pairs and known best losses.

from picolm.text.world import minimal_pairs, open_corpus

corpus = open_corpus("embedded:english?documents=20000&seed=3")
pairs = minimal_pairs("filler_gap", count=100)
"""

from __future__ import annotations

from picolm.text.world.corpus import NAMES, Corpus, documents, minimal_pairs, open_corpus
from picolm.text.world.pairs import MinimalPair, write_pairs

__all__ = ["NAMES", "Corpus", "MinimalPair", "documents", "minimal_pairs", "open_corpus", "write_pairs"]
