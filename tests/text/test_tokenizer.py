import json
from pathlib import Path

import numpy as np
import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken, models

from picolm.config import schema
from picolm.errors import PicoLMError
from picolm.text import world
from picolm.text.tokenizer import Tokenizer

TEXTS = [document.text for document in world.documents(count=200)]
BPE = Tokenizer.train_bpe(iter(TEXTS), 600)
CHARACTERS = Tokenizer.characters(["abc\n\t é", "😀\r\u2028日"])


@given(st.text())
def test_bytes_of_any_text_come_back(text: str) -> None:
    ids = BPE.encode(text)
    assert ids.dtype == np.int64
    assert BPE.decode(ids.tolist()) == text
    assert BPE.decode(ids.tolist(), skip_special=False) == text
    assert not BPE.special_ids & set(ids.tolist())


@given(st.text(alphabet="abc\n\t é😀\r\u2028日"))
def test_seen_characters_come_back_one_token_each(text: str) -> None:
    ids = CHARACTERS.encode(text)
    assert len(ids) == len(text)
    assert CHARACTERS.decode(ids.tolist()) == text


def test_every_unseen_character_is_unknown() -> None:
    assert CHARACTERS.encode("aXYb").tolist() == [CHARACTERS.encode("a")[0], 3, 3, CHARACTERS.encode("b")[0]]
    assert CHARACTERS.unk_id == 3
    assert CHARACTERS.vocab_size == 4 + 11


def test_own_special_tokens_come_first() -> None:
    for tokenizer, special in ((BPE, {0, 1, 2}), (CHARACTERS, {0, 1, 2, 3})):
        assert (tokenizer.separator_id, tokenizer.pad_id, tokenizer.mask_id) == (0, 1, 2)
        assert tokenizer.special_ids == special
        assert tokenizer.decode([0, 1, 2], skip_special=False) == "<eos><pad><mask>"
        assert tokenizer.decode([0, 1, 2]) == ""


def test_special_tokens_in_a_text_are_characters(tmp_path: Path) -> None:
    BPE.save(tmp_path, 32)
    character = Tokenizer.characters(["a<eos>b pad mask unk"])
    for tokenizer in (BPE, Tokenizer.load(tmp_path), character, Tokenizer.from_json(character.to_json())):
        text = "a<eos>b <pad><mask><unk>"
        ids = tokenizer.encode(text).tolist()
        assert not tokenizer.special_ids & set(ids)
        assert tokenizer.decode(ids) == text


def test_training_is_deterministic_and_merges() -> None:
    again = Tokenizer.train_bpe(iter(TEXTS), 600)
    assert again.to_json() == BPE.to_json()
    assert again.fingerprint == BPE.fingerprint
    assert BPE.vocab_size == 600
    assert Tokenizer.train_bpe(iter(TEXTS), 500).fingerprint != BPE.fingerprint
    assert len(BPE.encode(TEXTS[0])) < 0.5 * len(TEXTS[0])
    assert Tokenizer.train_bpe(iter(["ab"]), 300).vocab_size == 3 + 256 + 1


def test_batches_equal_single_texts() -> None:
    texts = [*TEXTS[:5], "", " lead", "trail "]
    for one, many in zip(map(BPE.encode, texts), BPE.encode_batch(texts), strict=True):
        np.testing.assert_array_equal(one, many)
    assert not np.array_equal(BPE.encode(" lead"), BPE.encode("lead"))


@pytest.mark.parametrize("tokenizer", [BPE, CHARACTERS], ids=["bpe", "characters"])
def test_saving_and_loading_changes_nothing(tokenizer: Tokenizer, tmp_path: Path) -> None:
    tokenizer.save(tmp_path, 128)
    loaded = Tokenizer.load(tmp_path)
    assert loaded.to_json() == tokenizer.to_json()
    assert loaded.fingerprint == tokenizer.fingerprint
    assert vars(loaded).keys() == vars(tokenizer).keys()
    for name in ("separator", "vocab_size", "separator_id", "pad_id", "mask_id", "unk_id", "special_ids"):
        assert getattr(loaded, name) == getattr(tokenizer, name)
    first = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    loaded.save(tmp_path, 128)
    assert first == {path.name: path.read_bytes() for path in tmp_path.iterdir()}


