"""Tokenizers of three kinds for natural languages: words in running text, training, balance."""

import gzip
import json
import logging
import os
import subprocess
import sys
from itertools import chain, islice
from typing import Any

import pytest
from datasets import Dataset
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from hf_alignmlm.data.encoding import WordEncoder
from hf_alignmlm.data.sources import balanced_texts
from hf_alignmlm.data.subwords import SPECIAL_TOKENS
from hf_alignmlm.data.tokenizer import encode_texts, load_tokenizer, train_tokenizer
from hf_alignmlm.languages.natural import NaturalLanguages
from hf_alignmlm.languages.synthetic import SyntheticLanguage

LANGUAGES = NaturalLanguages(("en", "fr"))
KINDS = ("wordpiece", "unigram", "bpe")
FRENCH = [
    "L'été , les élèves lisaient « Les Misérables » de Victor Hugo .",
    "Aujourd'hui , nous n'irons plus au bois , les lauriers sont coupés .",
    "Où est-ce que vous êtes né ? Dans un village près de la forêt .",
]
INUKTITUT = ["ᐃᓄᒃᑎᑐᑦ ᐅᖃᐅᓯᖅ ᓄᓇᕗᑦ", "ᓄᓇᕗᑦ ᐃᓄᐃᑦ ᐅᖃᐅᓯᖅ"] * 20


@pytest.fixture(scope="module")
def lines(embedded):
    return [" ".join(s.words) for s in embedded[:300]] + FRENCH * 20


def gemma(lines):
    """One without a pre-tokenizer, whose spaces are letters, as that of mmBERT."""
    pieces = sorted(set("".join(lines)) - {" "})
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "▁", *pieces]
    merges = [("▁", piece) for piece in pieces]
    vocabulary += ["".join(merge) for merge in merges]
    ids = {token: i for i, token in enumerate(vocabulary)}
    backend = Tokenizer(models.BPE(ids, merges, unk_token="[UNK]"))
    backend.normalizer = normalizers.Replace(" ", "▁")
    backend.decoder = decoders.Metaspace()
    return PreTrainedTokenizerFast(tokenizer_object=backend, **SPECIAL_TOKENS)


def with_pre_tokenizer(tokenizer, pre_tokenizer):
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    backend = Tokenizer.from_str(json.dumps(state))
    backend.pre_tokenizer = pre_tokenizer
    return PreTrainedTokenizerFast(tokenizer_object=backend, **SPECIAL_TOKENS)


@pytest.fixture(scope="module")
def tokenizers(lines):
    """Each kind as it is trained here, and as others set their first space."""
    made = {kind: train_tokenizer(lines, 700, kind=kind, doubled=False) for kind in KINDS}
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made["bpe without a first space"] = with_pre_tokenizer(made["bpe"], byte_level)
    for scheme in ("first", "never"):
        metaspace = pre_tokenizers.Metaspace(prepend_scheme=scheme)
        made[f"metaspace {scheme}"] = with_pre_tokenizer(made["unigram"], metaspace)
    return made | {"no pre-tokenizer": gemma(lines)}


def text_of(words):
    return " ".join(words)


word = st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=8)
known = st.sampled_from(sorted({w for text in FRENCH for w in text.split()}))


@given(words=st.lists(st.one_of(known, word), min_size=1, max_size=6))
@example(words=["l'été,", "(1999)", "don't", "東京", "¿", "'s", "\u0301a", "´", "…", "e\u0301"])
@settings(max_examples=150)
def test_the_ids_of_a_text_are_those_of_its_words(tokenizers, words):
    """Not at the start of a text, where some tokenizers have no space before a word."""
    for name, tokenizer in tokenizers.items():
        encoder = WordEncoder(tokenizer, LANGUAGES)
        plain = encoder._backend
        plain.encode_special_tokens = True
        first = plain.encode("a", add_special_tokens=False).ids
        whole = plain.encode(f"a {text_of(words)}", add_special_tokens=False).ids
        assert whole[: len(first)] == first
        found = list(chain.from_iterable(map(encoder.original, words)))
        assert found == whole[len(first) :], (name, words)
        split = encoder.words(text_of(words))
        assert list(chain.from_iterable(map(encoder.original, split))) == found, name


def test_nothing_has_no_ids(tokenizers):
    for tokenizer in tokenizers.values():
        encoder = WordEncoder(tokenizer, LANGUAGES)
        assert encoder.words(" \t ") == []
        assert encoder.original("") == encoder.original(" ") == ()


def test_a_literal_mask_in_a_text_stays_text(tokenizers):
    for tokenizer in tokenizers.values():
        assert tokenizer.mask_token_id not in WordEncoder(tokenizer, LANGUAGES).original("[MASK]")
        [ids] = encode_texts(tokenizer.backend_tokenizer.to_str(), ["a [MASK]"])
        assert tokenizer.mask_token_id not in ids


