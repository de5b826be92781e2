"""The doubled tokenizer: a derived text's ids are the original's, reordered by words, plus V."""

import gzip
import hashlib
import json
import os
import subprocess
import sys
import unicodedata
from collections import Counter
from itertools import chain

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from hf_alignmlm import minienglish
from hf_alignmlm.data import encoding as tokenization
from hf_alignmlm.data.conllu import read_conllu
from hf_alignmlm.data.encoding import WordEncoder
from hf_alignmlm.data.rows import sentences
from hf_alignmlm.data.tokenizer import (
    SPECIAL_TOKENS,
    check_wordpiece,
    double_tokenizer,
    is_doubled,
    load_tokenizer,
    reserved_ids,
    train_tokenizer,
    vocabulary_pairs,
)
from hf_alignmlm.languages.spelling import DERIVED_CHARACTERS
from hf_alignmlm.languages.synthetic import SyntheticLanguage

INVERTED = SyntheticLanguage("inv")
FOREIGN = [
    "Ça fait déjà naïf, l'été à Besançon — « œuvre » cœur…",
    unicodedata.normalize("NFD", "Ça fait déjà naïf, l'été à Besançon"),
    "東京は日本の首都です。中文字符和英文 mixed漢字words 한국어 문장",
    "Война и мир, ἐν ἀρχῇ ἦν ὁ λόγος; שלום عالم नमस्ते ไทย",
    "€ 5 £3 ¥7 § ¶ © ™ → ≤ ∑ ½ № 3² 😀 👩‍👩‍👧 🇫🇷",
]
ADVERSARIAL = [
    *FOREIGN,
    "a literal [MASK] and [CLS], [PAD][SEP] ##ing #hash [UNK]",
    f"long {'x' * 99} {'y' * 100} {'z' * 101} {'é' * 300} ends.",
    "zero\u200bwidth\u200d joiner\ufeff mark so\u00adft hyphen",
    "control\x00\x01\x1f\x7f\x85 characters\ufffd",
    "and\ttabs\r\nlines\u2028\u2029 \u00a0\u3000spaces",
    "e\u0301 x\u0323\u0301 \u0301alone a\u20d0b İstanbul ΣΑΣ ß ﬁ Å K ǅ ẞ",
    "mixedЖcase漢Word中 x。y、z don't well-known 3.14 1,000 a.b.c",
    "' \" ` ' “ ” ... ?! .",
    "Ⴀ ꭰ Ꭰ 𐐀 𝔘𝔫𝔦 𝟙 ① ㎞ ㍿ ° \U000e0041 \ue000 \u0378",
    "",
    " \t ",
]


def saved_and_loaded(tokenizer, folder):
    tokenizer.save_pretrained(folder)
    return AutoTokenizer.from_pretrained(folder)


def split(original, rows):
    """Of (words, index) rows: each word's units, each unit's ids in the original, and the index."""
    encoder, result = WordEncoder(original, SyntheticLanguage("inv")), []
    rows = [([encoder.words(word) for word in words], index) for words, index in rows]
    texts = [" ".join(chain.from_iterable(words)) for words, _ in rows]
    encodings = original.backend_tokenizer.encode_batch(texts, add_special_tokens=False)
    for (words, index), encoding in zip(rows, encodings, strict=True):
        pieces = [[] for _ in chain.from_iterable(words)]
        for piece, unit in zip(encoding.ids, encoding.word_ids, strict=True):
            pieces[unit].append(piece)
        result.append((words, pieces, index))
    return result


def encode(encoder, words, order):
    """Ids of a sentence, of its twin, and the pieces of each word."""
    columns = encoder.encode([words], lambda words, i: order)
    return tuple(columns[name].to_pylist()[0] for name in ("original", "derived", "pieces"))


