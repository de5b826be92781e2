"""The pieces of a vocabulary, learned from text as a function of the text alone."""

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import accumulate, chain, islice
from typing import Any

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers
from tokenizers.trainers import BpeTrainer, UnigramTrainer, WordPieceTrainer
from transformers.utils import logging

from hf_alignmlm.languages.spelling import DERIVED_CHARACTERS, is_punctuation, spelling

logger = logging.get_logger(__name__)

SPECIAL_TOKENS = {
    f"{name}_token": f"[{name.upper()}]" for name in ("pad", "unk", "cls", "sep", "mask")
}
CONTINUATION = "##"
# Characters that a vocabulary has at least; of more, as many as its size allows.
MAX_ALPHABET = 1000
# The share of a text whose characters may be left out without a warning.
RARE = 1e-4
LONGEST_WORD = 1000
# How much the trainer of Unigram adds to the score from one rare character to the next.
SCORE_STEP = 1e-4
NO_TEXT = (
    "there is no text to train a tokenizer on: the corpus is empty, or all of it uses the derived "
    "script"
)


def blank_tokenizer(kind: str = "wordpiece", *, lowercase: bool = False) -> Tokenizer:
    """A tokenizer without a vocabulary: like BERT's, XLM-R's (unigram) or RoBERTa's (bpe)."""
    if kind == "wordpiece":
        tokenizer = Tokenizer(models.WordPiece(unk_token=SPECIAL_TOKENS["unk_token"]))
        tokenizer.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        tokenizer.decoder = decoders.WordPiece(prefix=CONTINUATION)
        return tokenizer
    if kind == "unigram":
        tokenizer, forms = Tokenizer(models.Unigram()), [normalizers.Nmt(), normalizers.NFKC()]
        parts = [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()]
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(parts)
        tokenizer.decoder = decoders.Metaspace()
    elif kind == "bpe":
        tokenizer, forms = Tokenizer(models.BPE()), [normalizers.NFC()]
        # With a space before the first word, a word has the same ids wherever it stands.
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
        tokenizer.decoder = decoders.ByteLevel()
    else:
        raise ValueError(f"unknown tokenizer_type {kind!r}: take wordpiece, unigram or bpe")
    forms += [normalizers.Lowercase()] if lowercase else []
    tokenizer.normalizer = normalizers.Sequence(forms)
    return tokenizer


def train_pieces(
    tokenizer: Tokenizer, texts: Iterable[str], vocab_size: int, *, doubled: bool
) -> dict[str, Any]:
    """Train a blank tokenizer; gives its JSON. What is to be `doubled` has no derived script."""
    if isinstance(tokenizer.model, models.WordPiece):
        return _train_wordpiece(tokenizer, texts, vocab_size, doubled)
    special = list(SPECIAL_TOKENS.values())
    options: Any = {"vocab_size": vocab_size, "special_tokens": special, "show_progress": False}
    if isinstance(tokenizer.model, models.Unigram):
        trainer: Any = UnigramTrainer(unk_token=SPECIAL_TOKENS["unk_token"], **options)
    else:
        options["initial_alphabet"] = sorted(pre_tokenizers.ByteLevel.alphabet())
        trainer = BpeTrainer(**options)
    try:
        tokenizer.train_from_iterator(_trainable(texts, ""), trainer)
    except Exception as error:
        if type(error) is not Exception:
            raise
        raise ValueError(f"vocab_size {vocab_size} is too small: {error}") from None
    state = json.loads(tokenizer.to_str())
    model = state["model"]
    if isinstance(tokenizer.model, models.Unigram):
        model["vocab"] = _settled(model["vocab"])
    else:
        model["unk_token"] = SPECIAL_TOKENS["unk_token"]
    _check_size(vocab_size, len(model["vocab"]) - 1)
    if not model.get("merges", len(model["vocab"]) > len(special)):
        raise ValueError(NO_TEXT)
    # As RoBERTa's: a mask takes the space before it, which else would be a token.
    for token in state["added_tokens"]:
        token["lstrip"] = token["content"] == SPECIAL_TOKENS["mask_token"]
    return state


def _settled(vocabulary: list[list[Any]]) -> list[list[Any]]:
    """The pieces of Unigram without what the order of the trainer's hash left in them.

    It sums up in that order, so that the last digits of scores differ, and then ids. It also gives
    characters that are too rare for a score one step more than the last each, from the least score
    on: these, and others as low, get the least.
    """
    special = SPECIAL_TOKENS.values()
    pieces = [(piece, score) for piece, score in vocabulary if piece not in special]
    least = min((score for _, score in pieces), default=0.0)
    low = least + SCORE_STEP * sum(len(piece) == 1 for piece, _ in pieces)
    scores = {p: round(least if len(p) == 1 and s <= low else s, 6) for p, s in pieces}
    ranked = sorted(scores, key=lambda piece: (-scores[piece], piece))
    return [*([token, 0.0] for token in special), *([piece, scores[piece]] for piece in ranked)]


