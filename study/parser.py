"""Train a tagger and parser of Universal Dependencies with spaCy, as parser.cfg says.

    python -m study.parser --train_file train.conllu --validation_file dev.conllu --output_dir DIR

`alignmlm parse … --parser DIR` then gives text its trees.
"""

import argparse
import importlib.metadata
import os
import shutil
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from hf_alignmlm.arguments import one_line_errors, versions
from hf_alignmlm.data.conllu import read_conllu
from hf_alignmlm.data.parsers import library, load_parser
from hf_alignmlm.files import exclusive, open_file, write_json
from hf_alignmlm.languages.word_order import Sentence

CONFIG, SCORES_FILE = Path(__file__).with_name("parser.cfg"), "parser.json"


def score(parsed: Iterable[Sentence], gold: Sequence[Sentence]) -> dict[str, float]:
    """Percent of all words, punctuation too, that were parsed right; spaCy leaves punctuation out.

    uas: the head; las: head and universal relation, as CoNLL 2018 counts; las_subtypes: head and
    whole relation (`obl:tmod`); upos: the part of speech.
    """
    right: Counter[str] = Counter()
    for ours, true in zip(parsed, gold, strict=True):
        for i, relation in enumerate(true.deprels):
            head = ours.heads[i] == true.heads[i]
            universal = ours.deprels[i].partition(":")[0] == relation.partition(":")[0]
            right["uas"] += head
            right["las"] += head and universal
            right["las_subtypes"] += head and ours.deprels[i] == relation
            right["upos"] += ours.upos[i] == true.upos[i]
    words = sum(len(sentence.words) for sentence in gold)
    return {name: round(100 * count / words, 2) for name, count in right.items()}


def train_with_spacy(options: argparse.Namespace, folder: Path) -> Path:
    """Do in a folder what `spacy convert` and `spacy train` do; the folder of the best parser."""
    from spacy.cli.train import train
    from spacy.tokens import DocBin
    from spacy.training.converters import conllu_to_docs

    changes = {"nlp.lang": options.language, "system.seed": options.seed}
    if options.max_steps:
        # As often as parser.cfg evaluates, and at the last step.
        changes["training.eval_frequency"] = max(1, options.max_steps // 12)
        changes["training.max_steps"] = options.max_steps
        changes["training.optimizer.learn_rate.steps"] = -(-options.max_steps // 2)
    for part, path in (("train", options.train_file), ("dev", options.validation_file)):
        with open_file(path) as stream:
            sentences = list(conllu_to_docs(stream.read(), n_sents=1, no_print=True))
        # The tagger learns parts of speech alone.
        for word in (word for sentence in sentences for word in sentence):
            word.set_morph("")
        changes[f"paths.{part}"] = str(folder / f"{part}.spacy")
        DocBin(docs=sentences).to_disk(changes[f"paths.{part}"])
    train(CONFIG, folder, overrides=changes)
    return folder / "model-best"


def train_parser(options: argparse.Namespace) -> dict[str, Any]:
    """Train and score; the best parser goes to `output_dir`, what is returned into its parser.json.

    Scores are of the test file, else of the validation file. Raises ValueError or OSError before
    any work is done.
    """
    begun, folder = time.process_time(), Path(options.output_dir)
    for name, least in {"seed": 0, "max_steps": 1}.items():
        if (value := getattr(options, name)) is not None and not least <= value < 2**32:
            raise ValueError(f"--{name} {value}: give {least} to {2**32 - 1}")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        if not (folder / SCORES_FILE).is_file():
            raise ValueError(f"{folder} exists and holds no parser: name another --output_dir")
        if not options.overwrite_output_dir:
            cure = "name another --output_dir, or give --overwrite_output_dir"
            raise ValueError(f"{folder} holds a parser: {cure}")
    try:
        library("spacy").util.get_lang_class(options.language)
    except ImportError:
        raise ValueError(f"--language {options.language}: spaCy knows no such language") from None
    scored_on = options.validation_file if options.test_file is None else options.test_file
    files = (options.train_file, options.validation_file, scored_on)
    _, validation, scores = (list(read_conllu(path)) for path in files)
    gold = {"validation": validation, "scores": scores}
    temporary = folder.with_name(f".{folder.name}.new")
    with exclusive(folder):
        shutil.rmtree(temporary, ignore_errors=True)  # what a killed run left
        temporary.mkdir()
        try:
            best = train_with_spacy(options, temporary)
            parser = load_parser(str(best))
            report: dict[str, Any] = {"scored_on": Path(scored_on).name}
            for name, sentences in gold.items():
                report[name] = score(parser.trees(s.words for s in sentences), sentences)
            report["cpu_minutes"] = round((time.process_time() - begun) / 60, 1)
            report["arguments"] = vars(options)
            report["versions"] = versions() | {"spacy": importlib.metadata.version("spacy")}
            write_json(best / SCORES_FILE, report)
            if folder.exists():
                os.replace(folder, temporary / "replaced")
            os.replace(best, folder)
        finally:
            shutil.rmtree(temporary)
    return report


def main(argv: Sequence[str] | None = None) -> None:
    """`python -m study.parser`; errors are one line on stderr and exit code 2."""
    parser = argparse.ArgumentParser(prog="python -m study.parser", description=__doc__)
    add = parser.add_argument
    add("--train_file", required=True, help="CoNLL-U, plain or .gz")
    add("--validation_file", required=True, help="the same, to choose the best parser on")
    add("--test_file", help="the same, to score on; default: the validation file")
    add("--output_dir", required=True, help="where to save the parser")
    add("--overwrite_output_dir", action="store_true", help="replace the parser that is there")
    add("--language", default="en", help="whose tokenizer splits raw text")
    add("--seed", type=int, default=0, help="of weights and order")
    add("--max_steps", type=int, help="batches to train on; default: that of parser.cfg")
    with one_line_errors():
        report = train_parser(parser.parse_args(argv))
    scores = ", ".join(f"{name} {value}" for name, value in report["scores"].items())
    print(f"{report['scored_on']}: {scores}; {report['cpu_minutes']} CPU minutes")


if __name__ == "__main__":
    main()