class Law:
    """The law, from the original tokenizer's ids and plain string handling alone."""

    def __init__(self, original, folder, name):
        self.original, self.language = original, SyntheticLanguage.from_name(name, seed=1)
        self.size = len(original)
        bilingual = original
        if self.language.mapped_share:
            bilingual, self.language = double_tokenizer(original, self.language)
        self.bilingual = saved_and_loaded(bilingual, folder)
        self.encoder = WordEncoder(bilingual, self.language)
        self.special = set(original.all_special_ids)

    def mismatches(self, rows):
        """Of (words, index) rows, those whose derived text's ids are not as they should be."""
        return self.check(split(self.original, rows))

    def check(self, rows):
        """The same of rows as `split` gives them."""
        derived = [
            self.language.derive([" ".join(units) for units in words], index=index)
            for words, _, index in rows
        ]
        twins = self.ids([" ".join(words) for words in derived])
        wrong = []
        for (words, pieces, index), twin in zip(rows, twins, strict=True):
            units = list(chain.from_iterable(words))
            moved = [
                [
                    i if i in self.special or not self.language.maps(unit) else i + self.size
                    for i in p
                ]
                for unit, p in zip(units, pieces, strict=True)
            ]
            groups = iter(moved)
            by_word = [list(chain.from_iterable(next(groups) for _ in word)) for word in words]
            plain = [" ".join(units) for units in words]
            order = self.language.order(plain, index=index)
            expected = list(chain.from_iterable(by_word[i] for i in order))
            counts = list(map(len, by_word))
            ids = list(chain.from_iterable(pieces))
            if twin != expected or encode(self.encoder, plain, order) != (ids, expected, counts):
                wrong.append((plain, twin, expected))
        return wrong

    def ids(self, texts):
        if not texts:
            return []
        return self.bilingual(texts, add_special_tokens=False)["input_ids"]


# --- real text ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def books(data_folder):
    with gzip.open(data_folder / "books" / "validation.txt.gz", "rt", encoding="utf-8") as lines:
        return [line.rstrip("\n") for line in lines]


@pytest.fixture(scope="module")
def treebank(data_folder):
    files = [
        data_folder / "ud" / f"en_ewt-ud-{part}.conllu.gz" for part in ("train", "dev", "test")
    ]
    return [
        (sentence.words, index)
        for index, sentence in enumerate(
            chain.from_iterable(read_conllu(file, trees=False) for file in files)
        )
    ]


@pytest.fixture(scope="module")
def book_tokenizer(books):
    return train_tokenizer(books, 5000)


def book_sentences(books, tokenizer):
    encoder = WordEncoder(tokenizer, SyntheticLanguage("inv"))
    for number, line in enumerate(books):
        for words, _, index in sentences({"text": line}, number, encoder.words):
            yield words, index


@pytest.fixture(scope="module")
def real_rows(books, treebank, book_tokenizer):
    return split(book_tokenizer, [*book_sentences(books, book_tokenizer), *treebank])


@pytest.mark.parametrize("name", ["trans", "inv", "perm", "trans_inv", "trans50"])
def test_real_text_and_its_twin_have_the_same_ids(tmp_path, book_tokenizer, real_rows, name):
    assert len(real_rows) > 22_000
    assert Law(book_tokenizer, tmp_path, name).check(real_rows) == []


def test_real_text_uncased(tmp_path, books, treebank):
    law = Law(train_tokenizer(books, 3000, lowercase=True), tmp_path, "trans_inv")
    rows = [*book_sentences(books[:400], law.original), *treebank[:2000]]
    assert law.mismatches(rows) == []


def test_inversion_twice_is_the_identity_on_real_text(books, treebank, book_tokenizer):
    language = SyntheticLanguage.from_name("inv")
    for words, _ in chain(book_sentences(books, book_tokenizer), treebank):
        assert language.derive(language.derive(words)) == list(words)


