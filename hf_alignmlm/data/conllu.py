"""CoNLL-U files to sentences."""

import zlib
from collections.abc import Collection, Iterator
from operator import getitem
from pathlib import Path
from typing import Any

import conllu

from hf_alignmlm.files import open_file
from hf_alignmlm.languages.word_order import Sentence, plan_tree

# The columns of a tree, and the names that they have in rows.
TREE_ALIASES = {"upos": ("upos",), "heads": ("heads", "head"), "deprels": ("deprels", "deprel")}


def tree_columns(names: Collection[str], prefix: str = "") -> dict[str, str]:
    """The columns of a tree and their names, behind `prefix`, among `names`; none if one lacks."""
    columns = {
        column: prefix + name
        for column, aliases in TREE_ALIASES.items()
        for name in reversed(aliases)
        if prefix + name in names
    }
    return columns if len(columns) == len(TREE_ALIASES) else {}


def read_conllu(path: str | Path, *, trees: bool = True) -> Iterator[Sentence]:
    """The sentences of a CoNLL-U file (`.gz` or plain), without multiword tokens and empty nodes.

    Without `trees`, parts of speech and heads may be missing ("_" and None). Raises OSError, and
    ValueError that names file and sentence for no CoNLL-U, no tree, no tag or no sentence.
    """
    number = 0
    as_they_are: Any = dict.fromkeys(("xpos", "feats", "head", "deps", "misc"), getitem)
    try:
        with open_file(path) as lines:
            for number, tokens in enumerate(conllu.parse_incr(lines, None, as_they_are), 1):
                where = f"{path}: sentence {number} ({tokens.metadata.get('sent_id', 'no id')})"
                words = [token for token in tokens if isinstance(token["id"], int)]
                if [word["id"] for word in words] != list(range(1, len(words) + 1)):
                    raise ValueError(f"{where}: words are not numbered 1, 2, 3, …")
                if not all("deprel" in word for word in words):
                    raise ValueError(f"{where}: a row has fewer than 8 columns: not CoNLL-U")
                forms, upos, deprels = (
                    tuple(word[column] for word in words) for column in ("form", "upos", "deprel")
                )
                heads: Any = tuple(_head(word["head"], where) for word in words)
                if trees and "_" in upos:
                    raise ValueError(f"{where}: words without a part of speech (UPOS)")
                if trees or None not in heads:
                    plan_tree(heads, where)
                yield Sentence(forms, upos, heads, deprels)
    except (conllu.exceptions.ParseException, EOFError, zlib.error) as error:
        raise ValueError(f"{path}: not CoNLL-U after sentence {number}: {error}") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not UTF-8 after sentence {number}") from error
    if not number:
        raise ValueError(f"{path}: no sentences")


def _head(text: str, where: str) -> int | None:
    if text != "_" and not text.isdecimal():
        raise ValueError(f"{where}: the head {text!r} is not the number of a word")
    return None if text == "_" else int(text)
