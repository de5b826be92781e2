"""One WordPiece vocabulary for two languages: a derived token's id is its original's id + V."""

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import chain, islice
from typing import Any

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers
from tokenizers.processors import TemplateProcessing
from tokenizers.trainers import WordPieceTrainer
from transformers import AutoTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from hf_alignmlm.languages.spelling import DERIVED_CHARACTERS, is_punctuation, spelling
from hf_alignmlm.languages.synthetic import SyntheticLanguage

SPECIAL_TOKENS = {
    f"{name}_token": f"[{name.upper()}]" for name in ("pad", "unk", "cls", "sep", "mask")
}
CONTINUATION = "##"
MAX_ALPHABET = 1000
LONGEST_WORD = 1000


def blank_tokenizer(*, lowercase: bool = False) -> Tokenizer:
    """BERT's normaliser, pre-tokenizer and decoder, without a vocabulary."""
    tokenizer = Tokenizer(models.WordPiece(unk_token=SPECIAL_TOKENS["unk_token"]))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece(prefix=CONTINUATION)
    return tokenizer


def train_tokenizer(
    texts: Iterable[str], vocab_size: int, *, lowercase: bool = False, model_max_length: int = 512
) -> PreTrainedTokenizerFast:
    """Train a WordPiece tokenizer, cased by default; the same texts give the same ids.

    The vocabulary may be smaller than `vocab_size` where the texts do not fill it. Raises
    `ValueError` for a `vocab_size` that does not hold the special tokens and the characters, and
    for texts without any. Words in the derived script, or with a character among the rarest, stay
    out: they will be [UNK].
    """
    tokenizer = blank_tokenizer(lowercase=lowercase)
    normalized, blocks = map(tokenizer.normalizer.normalize_str, texts), []
    while block := "\n".join(islice(normalized, 1000)):
        blocks.append(block.encode())  # two passes over a text hold it in as little as they can

    def lines() -> Iterator[str]:
        for block in blocks:
            yield from block.decode().split("\n")

    counts = Counter(chain.from_iterable(lines()))
    # The trainer numbers characters in the order of a hash and breaks ties between merges by these
    # numbers. With the characters given beforehand, in order, as if they were special tokens, its
    # result is a function of the text alone.
    usual = [c for c, n in counts.most_common() if n > 1 and not c.isspace()]
    characters = sorted([c for c in usual if c not in DERIVED_CHARACTERS][:MAX_ALPHABET])
    if not characters:
        raise ValueError(
            "there is no text to train a tokenizer on: the corpus is empty, or all of it uses the "
            "derived script"
        )
    alphabet = characters + [CONTINUATION + c for c in characters if not is_punctuation(c)]
    first = [*SPECIAL_TOKENS.values(), *alphabet]
    if vocab_size <= len(first):
        raise ValueError(
            f"vocab_size {vocab_size} is too small: special tokens and the characters of this text "
            f"alone take {len(first)}"
        )
    trainer = WordPieceTrainer(vocab_size=vocab_size, special_tokens=first, show_progress=False)
    # The trainer would number any other character, too, and past `vocab_size`.
    others = [re.escape(c) for c in counts if not c.isspace() and c not in characters]
    tokenizer.train_from_iterator(_trainable(lines(), "".join(others)), trainer)
    cls, sep = SPECIAL_TOKENS["cls_token"], SPECIAL_TOKENS["sep_token"]
    tokenizer.post_processor = TemplateProcessing(
        single=f"{cls} $A {sep}",
        pair=f"{cls} $A {sep} $B:1 {sep}:1",
        special_tokens=[(token, tokenizer.token_to_id(token)) for token in (cls, sep)],
    )
    state = json.loads(tokenizer.to_str())
    state["added_tokens"] = [t for t in state["added_tokens"] if t["content"] not in alphabet]
    return _wrap(state, model_max_length, SPECIAL_TOKENS)


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


def _wrap(
    state: dict[str, Any], model_max_length: int, special: dict[str, str]
) -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(state)),
        model_max_length=model_max_length,
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
        **special,
    )


def load_tokenizer(name_or_path: str, **kwargs: Any) -> PreTrainedTokenizerBase:
    """Any checkpoint's tokenizer, checked to be one that a synthetic language can use."""
    try:
        tokenizer = AutoTokenizer.from_pretrained(name_or_path, **kwargs)
        if tokenizer.model_input_names[0] != "input_ids":
            raise ValueError("model_input_names does not begin with input_ids")
    except Exception as error:  # of a damaged file, there is no common class
        reason = str(error).partition("\n")[0] or type(error).__name__
        files = "tokenizer.json, tokenizer_config.json or config.json"
        raise ValueError(f"{name_or_path}: its {files} does not load ({reason})") from None
    check_wordpiece(tokenizer)
    return tokenizer