# --- any text -------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["cased", "uncased"])
def foreign_tokenizer(request, embedded):
    """A tokenizer with several scripts in its vocabulary, ideographs among them."""
    texts = [" ".join(s.words) for s in embedded[:200]] + FOREIGN * 2
    tokenizer = train_tokenizer(texts, 700, lowercase=request.param == "uncased")
    assert {"東", "漢", "。"} <= tokenizer.get_vocab().keys()
    return tokenizer


@pytest.fixture(scope="module")
def foreign_laws(foreign_tokenizer, tmp_path_factory):
    names = ("trans", "inv", "trans_perm", "trans50_inv")
    return [Law(foreign_tokenizer, tmp_path_factory.mktemp(name), name) for name in names]


def test_embedded_corpus_and_its_twin_have_the_same_ids(embedded, foreign_laws):
    rows = [(s.words, index) for index, s in enumerate(embedded[:800])]
    assert [law.mismatches(rows) for law in foreign_laws] == [[]] * len(foreign_laws)


def test_adversarial_strings_and_their_twins_have_the_same_ids(foreign_laws):
    for law in foreign_laws:
        # As a text split by the tokenizer, and as words that the tokenizer parts further.
        rows = [(law.encoder.words(text), i) for i, text in enumerate(ADVERSARIAL)]
        rows += [(text.split(" "), i) for i, text in enumerate(ADVERSARIAL)]
        assert law.mismatches(rows) == []


any_text = st.text(
    st.characters(exclude_categories=["Cs"]).filter(lambda c: c not in DERIVED_CHARACTERS)
)


@given(text=any_text, words=st.lists(any_text, max_size=5))
@example(text="x\u0345\u0301İ", words=["foo漢bar", "1 000"])
@settings(max_examples=200)
def test_any_text_and_its_twin_have_the_same_ids(foreign_laws, text, words):
    for law in foreign_laws:
        assert law.mismatches([(law.encoder.words(text), 7), (words, 8)]) == []


@given(text=any_text)
@example(text=" ".join(ADVERSARIAL))
@settings(max_examples=200)
def test_words_are_those_of_the_tokenizers_own_splitting(foreign_laws, text):
    for law in foreign_laws:
        backend = law.encoder._backend
        split = backend.pre_tokenizer.pre_tokenize_str(backend.normalizer.normalize_str(text))
        assert law.encoder.words(text) == [word for word, _ in split]


@given(texts=st.lists(any_text, max_size=4))
@example(texts=[])
@example(texts=["", " ", "a  b", " ".join(ADVERSARIAL), "\u200b"])
@settings(max_examples=200)
def test_texts_are_encoded_as_their_words(foreign_laws, texts):
    for law in foreign_laws:

        def order(words, i, language=law.language):
            return language.order(words, index=i)

        expected = law.encoder.encode([law.encoder.words(text) for text in texts], order)
        for name, column in law.encoder.encode(texts, order).items():
            assert column.to_pylist() == expected[name].to_pylist()


def test_forgotten_words_are_learnt_again(monkeypatch, doubled, embedded):
    sentences = [sentence.words for sentence in embedded[:60]]

    def order(words, i):
        return range(len(words))

    expected = WordEncoder(*doubled).encode(sentences, order)
    monkeypatch.setattr(tokenization, "WORDS_KEPT", 3)
    encoder = WordEncoder(*doubled)
    for start in range(0, 60, 20):
        rows = slice(start, start + 20)
        found = encoder.encode(sentences[rows], order)
        for name, column in expected.items():
            assert found[name].to_pylist() == column[rows].to_pylist()


# --- the double -----------------------------------------------------------------------------------


def test_a_double_has_two_rows_a_token_and_shares_the_specials(tokenizer, doubled):
    double, language = doubled
    size = len(tokenizer)
    vocabulary = double.get_vocab()
    assert size == 600
    assert len(double) == len(vocabulary) == 2 * size
    assert sorted(vocabulary.values()) == list(range(2 * size))
    assert {t: i for t, i in vocabulary.items() if i < size} == tokenizer.get_vocab()
    assert double.all_special_tokens == tokenizer.all_special_tokens
    assert double.all_special_ids == tokenizer.all_special_ids
    assert set(double.all_special_ids) == set(range(5))
    assert language.name == "trans_inv"
    for token, i in tokenizer.get_vocab().items():
        if i in tokenizer.all_special_ids:
            continue
        prefix = "##" if token.startswith("##") and len(token) > 2 else ""
        assert vocabulary[prefix + language.spell(token.removeprefix(prefix))] == i + size


