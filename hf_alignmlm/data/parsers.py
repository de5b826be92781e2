"""Parsers of dependency trees: pipelines of spaCy's or stanza's, behind one interface."""

import hashlib
import importlib
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from hf_alignmlm.files import sha256
from hf_alignmlm.languages.word_order import Sentence

# The universal relations of UD.
RELATIONS = """acl advcl advmod amod appos aux case cc ccomp clf compound conj cop csubj dep det
discourse dislocated expl fixed flat goeswith iobj list mark nmod nsubj nummod obj obl orphan
parataxis punct reparandum root vocative xcomp"""


def library(name: str) -> Any:
    """A library that not everybody has; ValueError that says how to get it."""
    try:
        return importlib.import_module(name)
    except ImportError:
        raise ValueError(f"{name} is not installed: pip install hf-alignmlm[{name}]") from None


def digest_files(files: Iterable[Path], *more: Any) -> str:
    """A digest of the contents of files, and of more that JSON can write."""
    total = hashlib.sha256(json.dumps(more).encode())
    for file in files:
        total.update(bytes.fromhex(sha256(file)))
    return total.hexdigest()[:32]


class SpacyParser:
    """A pipeline of spaCy's, saved in a folder; `digest` changes with all that trees depend on."""

    def __init__(self, folder: Path) -> None:
        spacy = library("spacy")
        if not (folder / "config.cfg").is_file():
            raise ValueError(f"{folder} is no parser: name a folder of spaCy's, or stanza:en")
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        self.digest = digest_files(files, spacy.__version__)
        try:
            self.nlp = spacy.load(folder, exclude=["ner", "lemmatizer"])
        except Exception as error:  # each damaged file has an error of its own
            raise ValueError(f"{folder}: spaCy cannot load this parser: {error}") from error
        self.language, self._doc = self.nlp.lang, spacy.tokens.Doc
        has_parser = "parser" in self.nlp.pipe_names
        labels = self.nlp.get_pipe("parser").labels if has_parser else ["no parser"]
        if foreign := {label.partition(":")[0].lower() for label in labels} - {*RELATIONS.split()}:
            raise ValueError(f"{folder}: not relations of UD: {', '.join(sorted(foreign))}")
        if not all(next(self.trees([["word"]])).upos):
            raise ValueError(f"{folder}: it gives no parts of speech")

    def words(self, sentences: Sequence[str]) -> list[list[str]]:
        tokenizer = self.nlp.tokenizer
        return [[token.text for token in tokenizer(s) if not token.is_space] for s in sentences]

    def trees(self, sentences: Iterable[Sequence[str]]) -> Iterator[Sentence]:
        given = [tuple(words) for words in sentences]
        # From words even if they are the tokenizer's: its tokens have norms that a treebank's lack.
        starts = ([i == 0 for i in range(len(words))] for words in given)
        docs = (
            self._doc(self.nlp.vocab, [word or "_" for word in words], sent_starts=first)
            for words, first in zip(given, starts, strict=True)
        )
        for words, parsed in zip(given, self.nlp.pipe(docs), strict=True):
            heads = (0 if word.head == word else word.head.i + 1 for word in parsed)
            relations = ("root" if word.dep_ == "ROOT" else word.dep_ for word in parsed)
            yield Sentence(words, tuple(w.pos_ for w in parsed), tuple(heads), tuple(relations))


class StanzaParser:
    """stanza's pipeline of a language; its models must have been downloaded."""

    def __init__(self, language: str) -> None:
        self.language, self._stanza = language, library("stanza")
        self._tokenizer = self._pipeline("tokenize", tokenize_no_ssplit=True)
        self._parser = self._pipeline("tokenize,pos,lemma,depparse", tokenize_pretokenized=True)
        options = {**self._tokenizer.config, **self._parser.config}
        models = sorted(v for v in options.values() if isinstance(v, str) and os.path.isfile(v))
        self.digest = digest_files(map(Path, models), self._stanza.__version__, language)

    def _pipeline(self, processors: str, **options: Any) -> Any:
        options |= {"processors": processors, "download_method": None, "logging_level": "ERROR"}
        try:
            return self._stanza.Pipeline(self.language, **options)
        except (OSError, ValueError) as error:
            code = f"import stanza; stanza.download('{self.language}')"
            raise ValueError(f'no stanza model: python -c "{code}" gets it ({error})') from None

    def words(self, sentences: Sequence[str]) -> list[list[str]]:
        documents = self._tokenizer.bulk_process(list(sentences))
        return [[w.text for s in document.sentences for w in s.words] for document in documents]

    def trees(self, sentences: Iterable[Sequence[str]]) -> Iterator[Sentence]:
        given = [list(words) for words in sentences]
        for words, parsed in zip(given, self._parser(given).sentences, strict=True):
            rows = ((w.upos, w.head, w.deprel) for w in parsed.words)
            yield Sentence(tuple(words), *zip(*rows, strict=True))


def load_parser(name: str) -> SpacyParser | StanzaParser:
    """A parser by its folder (spaCy's) or as `stanza:en`; ValueError or OSError, in one line."""
    if name.startswith("stanza:"):
        return StanzaParser(name.removeprefix("stanza:"))
    if not Path(name).is_dir():
        raise FileNotFoundError(f"{name}: no such folder; name a folder of spaCy's, or stanza:en")
    return SpacyParser(Path(name))
