"""Text and metric: `python -m benchmarks.data PART --text TEXT …` prints JSON."""

import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import sentencex
import torch
from datasets import Dataset, disable_caching, load_from_disk

from benchmarks.common import command_line, first_lines, peak_mib, tokenizer_folder
from hf_alignmlm import SyntheticLanguage, alignment_scores
from hf_alignmlm.data.encoding import tokenize_corpus
from hf_alignmlm.data.packing import pack
from hf_alignmlm.data.tokenizer import load_tokenizer

CORES = os.cpu_count() or 1


def table(lines: list[str], folder: str) -> Dataset:
    """The lines as a corpus read from files, which `datasets` maps to files."""
    Dataset.from_dict({"text": lines}).save_to_disk(folder)
    return load_from_disk(folder)


def plain_way(rows: Dataset, tokenizer: Any) -> Dataset:
    """What one writes without this library: `datasets.map`, and a Python loop over tokens."""
    size = len(tokenizer) // 2

    def derive(row: dict[str, str]) -> dict[str, list[int]]:
        words: list[list[str]] = []
        for token in tokenizer.tokenize(row["text"]):
            if token.startswith("##"):
                words[-1].append(token)
            else:
                words.append([token])
        mark = words[-1:] if words and words[-1][0] in (".", "!", "?") else []
        original, derived = [], []
        for word in words:
            for token in word:
                original.append(tokenizer.convert_tokens_to_ids(token))
        for word in words[: len(words) - len(mark)][::-1] + mark:
            for token in word:
                derived.append(tokenizer.convert_tokens_to_ids(token) + size)
        return {"original": original, "derived": derived}

    return rows.map(derive, remove_columns=["text"])


def rates(text: Path, megabytes: float = 70, processes: int = CORES) -> dict[str, Any]:
    """Words per second of the plain way, and of ours by number of processes.

    The plain way gets lines of one sentence, as ours makes them, and a tenth of the text.
    """
    disable_caching()
    made = tokenizer_folder("mini", text)
    language = SyntheticLanguage.from_pretrained(made)
    tokenizer = load_tokenizer(str(made), language)
    lines = first_lines(text, megabytes)
    words = sum(len(line.split()) for line in lines)
    few = lines[: len(lines) // 10]
    sentences = [s for line in few for s in sentencex.segment("en", line) if s.strip()]
    ours, packing = {}, 0.0
    with tempfile.TemporaryDirectory(dir=text.parent) as folder:
        rows = table(sentences, f"{folder}/sentences")
        start = time.perf_counter()
        plain_way(rows, tokenizer)
        plain = sum(len(line.split()) for line in few) / (time.perf_counter() - start)
        corpus = table(lines, f"{folder}/lines")
        for count in range(1, processes + 1):
            start = time.perf_counter()
            rows = tokenize_corpus(corpus, tokenizer, language, num_proc=count)
            ours[str(count)] = words / (time.perf_counter() - start)
            start = time.perf_counter()
            pack(rows, tokenizer, max_seq_length=512)
            packing = words / (time.perf_counter() - start)
    return {
        "words": words,
        "plain_words_per_second": plain,
        "words_per_second_by_processes": ours,
        "packing_words_per_second": packing,
        "against_plain": ours[str(processes)] / plain,
    }


def alignment(pairs: int = 40_000, dim: int = 512, repeats: int = 3) -> dict[str, float]:
    """Median seconds, and peak MiB of this process beyond the inputs."""
    generator = torch.Generator().manual_seed(0)
    original = torch.randn(pairs, dim, generator=generator)
    derived = torch.randn(pairs, dim, generator=generator).mul_(2).add_(original)
    index = torch.arange(pairs)
    before, seconds, scores = peak_mib(), [], {}
    for _ in range(repeats):
        start = time.perf_counter()
        scores = alignment_scores(original, derived, index[:, None].expand(-1, 2), index % 2 == 0)
        seconds.append(time.perf_counter() - start)
    return {
        "pairs": pairs,
        "dim": dim,
        "threads": torch.get_num_threads(),
        "seconds": round(statistics.median(seconds), 2),
        "extra_mib": round(peak_mib() - before, 1),
        "p1": scores["p1"],
    }


if __name__ == "__main__":
    command_line(rates, alignment)