def test_special_tokens_frame_both_languages(doubled):
    double, language = doubled
    text = "The farmers said ."
    twin = " ".join(language.derive(text.split()))
    first, second = double(text)["input_ids"], double(twin)["input_ids"]
    for ids in (first, second):
        assert (ids[0], ids[-1]) == (double.cls_token_id, double.sep_token_id)
    pair = double(text, twin)
    assert pair["input_ids"] == first + second[1:]
    assert pair["token_type_ids"] == [0] * len(first) + [1] * (len(second) - 1)
    # Specials keep working as such in a derived text; their twins never come up.
    assert double.mask_token_id in double(f"{twin} [MASK]")["input_ids"]
    assert not set(reserved_ids(double)[5:]) & set(double(f"[MASK] {text} {twin}")["input_ids"])


def test_auto_tokenizer_gives_the_same_ids(tmp_path, doubled, embedded):
    double, language = doubled
    loaded = saved_and_loaded(double, tmp_path)
    texts = [" ".join(s.words) for s in embedded[:300]]
    texts += [" ".join(language.derive(s.words)) for s in embedded[:300]] + ADVERSARIAL
    assert loaded(texts)["input_ids"] == double(texts)["input_ids"]
    assert loaded(texts, texts)["token_type_ids"] == double(texts, texts)["token_type_ids"]
    assert loaded.get_vocab() == double.get_vocab()
    assert loaded.model_max_length == double.model_max_length == 64
    assert is_doubled(loaded)
    check_wordpiece(loaded)


def test_reserved_ids_are_the_specials_and_their_twins(tokenizer, doubled):
    assert reserved_ids(tokenizer) == [0, 1, 2, 3, 4]
    assert reserved_ids(doubled[0]) == [0, 1, 2, 3, 4, 600, 601, 602, 603, 604]
    assert is_doubled(doubled[0])
    assert not is_doubled(tokenizer)


def test_pairs_are_all_tokens_but_the_specials(tokenizer, doubled):
    pairs = vocabulary_pairs(*doubled)
    assert pairs == [(i, i + 600) for i in range(5, 600)]


def test_pairs_of_a_part_of_the_words_leave_the_shared_ones_out(tokenizer):
    double, language = double_tokenizer(tokenizer, SyntheticLanguage.from_name("trans50"))
    pairs = dict(vocabulary_pairs(double, language))
    tokens = tokenizer.convert_ids_to_tokens(list(range(600)))
    whole = [i for i in range(5, 600) if not tokens[i].startswith("##")]
    assert 0.4 < sum(i in pairs for i in whole) / len(whole) < 0.6
    assert all((i in pairs) == language.maps(tokens[i]) for i in whole)
    assert all(i in pairs for i in range(5, 600) if tokens[i].startswith("##"))


def test_a_given_checkpoint_keeps_its_ids_and_special_tokens(tmp_path):
    """One whose specials stand elsewhere and have other names, with tokens unused."""
    vocabulary = ["[unused0]", "<pad>", "a", "##a", "b", "<unk>", "<cls>", "<sep>", "<mask>", "###"]
    backend = Tokenizer(
        models.WordPiece({t: i for i, t in enumerate(vocabulary)}, unk_token="<unk>")
    )
    backend.normalizer = normalizers.BertNormalizer()
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    names = {name: f"<{name.removesuffix('_token')}>" for name in SPECIAL_TOKENS}
    given_ = PreTrainedTokenizerFast(tokenizer_object=backend, **names)
    given_.save_pretrained(tmp_path)
    double, language = double_tokenizer(
        load_tokenizer(str(tmp_path), INVERTED), SyntheticLanguage("trans")
    )
    assert len(double) == 20
    assert reserved_ids(double) == [1, 5, 6, 7, 8, 11, 15, 16, 17, 18]
    ids = double("aa b q", add_special_tokens=False)["input_ids"]
    twin = double(language.spell("aa b q"), add_special_tokens=False)["input_ids"]
    assert (ids, twin) == ([2, 3, 4, 5], [12, 13, 14, 5])