def _check_size(vocab_size: int, least: int) -> None:
    if vocab_size <= least:
        raise ValueError(
            f"vocab_size {vocab_size} is too small: special tokens and the characters of this text "
            f"alone take {least}"
        )


def _train_wordpiece(
    tokenizer: Tokenizer, texts: Iterable[str], vocab_size: int, doubled: bool
) -> dict[str, Any]:
    normalized, blocks = map(tokenizer.normalizer.normalize_str, texts), []
    while block := "\n".join(islice(normalized, 1000)):
        blocks.append(block.encode())  # two passes over a text hold it in as little as they can

    def lines() -> Iterator[str]:
        for block in blocks:
            yield from block.decode().split("\n")

    counts = Counter(chain.from_iterable(lines()))
    usual = [c for c, n in counts.most_common() if n > 1 and not c.isspace()]
    if doubled:
        usual = [c for c in usual if c not in DERIVED_CHARACTERS]
    if doubled and len(usual) > MAX_ALPHABET:
        free = DERIVED_CHARACTERS - spelling().characters
        usual = usual[: sum(not is_punctuation(c) for c in free)]
    if not usual:
        raise ValueError(NO_TEXT)
    inner = _inner(tokenizer, usual)
    # Of many characters, half of the vocabulary is for the rest of its pieces, if these fill it.
    sizes = accumulate(1 + (c in inner) for c in usual)
    count = max(MAX_ALPHABET, sum(size <= vocab_size // 2 for size in sizes))
    # The trainer numbers characters in the order of a hash and breaks ties between merges by these
    # numbers. With the characters given beforehand, in order, as if they were special tokens, its
    # result is a function of the text alone.
    characters = sorted(usual[:count])
    alphabet = characters + [CONTINUATION + c for c in characters if c in inner]
    first = [*SPECIAL_TOKENS.values(), *alphabet]
    _check_size(vocab_size, len(first))
    trainer = WordPieceTrainer(vocab_size=vocab_size, special_tokens=first, show_progress=False)
    # The trainer would number any other character, too, and past `vocab_size`.
    others = [re.escape(c) for c in counts.keys() - set(characters) if not c.isspace()]
    tokenizer.train_from_iterator(_trainable(lines(), "".join(others)), trainer)
    state = json.loads(tokenizer.to_str())
    vocabulary = state["model"]["vocab"]
    for c in usual[count:]:
        forms = [c, CONTINUATION + c][: 1 + (c in inner)]
        if len(vocabulary) + len(forms) <= vocab_size:
            vocabulary |= {form: len(vocabulary) + n for n, form in enumerate(forms)}
    _warn_of_lost(counts, vocabulary)
    return state


def _warn_of_lost(counts: Counter[str], vocabulary: dict[str, int]) -> None:
    whole = sum(n for c, n in counts.items() if not c.isspace())
    lost = [n for c, n in counts.items() if not (c.isspace() or c in vocabulary)]
    if sum(lost) > RARE * whole:
        logger.warning(
            "the vocabulary leaves out %d characters, %.2g %% of the text, whose words will be "
            "[UNK]: raise --vocab_size, or give more text if each is there but once",
            *(len(lost), 100 * sum(lost) / whole),
        )


def _inner(tokenizer: Tokenizer, characters: list[str]) -> set[str]:
    """The characters that stand inside of words: no punctuation and, of many, no ideographs."""
    normalize, many = tokenizer.normalizer.normalize_str, len(characters) > MAX_ALPHABET
    words = [c for c in characters if not is_punctuation(c)]
    return {c for c in words if not (many and " " in normalize(f"a{c}"))}


def _trainable(lines: Iterable[str], others: str) -> Iterator[str]:
    """The lines without words that have one of these characters, or that are longest.

    The trainer takes a time that is quadratic in the length of a word; WordPiece makes [UNK] of
    those beyond a hundred characters.
    """
    other = re.compile(f"[{others}]" if others else "(?!)")
    split = pre_tokenizers.BertPreTokenizer().pre_tokenize_str

    def shortened(run: re.Match[str]) -> str:
        if other.search(run[0]):
            return ""
        if len(run[0]) <= LONGEST_WORD:
            return run[0]
        return " ".join(word for word, _ in split(run[0]) if len(word) <= LONGEST_WORD)

    for line in lines:
        changes = len(line) > LONGEST_WORD or other.search(line)
        yield re.sub(r"\S+", shortened, line) if changes else line
