"""Prepared data: documents as token shards on disk, and rows of tokens read from them."""