# --- training -------------------------------------------------------------------------------------

TRAIN = """
from test_tokenizer import training_digest
print(training_digest())
"""


def training_digest():
    """A digest of the tokenizer of fixed texts, with characters that are there once."""
    texts = [" ".join(s.words) for s in minienglish.sentences(300)]
    texts += [f"rare {chr(code)}x y{chr(code + 96)}z" for code in range(0x400, 0x460)]
    state = json.loads(train_tokenizer(texts, 500).backend_tokenizer.to_str())
    return hashlib.sha256(json.dumps(state, sort_keys=True).encode()).hexdigest()


def test_training_is_the_same_in_every_process():
    """The trainer numbers characters by a hash that changes from process to process."""
    other = subprocess.run(
        [sys.executable, "-c", TRAIN],
        env={**os.environ, "PYTHONHASHSEED": "1", "PYTHONPATH": os.path.dirname(__file__)},
        capture_output=True,
        check=True,
        text=True,
    )
    assert other.stdout.strip() == training_digest()


@pytest.mark.parametrize("vocab_size", [70, 100, 400])
def test_a_vocabulary_is_at_most_as_large_as_asked(embedded, vocab_size):
    texts = [" ".join(s.words).lower() for s in embedded[:200]]
    singles = ["".join(map(chr, range(0x400, 0x500)))]
    assert len(train_tokenizer(texts + singles, vocab_size)) <= vocab_size


def test_specials_come_first_and_framing_is_berts(tokenizer):
    assert tokenizer.convert_ids_to_tokens(list(range(5))) == list(SPECIAL_TOKENS.values())
    assert tokenizer.convert_ids_to_tokens(tokenizer("The")["input_ids"])[::2] == ["[CLS]", "[SEP]"]
    assert {"input_ids", "token_type_ids", "attention_mask"} == set(tokenizer("The").keys())


def test_training_on_case_and_accents():
    texts = ["Élan élan Élan the The"] * 3
    cased, uncased = (train_tokenizer(texts, 60, lowercase=lower) for lower in (False, True))
    assert cased.tokenize("The")[0] != cased.tokenize("the")[0]
    assert uncased.tokenize("ÉLAN") == uncased.tokenize("elan")


def test_too_small_a_vocabulary_is_refused():
    with pytest.raises(ValueError, match=r"vocab_size 8 is too small: .* take 11"):
        train_tokenizer(["aaa bbb ccc"] * 2, 8)


@pytest.mark.parametrize("texts", [[], [""], [SyntheticLanguage("trans").spell("abc abc")] * 3])
def test_nothing_to_train_on_is_refused(texts):
    with pytest.raises(ValueError, match="there is no text to train a tokenizer on"):
        train_tokenizer(texts, 100)


def test_lines_in_the_derived_script_do_not_keep_a_vocabulary_from_being_doubled(embedded):
    """Such lines are skipped later; what remains must have its double."""
    language = SyntheticLanguage("trans")
    clean = [" ".join(s.words) for s in embedded[:100]]
    strange = [language.spell(text) for text in clean[:20]] + ["ꀀꀁ ꀀꀁ 𓀀 𓀀"]
    tokenizer = train_tokenizer(clean + strange, 300)
    assert not DERIVED_CHARACTERS & set("".join(tokenizer.get_vocab()))
    double, _ = double_tokenizer(tokenizer, language)
    assert len(double) == 600


