"""New vocabulary for an old checkpoint: pieces made of its own, and what their rows start as.

As in WECHSEL (arXiv 2112.06598) and FOCUS (2305.14481) a new row is a mixture of old ones; here a
dictionary says of which, and no vectors from outside are needed.
"""

import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

from tokenizers import Tokenizer, models, pre_tokenizers
from tokenizers.trainers import BpeTrainer
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from hf_alignmlm.data.dictionary import Pair, Pieces
from hf_alignmlm.data.encoding import WordEncoder
from hf_alignmlm.data.tokenizer import continuation, wrap_state
from hf_alignmlm.languages.spelling import is_punctuation

# Old ids and their weights, which sum to 1; none for a piece that no old one is part of.
Mixture = dict[int, float]
# The code point of the first old piece, while pieces are merged as if they were characters.
FIRST_CODE = 0x10000
# Pieces of a word that is learned from, at most: the trainer takes a time quadratic in them.
LONGEST = 100


def extend_tokenizer(
    tokenizer: PreTrainedTokenizerBase, texts: Iterable[str], count: int
) -> PreTrainedTokenizerFast:
    """The tokenizer with at most `count` more pieces, learned from `texts`; old ids stay.

    Characters that it lacks come first, as half of the new pieces at most; then old pieces are
    merged, the most frequent neighbours first (BPE). Old text stays as it is but for this: BPE
    makes its old pieces first and may merge some of them further; WordPiece takes a new piece that
    is longer than the old one at its place, and Unigram one that is likelier. Raises `ValueError`
    for a tokenizer of another model, and for texts that give no piece.
    """
    kind = json.loads(tokenizer.backend_tokenizer.to_str())["model"]["type"]
    if kind not in ("WordPiece", "BPE", "Unigram"):
        raise ValueError(
            f"a {kind} tokenizer cannot be extended: take a checkpoint with WordPiece, BPE or "
            "Unigram, or leave --extend_vocab out"
        )
    split = WordEncoder(tokenizer).words
    words = Counter(chain.from_iterable(map(split, texts)))
    characters = _missing_characters(tokenizer, words)[: count // 2]
    extended = _extended(tokenizer, dict.fromkeys(characters, None), [])
    pieces, merges = _merged(extended, words, count - len(characters))
    if not characters and not pieces:
        raise ValueError("the text of the new languages gives no new piece: give more of it")
    return _extended(extended, pieces, merges)


def _missing_characters(tokenizer: PreTrainedTokenizerBase, words: Counter[str]) -> list[str]:
    """The forms of characters that make words unknown, the most frequent first."""
    encode, prefix = WordEncoder(tokenizer).original, continuation(tokenizer)
    normalizer, vocabulary = tokenizer.backend_tokenizer.normalizer, tokenizer.get_vocab()
    counts: Counter[str] = Counter()
    for word, n in words.items():
        if tokenizer.unk_token_id in encode(word):
            for c in normalizer.normalize_str(word) if normalizer else word:
                counts[c] += n
    forms: list[str] = []
    for c, n in counts.most_common():
        if n > 1 and not c.isspace():
            forms += [c] if is_punctuation(c) or not prefix else [c, prefix + c]
    return [form for form in forms if form not in vocabulary]


def _merged(
    tokenizer: PreTrainedTokenizerBase, words: Counter[str], count: int
) -> tuple[dict[str, float], list[tuple[str, str]]]:
    """New pieces with their log-probabilities, and the merges that make them."""
    units_of, units = WordEncoder(tokenizer).units, Counter[Pieces]()
    for word, n in words.items():
        for unit in units_of(word):
            if tokenizer.unk_token_id not in unit and len(unit) <= LONGEST:
                units[unit] += n
    used = sorted(set(chain.from_iterable(units)))
    codes = {i: chr(FIRST_CODE + number) for number, i in enumerate(used)}
    coded = {"".join(map(codes.__getitem__, unit)): n for unit, n in units.items()}
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    size = len(used) + count
    trainer = BpeTrainer(vocab_size=size, min_frequency=2, show_progress=False)
    bpe.train_from_iterator((f"{word} " * n for word, n in coded.items()), trainer)

    prefix = continuation(tokenizer)
    tokens = tokenizer.convert_ids_to_tokens(used)

    def spelled(word: str) -> str:
        first, *others = (tokens[ord(c) - FIRST_CODE] for c in word)
        return "".join([first, *(token.removeprefix(prefix) for token in others)])

    counts: Counter[str] = Counter()
    for word, n in coded.items():
        for token in bpe.model.tokenize(word):
            counts[spelled(token.value)] += n
    merges = [(spelled(a), spelled(b)) for a, b in json.loads(bpe.to_str())["model"]["merges"]]
    vocabulary, total = tokenizer.get_vocab(), counts.total()
    merged = (a + b.removeprefix(prefix) for a, b in merges)
    new = dict.fromkeys(piece for piece in merged if piece not in vocabulary)
    return {piece: math.log(max(counts[piece], 1) / total) for piece in new}, merges


def _extended(
    tokenizer: PreTrainedTokenizerBase,
    pieces: Mapping[str, float | None],
    merges: Sequence[tuple[str, str]],
) -> PreTrainedTokenizerFast:
    """The tokenizer with these pieces behind its own; None is the least score that it has."""
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    model, ids = state["model"], tokenizer.get_vocab()
    # Added tokens would move behind the new pieces, were they not among the model's own.
    if model["type"] == "Unigram":
        least = min(score for _, score in model["vocab"])
        added = sorted((i, token) for token, i in ids.items() if i >= len(model["vocab"]))
        model["vocab"] += [[token, least] for _, token in added]
        model["vocab"] += [[p, least if s is None else s] for p, s in pieces.items()]
    else:
        model["vocab"] = ids | {piece: len(ids) + n for n, piece in enumerate(pieces)}
    if model["type"] == "BPE":
        known = set(map(tuple, model["merges"]))
        model["merges"] += [merge for merge in merges if merge not in known]
    special: dict[str, Any] = dict(tokenizer.special_tokens_map)
    special["extra_special_tokens"] = tokenizer.extra_special_tokens
    return wrap_state(state, tokenizer.model_max_length, special, tokenizer.model_input_names)


def initial_rows(
    old: PreTrainedTokenizerBase, new: PreTrainedTokenizerBase, pairs: Iterable[Pair] = ()
) -> list[Mixture]:
    """The old rows that each new one starts as the mean of, from id `len(old)` on.

    `pairs` are those of the dictionary that training may see, in ids of `new`. A piece that is a
    whole translated word takes its translations' rows, weighed by 1 / the number of translations
    that each has; any other piece takes those of its old pieces.
    """
    size, pairs = len(old), list(pairs)
    own = _own_pieces(new.convert_ids_to_tokens(list(range(size, len(new)))), old)
    translations = Counter(source for source, _ in pairs)
    mixtures = [Mixture() for _ in own]

    def add(mixture: Mixture, ids: Sequence[int], weight: float) -> None:
        for i in ids:
            parts = own[i - size] if i >= size else [i]
            for part in parts:
                mixture[part] = mixture.get(part, 0.0) + weight / len(ids) / len(parts)

    for source, target in pairs:
        if len(target) == 1 and target[0] >= size:
            add(mixtures[target[0] - size], source, 1 / translations[source])
    for number, mixture in enumerate(mixtures):
        if not mixture:
            add(mixture, [size + number], 1.0)
    totals = [sum(mixture.values()) for mixture in mixtures]
    return [
        {i: weight / total for i, weight in mixture.items()}
        for mixture, total in zip(mixtures, totals, strict=True)
    ]


def _own_pieces(tokens: Iterable[str], tokenizer: PreTrainedTokenizerBase) -> list[list[int]]:
    """The ids of the pieces that a tokenizer makes of another's tokens, without unknown ones.

    A model of pieces takes them as text: of "##tion" it makes "##tio" and "##n".
    """
    model, prefix = tokenizer.backend_tokenizer.model, continuation(tokenizer)
    vocabulary = tokenizer.get_vocab().keys()

    def known(token: str) -> Iterator[str]:
        # A character that it lacks makes all of a word unknown: "##naïve" is "##na" and "##ve".
        text = token.removeprefix(prefix)
        runs = "".join(c if {c, prefix + c} & vocabulary else " " for c in text).split(" ")
        for number, run in enumerate(runs):
            if run:
                yield prefix + run if number or text != token else run

    texts = (known(token) if prefix else [token] for token in tokens)
    ids = ([piece.id for text in parts for piece in model.tokenize(text)] for parts in texts)
    return [[i for i in row if i != tokenizer.unk_token_id] for row in ids]
