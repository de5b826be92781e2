"""Tokenizers: trained, loaded, and doubled, so that a derived token's id is its original's + V."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from tokenizers import Tokenizer, normalizers, pre_tokenizers
from tokenizers.processors import TemplateProcessing
from transformers import AutoTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from hf_alignmlm.data.subwords import CONTINUATION, SPECIAL_TOKENS, blank_tokenizer, train_pieces
from hf_alignmlm.languages.natural import Languages
from hf_alignmlm.languages.spelling import spelling
from hf_alignmlm.languages.synthetic import SyntheticLanguage

INPUTS = ("input_ids", "token_type_ids", "attention_mask")


def train_tokenizer(
    texts: Iterable[str],
    vocab_size: int,
    *,
    kind: str = "wordpiece",
    lowercase: bool = False,
    model_max_length: int = 512,
    doubled: bool = True,
) -> PreTrainedTokenizerFast:
    """Train a tokenizer, cased by default; the same texts give the same ids.

    `kind` is wordpiece, unigram (as XLM-R's) or bpe (byte-level, as RoBERTa's). A vocabulary that
    is to be `doubled` is of WordPiece and leaves out words in the derived script. Words with a
    character that has no room will be [UNK]; a warning says how much of the text that is. The
    vocabulary may be smaller than `vocab_size` where the texts do not fill it. Raises `ValueError`
    for a `vocab_size` that does not hold the special tokens and the characters, and for texts
    without any.
    """
    special, bert = list(SPECIAL_TOKENS.values()), kind == "wordpiece"
    tokenizer, (cls, sep) = blank_tokenizer(kind, lowercase=lowercase), special[2:4]
    tokenizer.post_processor = TemplateProcessing(
        single=f"{cls} $A {sep}",
        # RoBERTa and XLM-R have one type of tokens.
        pair=f"{cls} $A {sep} $B:{bert:d} {sep}:{bert:d}",
        special_tokens=[(token, special.index(token)) for token in (cls, sep)],
    )
    state = train_pieces(tokenizer, texts, vocab_size, doubled=doubled)
    state["added_tokens"] = [t for t in state["added_tokens"] if t["content"] in special]
    return wrap_state(state, model_max_length, SPECIAL_TOKENS, INPUTS if bert else INPUTS[::2])


def wrap_state(
    state: dict[str, Any], model_max_length: int, special: Mapping[str, Any], inputs: Sequence[str]
) -> PreTrainedTokenizerFast:
    """A tokenizer of this JSON, which the stock Auto class loads with the same ids."""
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(state)),
        model_max_length=model_max_length,
        model_input_names=list(inputs),
        **special,
    )


def read_tokenizer(name_or_path: str, **kwargs: Any) -> PreTrainedTokenizerBase:
    """Any checkpoint's tokenizer; ValueError, which names its files, where none reads."""
    try:
        tokenizer = AutoTokenizer.from_pretrained(name_or_path, **kwargs)
        if tokenizer.model_input_names[0] != "input_ids":
            raise ValueError("model_input_names does not begin with input_ids")
    except Exception as error:  # of a damaged file, there is no common class
        reason = str(error).partition("\n")[0] or type(error).__name__
        files = "tokenizer.json, tokenizer_config.json or config.json"
        raise ValueError(f"{name_or_path}: its {files} does not load ({reason})") from None
    return tokenizer


def load_tokenizer(
    name_or_path: str, languages: Languages, **kwargs: Any
) -> PreTrainedTokenizerBase:
    """Any checkpoint's tokenizer, checked to be one that these languages can use.

    Natural ones take any fast tokenizer of a masked LM; <s> and </s> serve as [CLS] and [SEP] of
    one without. A synthetic pair takes BERT's WordPiece.
    """
    tokenizer = read_tokenizer(name_or_path, **kwargs)
    if isinstance(languages, SyntheticLanguage):
        check_wordpiece(tokenizer)
        return tokenizer
    for name, other in (("cls_token", "bos_token"), ("sep_token", "eos_token")):
        if getattr(tokenizer, name) is None:
            setattr(tokenizer, name, getattr(tokenizer, other))
    reason = f"it has no {missing[0]}" if (missing := _missing(tokenizer)) else ""
    if getattr(tokenizer, "backend_tokenizer", None) is None:
        reason = "it is no fast tokenizer"
    elif max(tokenizer.get_vocab().values()) >= len(tokenizer):
        reason = "its ids have gaps"
    if reason:
        raise ValueError(
            f"{name_or_path}: its tokenizer serves no masked LM here: {reason}. Take another one, "
            "or none to train one"
        )
    return tokenizer


def _missing(tokenizer: PreTrainedTokenizerBase) -> list[str]:
    return [name for name in SPECIAL_TOKENS if getattr(tokenizer, name, None) is None]


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
        elif missing := _missing(tokenizer):
            reason = f"it has no {missing[0]}"
    if reason:
        raise ValueError(
            f"{tokenizer.name_or_path or 'this'} tokenizer ({kind}) cannot be doubled into a "
            f"second script: {reason}. Take a WordPiece tokenizer, or none to train one"
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
    doubled = wrap_state(state, tokenizer.model_max_length, special, INPUTS)
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
