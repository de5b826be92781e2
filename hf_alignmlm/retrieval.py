"""Sentence retrieval: is a sentence's translation the nearest one, by the states of each layer?"""

import argparse
from collections.abc import Iterable, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModel, PreTrainedModel, PreTrainedTokenizerBase

from hf_alignmlm.alignment import alignment_scores
from hf_alignmlm.arguments import by_language, one_line_errors, versions
from hf_alignmlm.data.parallel import read_parallel
from hf_alignmlm.data.tokenizer import load_tokenizer
from hf_alignmlm.files import check_output, exclusive, write_json
from hf_alignmlm.languages.natural import load_languages
from hf_alignmlm.languages.synthetic import LANGUAGE_FILE
from hf_alignmlm.models.configuration import positions
from hf_alignmlm.models.loading import load_whole

# Tokens of a batch, padding included.
BATCH_TOKENS = 8192


@torch.no_grad()
def sentence_states(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    *,
    token_type: int | None = None,
) -> Tensor:
    """The mean of each layer's hidden states over a text's tokens: [layers + 1, texts, d].

    The first layer is that of the embeddings. Special tokens are left out; what a model has no
    positions for is cut. `token_type` is that of all tokens, for models that tell languages apart.
    """
    longest = min(tokenizer.model_max_length, positions(model.config))
    options: dict[str, Any] = {"truncation": True, "max_length": longest}
    encoded = tokenizer(list(texts), return_special_tokens_mask=True, **options)
    rows = [
        {"input_ids": ids, "special_tokens_mask": special}
        for ids, special in zip(encoded["input_ids"], encoded["special_tokens_mask"], strict=True)
    ]
    order = sorted(range(len(rows)), key=lambda i: len(rows[i]["input_ids"]), reverse=True)
    result, start = None, 0
    while start < len(order):
        # The first is the longest of a batch.
        batch = order[start : start + max(1, BATCH_TOKENS // len(rows[order[start]]["input_ids"]))]
        inputs = tokenizer.pad([rows[i] for i in batch], return_tensors="pt").to(model.device)
        weights = 1.0 - inputs.pop("special_tokens_mask").float()
        if token_type is not None:
            inputs["token_type_ids"] = torch.full_like(inputs["input_ids"], token_type)
        weights /= weights.sum(1, keepdim=True).clamp_min(1)
        layers = model(**inputs, output_hidden_states=True).hidden_states
        means = torch.stack([torch.einsum("btd,bt->bd", h.float(), weights) for h in layers])
        if result is None:
            result = means.new_empty(len(means), len(rows), means.shape[-1])
        result[:, batch] = means
        start += len(batch)
    if result is None:
        raise ValueError("there are no texts to find one another")
    return result


def retrieval_scores(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    pairs: Iterable[tuple[str, str]],
    *,
    token_types: tuple[int | None, int | None] = (None, None),
) -> list[dict[str, float | None]]:
    """How often a sentence's translation is the nearest, by `sentence_states`: a row a layer.

    Rows hold `p1`, `p5`, `p10`, `mrr`, these by CSLS and, with `backward_`, from the translations
    to the sentences, in percent, and two mean cosines: `alignment_scores`, with sentences for
    words. A sentence that comes several times has all of its translations.
    """
    tables, columns = [], []
    for texts, token_type in zip(zip(*pairs, strict=True), token_types, strict=True):
        place = {text: i for i, text in enumerate(dict.fromkeys(texts))}
        tables.append(sentence_states(model, tokenizer, list(place), token_type=token_type))
        columns.append(torch.tensor([place[text] for text in texts]))
    index, rows = torch.stack(columns, 1), []
    for source, target in zip(*tables, strict=True):
        scores = alignment_scores(source, target, index)
        kept = {n: v for n, v in scores.items() if not n.endswith(("_seen", "_heldout"))}
        rows.append(kept)
    return rows


def _token_types(checkpoint: str, config: Any, pair: str) -> tuple[int | None, int | None]:
    """The token types of a pair's languages, where the checkpoint tells its languages apart."""
    if not getattr(config, "language_embeddings", False):
        return None, None
    if not Path(checkpoint, LANGUAGE_FILE).exists():
        raise ValueError(f"{checkpoint} tells languages apart, but has no {LANGUAGE_FILE} of them")
    names = load_languages(checkpoint).names
    if unknown := [name for name in pair.split("-") if name not in names]:
        raise ValueError(
            f"{checkpoint} has token types of {', '.join(names)}, but none of {unknown[0]}: name "
            "a pair of its languages, or a checkpoint without --language_embeddings"
        )
    source, target = map(names.index, pair.split("-"))
    return source, target


def main(argv: Sequence[str] | None = None) -> None:
    """`alignmlm retrieval CHECKPOINT --parallel_file en-fr=FILE`: a line a layer, and JSON."""
    cli = argparse.ArgumentParser(
        prog="alignmlm retrieval", description=__doc__, allow_abbrev=False
    )
    add = cli.add_argument
    add("checkpoint", help="a model of ours or of anyone, by folder or name")
    add("--parallel_file", nargs="+", required=True, help="en-fr=FILE: sentences, translations")
    add("--max_samples", type=int, help="use only so many pairs of sentences")
    add("--output", default="retrieval.json", help="the file to write; default: %(default)s")
    options = cli.parse_args(argv)
    with one_line_errors(), exclusive(options.output):
        if options.max_samples is not None and options.max_samples < 1:
            raise ValueError(f"max_samples must be at least 1, not {options.max_samples}")
        files = by_language("parallel_file", options.parallel_file, required=True)
        check_output(options.output, chain.from_iterable(files.values()))
        texts = {pair: read_parallel(pair, f)[: options.max_samples] for pair, f in files.items()}
        tokenizer = load_tokenizer(options.checkpoint)
        model = load_whole(AutoModel, options.checkpoint).eval()
        model = model.to(torch.accelerator.current_accelerator() or "cpu")
        types = {pair: _token_types(options.checkpoint, model.config, pair) for pair in texts}
        results: dict[str, Any] = {"checkpoint": options.checkpoint, "sentences": {}, "layers": {}}
        for pair, columns in texts.items():
            rows = list(zip(*columns.values(), strict=True))
            layers = retrieval_scores(model, tokenizer, rows, token_types=types[pair])
            results["sentences"][pair], results["layers"][pair] = len(rows), layers
            there, back = pair.split("-"), pair.split("-")[::-1]
            print(f"{options.checkpoint}: {len(rows):,} pairs of sentences, P@1 in percent")
            for number, scores in enumerate(layers):
                print(
                    f"layer {number}: {'→'.join(there)} {scores['p1']:.1f}, "
                    f"{'→'.join(back)} {scores['backward_p1']:.1f}; by CSLS "
                    f"{scores['csls_p1']:.1f}, {scores['backward_csls_p1']:.1f}"
                )
        write_json(options.output, results | {"versions": versions()})
        print(f"All measures in {options.output}")