@pytest.mark.parametrize("tokenizer", [BPE, CHARACTERS], ids=["bpe", "characters"])
def test_transformers_opens_it(tokenizer: Tokenizer, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    tokenizer.save(tmp_path, 128)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    text = "Look, a cab!\n  The dog 😀 can't see é.\n"
    assert theirs(text, add_special_tokens=True)["input_ids"] == tokenizer.encode(text).tolist()
    assert theirs.decode(tokenizer.encode(text).tolist()) == tokenizer.decode(tokenizer.encode(text), False)
    found = (theirs.bos_token_id, theirs.eos_token_id, theirs.pad_token_id, theirs.mask_token_id, theirs.unk_token_id)
    assert found == (0, 0, 1, 2, tokenizer.unk_id)
    assert theirs.model_max_length == 128
    assert len(theirs) == tokenizer.vocab_size


def write_foreign(path: Path, *special: str) -> None:
    inner = tokenizers.Tokenizer(models.BPE({"a": 0, "b": 1, "ab": 2}, [("a", "b")]))
    inner.add_special_tokens([AddedToken(token, special=True) for token in special])
    inner.enable_truncation(2)
    inner.enable_padding(length=5)
    inner.save(str(path))


def test_foreign_tokenizers(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    write_foreign(path, "<|endoftext|>", "[MASK]")
    tokenizer = Tokenizer.load(path)
    assert (tokenizer.separator, tokenizer.separator_id, tokenizer.pad_id) == ("<|endoftext|>", 3, 3)
    assert (tokenizer.mask_id, tokenizer.unk_id, tokenizer.vocab_size) == (4, None, 5)
    assert tokenizer.encode("abaabb").tolist() == [2, 0, 2, 1]  # neither cut nor filled up
    assert Tokenizer.load(path, separator="[MASK]").separator_id == 4
    assert "truncation" not in json.loads(tokenizer.to_json()) or json.loads(tokenizer.to_json())["truncation"] is None


def test_the_separator_must_be_known(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    write_foreign(path, "<end>")
    with pytest.raises(
        PicoLMError, match=r"none of the usual tokens between documents .*name its own in tokenizer.sep"
    ):
        Tokenizer.load(path)
    with pytest.raises(PicoLMError, match=r"tokenizer.separator '<edn>' is not a token of .*tokenizer.json"):
        Tokenizer.load(path, "<edn>")
    assert Tokenizer.load(tmp_path, "<end>").separator_id == 3


@pytest.mark.parametrize(
    ("content", "message"),
    [("{", "is not JSON"), ('{"a": 1}', "is not a tokenizer that Hugging Face"), ("[]", "is not a tokenizer that")],
)
def test_unusable_files_are_named(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(PicoLMError, match=rf"tokenizer.json {message}"):
        Tokenizer.from_config(schema.Tokenizer(kind="file", path=str(tmp_path)), [])


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(PicoLMError, match=r"cannot read the tokenizer .*tokenizer.json: No such file"):
        Tokenizer.load(tmp_path)


def test_the_configuration_chooses(tmp_path: Path) -> None:
    BPE.save(tmp_path, None)
    assert Tokenizer.from_config(schema.Tokenizer(vocab_size=600), TEXTS).fingerprint == BPE.fingerprint
    assert Tokenizer.from_config(schema.Tokenizer(kind="characters"), ["ab"]).vocab_size == 6
    from_file = Tokenizer.from_config(schema.Tokenizer(kind="file", path=str(tmp_path)), [])
    assert from_file.fingerprint == BPE.fingerprint
    assert "model_max_length" not in json.loads((tmp_path / "tokenizer_config.json").read_text())