@pytest.mark.parametrize("kind", KINDS)
def test_words_of_real_text(data_folder, kind):
    with gzip.open(data_folder / "natural" / "fr.validation.txt.gz", "rt") as file:
        lines = [line.strip() for line in islice(file, 200)]
    tokenizer = train_tokenizer(lines, 2000, kind=kind, doubled=False)
    encoder = WordEncoder(tokenizer, LANGUAGES)
    texts = tokenizer(lines, add_special_tokens=False)["input_ids"]
    for line, ids in zip(lines, texts, strict=True):
        assert list(chain.from_iterable(map(encoder.original, encoder.words(line)))) == ids


# --- training -------------------------------------------------------------------------------------

TRAIN = """
import json
from hf_alignmlm import minienglish
from hf_alignmlm.data.tokenizer import train_tokenizer

def states():
    # With many characters and words that are there once.
    texts = [" ".join(s.words) for s in minienglish.sentences(200)]
    texts += [f"rare {chr(code)}x y{chr(code + 96)}z" for code in range(0x400, 0x460)]
    made = [train_tokenizer(texts, 600, kind=kind) for kind in ("unigram", "bpe")]
    return [json.loads(one.backend_tokenizer.to_str())["model"] for one in made]
"""


def test_training_is_the_same_in_every_process():
    """The trainer of Unigram sums up in the order of a hash that changes with the process."""
    here: dict[str, Any] = {}
    exec(TRAIN, here)
    command = [sys.executable, "-c", TRAIN + "print(json.dumps(states()))"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, env=environment, capture_output=True, check=True, text=True)
    assert json.loads(done.stdout) == here["states"]()


@pytest.mark.parametrize("kind", KINDS)
def test_auto_tokenizer_gives_the_same_ids(tmp_path, tokenizers, kind, lines):
    tokenizer = tokenizers[kind]
    tokenizer.save_pretrained(tmp_path)
    texts = [*lines[:50], *FRENCH, "a [MASK] b", ""]
    for loaded in (AutoTokenizer.from_pretrained(tmp_path), load_tokenizer(tmp_path, LANGUAGES)):
        assert loaded(texts)["input_ids"] == tokenizer(texts)["input_ids"]
        assert dict(loaded(texts, texts)) == dict(tokenizer(texts, texts))
        assert sorted(loaded.all_special_ids) == list(range(5))


@pytest.mark.parametrize("kind", KINDS)
def test_special_tokens_frame_and_a_mask_takes_the_space_before_it(tokenizers, kind):
    tokenizer = tokenizers[kind]
    tokens = tokenizer.convert_ids_to_tokens(tokenizer("The [MASK] said", "No")["input_ids"])
    assert [t for t in tokens if t.startswith("[")] == ["[CLS]", "[MASK]", "[SEP]", "[SEP]"]
    before = tokens[tokens.index("[MASK]") - 1]
    assert before.strip("▁Ġ")  # no piece that is a space alone
    text = "The farmers said ."
    decoded = tokenizer.decode(tokenizer(text)["input_ids"], skip_special_tokens=True)
    assert decoded.replace(" ", "") == text.replace(" ", "")


@pytest.mark.parametrize("kind", KINDS)
def test_case_and_forms_are_the_tokenizers_own(kind):
    cased, uncased = (
        train_tokenizer(["Élan élan Élan été the The"] * 9, 290, kind=kind, lowercase=lower)
        for lower in (False, True)
    )
    assert cased.tokenize("The") != cased.tokenize("the")
    assert uncased.tokenize("ÉLAN") == uncased.tokenize("élan")
    if kind != "wordpiece":  # BERT's normaliser leaves accents as they are written
        assert cased.tokenize("e\u0301te\u0301") == cased.tokenize("été")


@pytest.mark.parametrize("kind", ["unigram", "bpe"])
@pytest.mark.parametrize("texts", [[], ["", " "]])
def test_nothing_to_train_on_is_refused(kind, texts):
    with pytest.raises(ValueError, match="there is no text to train a tokenizer on"):
        train_tokenizer(texts, 300, kind=kind)


@pytest.mark.parametrize("kind", KINDS)
def test_too_small_a_vocabulary_is_refused(kind):
    with pytest.raises(ValueError, match="vocab_size 8 is too small"):
        train_tokenizer(["aaa bbb ccc"] * 2, 8, kind=kind)


def test_an_unknown_kind_is_refused():
    with pytest.raises(ValueError, match="unknown tokenizer_type 'words': take wordpiece, unigram"):
        train_tokenizer(["a"], 300, kind="words")


@pytest.mark.parametrize("kind", KINDS)
def test_the_derived_script_is_text_like_any_other_to_natural_languages(kind):
    tokenizer = train_tokenizer(INUKTITUT, 300, kind=kind, doubled=False)
    ids = tokenizer(INUKTITUT[0], add_special_tokens=False)["input_ids"]
    assert tokenizer.unk_token_id not in ids
    assert "".join(tokenizer.decode(ids).split()) == "".join(INUKTITUT[0].split())


