"""Named entities: a head that tags words, tuned on one language and asked about others."""
