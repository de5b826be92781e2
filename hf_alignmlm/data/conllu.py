"""CoNLL-U files to sentences."""

from collections.abc import Collection, Iterator
from operator import getitem
from pathlib import Path
from typing import Any

import conllu

from hf_alignmlm.files import read_lines
from hf_alignmlm.languages.word_order import Sentence, plan_tree

# The columns of a tree in rows of any file, and what else they are called.
TREE_ALIASES = {"upos": "upos", "heads": "head", "deprels": "deprel"}


def tree_columns(names: Collection[str], prefix: str = "") -> dict[str, str]:
    """The columns of a tree and their names, behind `prefix`, among `names`; none if one lacks."""
    pairs = [(column, prefix + column, prefix + other) for column, other in TREE_ALIASES.items()]
    columns = {column: name if name in names else other for column, name, other in pairs}
    return columns if set(columns.values()) <= set(names) else {}


def read_conllu(path: str | Path, *, trees: bool = True) -> Iterator[Sentence]:
    """The sentences of a CoNLL-U file (`.gz` or plain), without multiword tokens and empty nodes.

    Without `trees`, all tags ("_") and heads (None) of a sentence may be missing. Raises OSError,
    and ValueError that names file and sentence for no CoNLL-U, no tree, no tag or no sentence.
    """
    number = 0
    as_they_are: Any = dict.fromkeys(("xpos", "feats", "head", "deps", "misc"), getitem)
    lines: Any = (f"{line}\n" for line in read_lines(path))
    for number, block in enumerate(conllu.parse_sentences(lines), 1):
        try:
            tokens = conllu.parse_token_and_metadata(block, None, as_they_are)
        except conllu.exceptions.ParseException as error:
            raise ValueError(f"{path}: not CoNLL-U after sentence {number - 1}: {error}") from error
        where = f"{path}: sentence {number} ({tokens.metadata.get('sent_id', 'no id')})"
        words = [token for token in tokens if isinstance(token["id"], int)]
        if [word["id"] for word in words] != list(range(1, len(words) + 1)):
            raise ValueError(f"{where}: words are not numbered 1, 2, 3, …")
        if not all("deprel" in word for word in words):
            raise ValueError(f"{where}: a row has fewer than 8 columns: not CoNLL-U")
        columns = ("form", "upos", "head", "deprel")
        forms, upos, heads, deprels = (tuple(word[c] for word in words) for c in columns)
        heads = tuple(int(h) if h.isdecimal() else None if h == "_" else h for h in heads)
        if trees and "_" in upos:
            raise ValueError(f"{where}: words without a part of speech (UPOS)")
        if trees or not {None}.issuperset(heads):
            plan_tree(heads, where)
        yield Sentence(forms, upos, heads, deprels)
    if not number:
        raise ValueError(f"{path}: no sentences")
