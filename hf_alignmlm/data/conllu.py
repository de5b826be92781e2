"""CoNLL-U files to sentences."""

import zlib
from collections.abc import Iterator
from pathlib import Path

import conllu

from hf_alignmlm.files import open_file
from hf_alignmlm.languages.word_order import Sentence, plan_tree


def read_conllu(path: str | Path, *, trees: bool = True, tags: bool = False) -> Iterator[Sentence]:
    """The sentences of a CoNLL-U file (`.gz` or plain), without multiword tokens and empty nodes.

    Heads are checked if `trees`, parts of speech if `tags`. Raises OSError, and ValueError that
    names file and sentence for no CoNLL-U, no tree, no part of speech or no sentence.
    """
    number = 0
    try:
        with open_file(path) as lines:
            for number, tokens in enumerate(conllu.parse_incr(lines), 1):
                where = f"{path}: sentence {number} ({tokens.metadata.get('sent_id', 'no id')})"
                words = [token for token in tokens if isinstance(token["id"], int)]
                if [word["id"] for word in words] != list(range(1, len(words) + 1)):
                    raise ValueError(f"{where}: words are not numbered 1, 2, 3, …")
                columns = ("form", "upos", "head", "deprel")
                sentence = Sentence(*(tuple(word[c] for word in words) for c in columns))
                if tags and "_" in sentence.upos:
                    raise ValueError(f"{where}: words without a part of speech (UPOS)")
                if trees:
                    plan_tree(sentence.heads, where)
                yield sentence
    except (conllu.exceptions.ParseException, KeyError, EOFError, zlib.error) as error:
        raise ValueError(f"{path}: not CoNLL-U after sentence {number}: {error}") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not UTF-8 after sentence {number}") from error
    if not number:
        raise ValueError(f"{path}: no sentences")
