"""Sources, documents, tokenizers and the embedded corpus: from what the user has to texts and token ids."""