def check_wordpiece(tokenizer: PreTrainedTokenizerBase) -> None:
    """Raise `ValueError`, with the reason, for a tokenizer that cannot be doubled."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    kind = "no fast tokenizer" if backend is None else type(backend.model).__name__
    reason = {
        "WordPiece": "",
        "BPE": "byte-level BPE splits text below the level of characters",
        "Unigram": "SentencePiece makes spaces part of its tokens",
    }.get(kind, "only WordPiece keeps words apart as a synthetic language needs them")
    if backend is not None and not reason:
        if not isinstance(backend.pre_tokenizer, pre_tokenizers.BertPreTokenizer):
            reason = "its words are not those of BERT's pre-tokenizer"
        elif not isinstance(backend.normalizer, normalizers.BertNormalizer):
            reason = "its normaliser is not BERT's"
        elif missing := [n for n in SPECIAL_TOKENS if getattr(tokenizer, n, None) is None]:
            reason = f"it has no {missing[0]}"
    if reason:
        raise ValueError(
            f"this tokenizer ({kind}) cannot be doubled into a second script: {reason}. "
            "Take a WordPiece tokenizer, or none to train one"
        )


def spelling_all(language: SyntheticLanguage, tokens: Iterable[str]) -> SyntheticLanguage:
    """The language able to spell every character of these tokens."""
    extra = {c for token in tokens for c in token if ord(c) not in spelling().table}
    return replace(language, alphabet="".join(sorted(extra)))


def double_tokenizer(
    tokenizer: PreTrainedTokenizerBase, language: SyntheticLanguage
) -> tuple[PreTrainedTokenizerFast, SyntheticLanguage]:
    """The tokenizer of both scripts, and the language able to spell all of its characters.

    Token `i` of V keeps its id, and its derived spelling gets the id `i + V`: 2V tokens in all. The
    spellings of special tokens never occur in a text, so both languages share the special tokens.
    """
    check_wordpiece(tokenizer)
    vocabulary: dict[str, int] = tokenizer.get_vocab()
    size = len(vocabulary)
    if sorted(vocabulary.values()) != list(range(size)):
        raise ValueError("this tokenizer's ids have gaps: it cannot be doubled by adding V")
    language = spelling_all(language, vocabulary.keys() - set(tokenizer.all_special_tokens))
    table = spelling(language.alphabet).table

    def derived(token: str) -> str:
        prefix = CONTINUATION if len(token) > 2 and token.startswith(CONTINUATION) else ""
        return prefix + token.removeprefix(prefix).translate(table)

    state = json.loads(tokenizer.backend_tokenizer.to_str())
    state["model"]["vocab"] = vocabulary | {derived(t): i + size for t, i in vocabulary.items()}
    special = {name: str(getattr(tokenizer, name)) for name in SPECIAL_TOKENS}
    doubled = _wrap(state, tokenizer.model_max_length, special)
    if len(doubled) != 2 * size:
        raise ValueError("this tokenizer's spellings are not one-to-one: it cannot be doubled")
    return doubled, language


def reserved_ids(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The ids of special tokens and of their derived spellings: no words of either language."""
    vocabulary = tokenizer.get_vocab()
    spelled = (token.translate(spelling().table) for token in tokenizer.all_special_tokens)
    twins = (vocabulary[token] for token in spelled if token in vocabulary)
    return sorted({*tokenizer.all_special_ids, *twins})


def is_doubled(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether this tokenizer has both scripts: its special tokens then have derived spellings."""
    return len(reserved_ids(tokenizer)) == 2 * len(set(tokenizer.all_special_ids))


def vocabulary_pairs(
    tokenizer: PreTrainedTokenizerBase, language: SyntheticLanguage
) -> list[tuple[int, int]]:
    """(id, id + V) of each token of a doubled tokenizer that has a spelling of its own.

    Special tokens have none, nor have the words that the language shares with the original.
    """
    size = len(tokenizer) // 2
    special = set(tokenizer.all_special_ids)
    tokens = tokenizer.convert_ids_to_tokens(list(range(size)))
    return [
        (i, i + size)
        for i, token in enumerate(tokens)
        if i not in special and (token.startswith(CONTINUATION) or language.maps(token))
    ]