def test_a_word_without_end_costs_no_time_and_changes_nothing(embedded):
    """The trainer alone would take minutes, and the search for rare characters, too."""
    texts = [" ".join(s.words) for s in embedded[:200]]
    long = ["x" * 300_000, "Ж " + "a." * 150_000, " ".join(["y" * 1001, "The"])]
    plain, other = (train_tokenizer(t, 200) for t in ([*texts, "x y The", "a."], [*texts, *long]))
    assert plain.get_vocab().keys() == other.get_vocab().keys()
    encoder = WordEncoder(*double_tokenizer(other, SyntheticLanguage("trans")))
    assert encoder.original("x" * 300_000) == (other.unk_token_id,)


def test_empty_texts_and_many_of_them_change_nothing(embedded):
    texts = [" ".join(s.words) for s in embedded[:300]]
    spread = list(chain.from_iterable((text, "", "") for text in texts))
    for few, many in ((texts, spread), (texts, iter(["", *spread]))):
        assert train_tokenizer(few, 200).get_vocab() == train_tokenizer(many, 200).get_vocab()


def test_ids_decode_to_text_again(doubled, embedded):
    double, language = doubled
    for sentence in embedded[:50]:
        for words in (sentence.words, language.derive(sentence.words)):
            ids = double(" ".join(words), add_special_tokens=False)["input_ids"]
            assert double.decode(ids).replace(" ", "") == "".join(words)


# --- refusals -------------------------------------------------------------------------------------


def trained(model, trainer, pre_tokenizer, normalizer=None):
    backend = Tokenizer(model)
    backend.normalizer, backend.pre_tokenizer = normalizer, pre_tokenizer
    backend.train_from_iterator(["the cat sat on the mat"] * 3, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=backend, **SPECIAL_TOKENS)


def wordpiece(pre_tokenizer, normalizer):
    specials = list(SPECIAL_TOKENS.values())
    trainer = trainers.WordPieceTrainer(vocab_size=60, special_tokens=specials, show_progress=False)
    return trained(models.WordPiece(unk_token="[UNK]"), trainer, pre_tokenizer, normalizer)


def byte_level():
    trainer = trainers.BpeTrainer(vocab_size=60, show_progress=False)
    return trained(models.BPE(), trainer, pre_tokenizers.ByteLevel())


def sentencepiece():
    trainer = trainers.UnigramTrainer(vocab_size=40, unk_token="<unk>", show_progress=False)
    return trained(models.Unigram(), trainer, pre_tokenizers.Metaspace())


def whitespace():
    return wordpiece(pre_tokenizers.Whitespace(), normalizers.BertNormalizer())


def other_normalizer():
    return wordpiece(pre_tokenizers.BertPreTokenizer(), normalizers.NFKC())


def without_mask():
    tokenizer = wordpiece(pre_tokenizers.BertPreTokenizer(), normalizers.BertNormalizer())
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer.backend_tokenizer,
        **{name: token for name, token in SPECIAL_TOKENS.items() if name != "mask_token"},
    )