# --- thousands of characters ----------------------------------------------------------------------

IDEOGRAPHS = [chr(code) for code in range(0x4E00, 0x4E00 + 3000)]
CHINESE = ["".join(IDEOGRAPHS[i : i + 30]) for i in range(0, 3000, 10)]


@pytest.mark.parametrize("size", [3100, 8000])
def test_a_text_of_thousands_of_characters_keeps_them_all(size, caplog):
    tokenizer = train_tokenizer(CHINESE, size)
    assert set(IDEOGRAPHS) - tokenizer.get_vocab().keys() <= set(IDEOGRAPHS[:10] + IDEOGRAPHS[-10:])
    assert not [r for r in caplog.records if r.levelno >= logging.WARNING and "1000" in r.message]


def test_characters_without_room_are_counted(caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("hf_alignmlm"), "propagate", True)
    tokenizer = train_tokenizer(CHINESE, 2000)
    assert len(tokenizer) == 2000
    lost = set(IDEOGRAPHS) - tokenizer.get_vocab().keys()
    [record] = caplog.records
    share = 100 * sum(text.count(c) for text in CHINESE for c in lost & set(text))
    share /= sum(map(len, CHINESE))
    assert f"leaves out {len(lost)} characters, {share:.2g} % of the text" in record.getMessage()


def test_pieces_keep_half_of_a_vocabulary_of_many_characters(embedded):
    texts = [" ".join(s.words) for s in embedded[:500]] * 2 + CHINESE
    tokenizer = train_tokenizer(texts, 2200)
    assert len(tokenizer) == 2200
    several = [token for token in tokenizer.get_vocab() if len(token.removeprefix("##")) > 1]
    assert len(several) > 300


# --- loading --------------------------------------------------------------------------------------


def test_bos_and_eos_serve_as_cls_and_sep(tmp_path, tokenizers):
    backend = Tokenizer.from_str(tokenizers["bpe"].backend_tokenizer.to_str())
    names = {"bos_token": "[CLS]", "eos_token": "[SEP]"}
    names |= {name: SPECIAL_TOKENS[name] for name in ("pad_token", "unk_token", "mask_token")}
    PreTrainedTokenizerFast(tokenizer_object=backend, **names).save_pretrained(tmp_path)
    loaded = load_tokenizer(str(tmp_path), LANGUAGES)
    assert (loaded.cls_token_id, loaded.sep_token_id) == (2, 3)


@pytest.mark.parametrize("kind", ["unigram", "bpe"])
def test_a_synthetic_pair_takes_wordpiece_alone(tmp_path, tokenizers, kind):
    tokenizers[kind].save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="cannot be doubled into a second script"):
        load_tokenizer(str(tmp_path), SyntheticLanguage("inv"))


def test_a_tokenizer_without_a_mask_is_refused(tmp_path, tokenizers):
    names = {name: token for name, token in SPECIAL_TOKENS.items() if name != "mask_token"}
    backend = tokenizers["bpe"].backend_tokenizer
    PreTrainedTokenizerFast(tokenizer_object=backend, **names).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"serves no masked LM here: it has no mask_token\. Take"):
        load_tokenizer(str(tmp_path), LANGUAGES)


# --- balance --------------------------------------------------------------------------------------


def corpus(letter, count):
    return Dataset.from_dict({"text": [f"{letter}{number:09d}" for number in range(count)]})


@pytest.mark.parametrize("alpha", [0.0, 0.5, 0.7, 1.0])
def test_shares_follow_the_exponent(alpha):
    corpora = {"en": corpus("e", 8000), "sw": corpus("s", 400)}
    texts = list(balanced_texts(corpora, alpha=alpha))
    found = sum(text[0] == "s" for text in texts) / len(texts)
    share = (400 / 8400) ** alpha
    expected = share / (share + (8000 / 8400) ** alpha)
    assert found == pytest.approx(expected, abs=0.015)
    assert len(texts) == pytest.approx(8400, rel=0.02)
    # A small language comes whole, each text about as often as the others.
    counts = [texts.count(text) for text in corpora["sw"]["text"]]
    assert max(counts) - min(counts) <= 1
    assert min(counts) >= 1


def test_a_sample_is_a_function_of_seed_and_names():
    corpora = {"en": corpus("e", 500), "sw": corpus("s", 50)}
    first = list(balanced_texts(corpora, seed=1))
    assert first == list(balanced_texts(corpora, seed=1))
    assert first != list(balanced_texts(corpora, seed=2))


def test_a_sample_is_limited(monkeypatch):
    monkeypatch.setattr("hf_alignmlm.data.sources.SAMPLE_CHARACTERS", 2000)
    corpora = {"en": corpus("e", 5000).to_iterable_dataset(), "sw": corpus("s", 5000)}
    texts = list(balanced_texts(corpora, limit=100))
    assert sum(map(len, texts)) == pytest.approx(2000, rel=0.2)
    assert {text for text in texts if text[0] == "e"} <= set(corpus("e", 100)["text"])
