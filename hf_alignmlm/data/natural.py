"""The text of a natural language to token ids, and how often each language is seen."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
from datasets import Dataset, Features, List, Value, concatenate_datasets
from transformers import PreTrainedTokenizerBase

from hf_alignmlm.data.formats import Corpus
from hf_alignmlm.data.rows import sentences
from hf_alignmlm.data.sources import map_tables
from hf_alignmlm.data.tokenizer import encode_texts

# A row a sentence: its ids, and the sentence's index (`rows.sentences`).
IDS = Features({"ids": List(Value("int32")), "index": Value("int64")})


def _encode(batch: pa.Table, indices: list[int], *, tokenizer: str, language: str) -> pa.Table:
    found = [
        (sentence if isinstance(sentence, str) else " ".join(sentence), index)
        for row, number in zip(batch.to_pylist(), indices, strict=True)
        for sentence, _, index in sentences(row, number, language=language)
    ]
    encoded = encode_texts(tokenizer, [text for text, _ in found])
    rows = zip(encoded, (index for _, index in found), strict=True)
    return pa.Table.from_pylist(
        [{"ids": ids, "index": index} for ids, index in rows if ids], schema=IDS.arrow_schema
    )


def tokenize_text(
    corpus: Corpus,
    tokenizer: PreTrainedTokenizerBase,
    language: str,
    *,
    num_proc: int | None = None,
    name: str = "corpus",
) -> Corpus:
    """The ids of each sentence of a corpus, without special tokens: an `IDS` row a sentence.

    `language` is that of the rules for sentences' ends: en, or pt_br, whose first part counts.
    Raises ValueError for a corpus without a sentence.
    """
    backend, rules = tokenizer.backend_tokenizer.to_str(), language.partition("_")[0]
    options: dict[str, Any] = {"desc": f"Tokenizing {name}", "num_proc": num_proc}
    tokenized = map_tables(corpus, _encode, IDS, tokenizer=backend, language=rules, **options)
    if isinstance(tokenized, Dataset) and not len(tokenized):
        raise ValueError(f"{name} has no sentence")
    return tokenized


def balance(
    sequences: Mapping[str, Dataset], *, alpha: float, seed: int
) -> tuple[Dataset, dict[str, float]]:
    """The sequences of all languages, those of small ones repeated; how often each language comes.

    The share of a language is its share of the sequences to the power `alpha`, made to sum to 1
    (XLM, arXiv 1901.07291, section 3.1): 1 leaves all as it is, 0 makes all languages equal. Every
    sequence comes at least once.
    """
    sizes = np.array([len(rows) for rows in sequences.values()], float)
    times = sizes ** (alpha - 1)
    times /= times.min()
    rng, parts = np.random.default_rng(seed), []
    for rows, time in zip(sequences.values(), times, strict=True):
        whole, rest = divmod(round(time * len(rows)), len(rows))
        picked = [np.tile(np.arange(len(rows)), whole), rng.permutation(len(rows))[:rest]]
        parts.append(rows if (whole, rest) == (1, 0) else rows.select(np.concatenate(picked)))
    return concatenate_datasets(parts), dict(zip(sequences, times.tolist(), strict=True))