def word_level():
    model = models.WordLevel({"[UNK]": 0, "a": 1}, unk_token="[UNK]")
    return PreTrainedTokenizerFast(tokenizer_object=Tokenizer(model), **SPECIAL_TOKENS)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (byte_level, r"\(BPE\).*: byte-level BPE splits text below the level of characters"),
        (sentencepiece, r"\(Unigram\).*: SentencePiece makes spaces part of its tokens"),
        (word_level, r"\(WordLevel\).*: only WordPiece"),
        (whitespace, r"\(WordPiece\).*: its words are not those of BERT's pre-tokenizer"),
        (other_normalizer, r"\(WordPiece\).*: its normaliser is not BERT's"),
        (without_mask, r"\(WordPiece\).*: it has no mask_token"),
    ],
)
def test_what_cannot_be_doubled_is_refused_with_the_reason(tmp_path, make, reason):
    tokenizer = make()
    for attempt in (check_wordpiece, lambda t: double_tokenizer(t, SyntheticLanguage("trans"))):
        with pytest.raises(ValueError, match=reason) as caught:
            attempt(tokenizer)
        assert "Take a WordPiece tokenizer, or none to train one" in str(caught.value)
        assert "\n" not in str(caught.value)
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=reason.partition(".*")[0]):
        load_tokenizer(str(tmp_path), INVERTED)


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: "",
        lambda text: text[:500],
        lambda text: "[]",
        lambda text: "{}",
        lambda text: text.replace('"[CLS]":2', '"[CLS]":-2').replace('"[CLS]": 2', '"[CLS]": -2'),
        lambda text: text.replace('"[CLS]":2', '"[CLS]":"2"').replace('"[CLS]": 2', '"[CLS]": "2"'),
        lambda text: text.replace('"WordPiece"', '"None"'),
        lambda text: text.replace("{", "\0"),
    ],
)
def test_a_damaged_tokenizer_is_one_line_that_names_its_folder(tmp_path, tokenizer, damage):
    tokenizer.save_pretrained(tmp_path)
    path = tmp_path / "tokenizer.json"
    damaged = damage(path.read_text())
    assert damaged != path.read_text()
    path.write_text(damaged)
    with pytest.raises(
        ValueError,
        match=r"its tokenizer\.json, tokenizer_config\.json or config\.json does not load \(",
    ) as caught:
        load_tokenizer(str(tmp_path), INVERTED)
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_ids_with_gaps_are_refused(tokenizer):
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    vocabulary = state["model"]["vocab"]
    vocabulary[max(vocabulary, key=vocabulary.get)] += 1
    gappy = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(state)), **SPECIAL_TOKENS
    )
    with pytest.raises(ValueError, match="ids have gaps"):
        double_tokenizer(gappy, SyntheticLanguage("trans"))


def test_a_double_is_not_doubled_again(doubled):
    with pytest.raises(ValueError, match=r"already uses the derived script .* doubled \(again\)"):
        double_tokenizer(*doubled)


# --- words ----------------------------------------------------------------------------------------


def test_words_are_those_of_the_normaliser_and_pre_tokenizer(tokenizer):
    encoder = WordEncoder(tokenizer, SyntheticLanguage("inv"))
    text = "Don't  stop\u200b: foo漢bar [MASK]!"
    expected = ["Don", "'", "t", "stop", ":", "foo", "漢", "bar", "[", "MASK", "]", "!"]
    assert encoder.words(text) == expected


def test_a_literal_mask_in_a_text_stays_text(doubled):
    encoder = WordEncoder(*doubled)
    ids = encoder.original("[MASK]")
    assert doubled[0].mask_token_id not in ids
    assert len(encoder.derived("[MASK]")) == len(ids)


def test_an_encoder_travels_as_json_and_neither_cuts_nor_pads(doubled, embedded):
    double, language = doubled
    state = json.loads(double.backend_tokenizer.to_str())
    backend = Tokenizer.from_str(json.dumps(state))
    backend.enable_truncation(3)
    backend.enable_padding(length=5)
    plain, packed = WordEncoder(double, language), WordEncoder(backend.to_str(), language)
    for sentence in embedded[:50]:
        order = language.order(sentence.words)
        assert encode(packed, sentence.words, order) == encode(plain, sentence.words, order)
    long = "incomprehensibilities"
    assert len(packed.original(long)) == len(plain.original(long)) > 3


def test_twins_have_the_same_tokens_in_number(doubled, embedded):
    encoder, language = WordEncoder(*doubled), doubled[1]
    for sentence in embedded[:200]:
        order = language.order(sentence.words)
        original, derived, pieces = encode(encoder, sentence.words, order)
        assert Counter(i + 600 if i > 4 else i for i in original) == Counter(derived)
        assert sum(pieces) == len(original)
        assert len(pieces) == len(sentence.words)
