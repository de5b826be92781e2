"""Why alignment or transfer is low: a page of findings on a checkpoint and its dictionary."""

import argparse
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor
from transformers import AutoModel

from hf_alignmlm.alignment import dictionary_alignment
from hf_alignmlm.alignment.scores import cosine_table, unit_rows
from hf_alignmlm.arguments import by_pair, one_line_errors, only, split_name
from hf_alignmlm.data.coverage import coverage
from hf_alignmlm.data.dictionary import DICTIONARY_FILE, BilingualDictionary, WordPieces
from hf_alignmlm.data.encoding import WordEncoder
from hf_alignmlm.data.tokenizer import load_tokenizer
from hf_alignmlm.files import check_output, exclusive, write_text
from hf_alignmlm.languages.natural import load_languages
from hf_alignmlm.languages.synthetic import LANGUAGE_FILE
from hf_alignmlm.models.loading import load_whole
from hf_alignmlm.report import TEMPLATES
from hf_alignmlm.results import read_results, tested

PAGE_FILE = "doctor.md"
# Words whose nearest word of the other language is looked up.
SAMPLE = 2000


@torch.no_grad()
def geometry(embeddings: Tensor, dictionary: BilingualDictionary) -> dict[str, float]:
    """Hubs, shared directions and chance of a dictionary's words, from [V, d] embeddings.

    `hubs` is the percent of the original words whose nearest derived word is one of the ten that
    are nearest most often; `direction_…` the length of the mean unit row of each side, 1 where all
    point one way; `chance` the P@1 in percent of a random guess.
    """
    rows = [WordPieces(side)(embeddings) for side in dictionary.words]
    original, derived = (unit_rows(side, "the checkpoint's") for side in rows)
    some = torch.linspace(0, len(original) - 1, min(len(original), SAMPLE)).long()
    nearest = [cosine_table(part, derived).argmax(1) for part in original[some].split(256)]
    winners = Counter(torch.cat(nearest).tolist())
    return {
        "hubs": 100 * sum(count for _, count in winners.most_common(10)) / len(some),
        "direction_original": original.mean(0).norm().item(),
        "direction_derived": derived.mean(0).norm().item(),
        "chance": 100 * len(dictionary.pairs) / len(original) / len(derived),
    }


def diagnosis(
    folder: str, parts: Mapping[str, BilingualDictionary], transfer: str | None = None
) -> str:
    """The page on a checkpoint and the dictionaries of pairs of languages (`en-fr`).

    Without one it is the checkpoint's own; ValueError for neither.
    """
    if not parts:
        if not Path(folder, DICTIONARY_FILE).exists():
            raise ValueError(f"{Path(folder)} has no {DICTIONARY_FILE}: give --dictionary_file")
        own = BilingualDictionary.from_pretrained(folder)
        names = load_languages(folder).names if Path(folder, LANGUAGE_FILE).exists() else ()
        name = "-".join(names) if len(names) == 2 else "source-target"
        parts = dict(own.parts) or {name: own}
    embeddings = load_whole(AutoModel, folder).get_input_embeddings().weight.detach()
    for part in parts.values():
        part.check_ids(len(embeddings))
    found = [
        coverage(part, ("source", "target"))
        | geometry(embeddings, part)
        | {"name": name, "scores": dictionary_alignment(embeddings, part)}
        for name, part in parts.items()
    ]
    tasks = [
        {**scores, "task": result["task"], "language": name}
        for result in ([] if transfer is None else read_results(transfer))
        for name, scores in (tested(result) if "task" in result else ())
        if scores.get("bz") is not None
    ]
    more = {"parts": found, "tasks": tasks, "transfer": transfer}
    page = TEMPLATES.get_template("doctor.md.jinja").render(folder=folder, **more)
    return page.rstrip() + "\n"


def read_dictionaries(folder: str, values: Sequence[str]) -> dict[str, BilingualDictionary]:
    """The dictionaries of files (`en-fr=FILE`), spelled by the checkpoint's tokenizer."""
    if not values:
        return {}
    languages = load_languages(folder)
    files = by_pair("dictionary_file", values, languages.names)
    paths = {pair: str(only("dictionary_file", found)) for pair, found in files.items()}
    tokenizer = load_tokenizer(folder, languages)
    encode = WordEncoder(tokenizer, languages).original
    return {
        pair: BilingualDictionary.from_file(path, encode, unknown_id=tokenizer.unk_token_id)
        for pair, path in paths.items()
    }


def main(argv: Sequence[str] | None = None) -> None:
    """`alignmlm doctor CHECKPOINT`."""
    parser = argparse.ArgumentParser(
        prog="alignmlm doctor", description="Why alignment or transfer is low.", allow_abbrev=False
    )
    parser.add_argument("checkpoint", help="the folder of a checkpoint")
    parser.add_argument(
        "--dictionary_file", nargs="+", default=[], help="FILE or en-fr=FILE; default: its own"
    )
    parser.add_argument("--transfer", help="a folder of task runs, for their majority baselines")
    parser.add_argument("--output", help=f"the page's file; default: {PAGE_FILE} in the folder")
    args = parser.parse_args(argv)
    with one_line_errors():
        path = Path(args.output or Path(args.checkpoint) / PAGE_FILE)
        check_output(path, (split_name(value)[1] for value in args.dictionary_file))
        dictionaries = read_dictionaries(args.checkpoint, args.dictionary_file)
        page = diagnosis(args.checkpoint, dictionaries, args.transfer)
        with exclusive(path):
            write_text(path, page)
        print(page)
    print(f"Page in {path}")
