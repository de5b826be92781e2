"""Good inputs of every command: small files, a checkpoint, runs, a parser."""

import contextlib
import csv
import io
import os
from functools import cached_property
from pathlib import Path
from typing import Any

from damage import json_lines, parquet
from transformers import AutoConfig

from hf_alignmlm import cli, minienglish
from hf_alignmlm.languages.synthetic import SyntheticLanguage

SHAPE = "hidden_size=16,num_hidden_layers=1,num_attention_heads=2"
TINY = {
    "vocab_size": 300,
    "config_overrides": f"{SHAPE},intermediate_size=16",
    **{"max_seq_length": 32, "per_device_train_batch_size": 4, "max_steps": 2, "use_cpu": True},
    **{"eval_strategy": "no", "save_strategy": "no", "report_to": "none", "disable_tqdm": "true"},
}
FAST = {
    **{"max_steps": 2, "per_device_train_batch_size": 4, "use_cpu": True, "report_to": "none"},
    **{"disable_tqdm": "true", "skip_supervised": True},
}
TASKS = {"tag": "ner", "nli": "nli"}
# Trained on three natural languages: which architecture, which kind of tokenizer.
ARCHITECTURES = {"roberta": "bpe", "distilbert": "unigram"}


def words_of(options: dict[str, Any]) -> list[str]:
    """A command line; the key `` is what stands without an option's name."""
    words: list[str] = []
    for name, value in options.items():
        if value is None or value is False:
            continue
        values = value if isinstance(value, list) else [] if value is True else [value]
        words += [f"--{name}"] if name else []
        words += map(str, values)
    return words


def table(rows: list[dict[str, Any]], delimiter: str) -> bytes:
    """Rows as a table with a header."""
    stream = io.StringIO()
    writer = csv.DictWriter(stream, rows[0].keys(), delimiter=delimiter, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue().encode()


def conllu(sentences: list[Any]) -> bytes:
    """Sentences as CoNLL-U."""
    lines = []
    for s in sentences:
        columns = zip(s.words, s.upos, s.heads, s.deprels, strict=True)
        lines += [
            f"{i}\t{w}\t_\t{t}\t_\t_\t{h}\t{r}\t_\t_" for i, (w, t, h, r) in enumerate(columns, 1)
        ]
        lines.append("")
    return "".join(f"{line}\n" for line in lines).encode()


class World:
    """A folder of good inputs. `files` has their bytes by content and format, as `ner.jsonl`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        sentences = list(minienglish.sentences(40))
        self.texts = [" ".join(s.words) for s in sentences]
        self.rows: dict[str, list[dict[str, Any]]] = {
            "corpus": [{"text": text} for text in self.texts],
            "words": [{"words": list(s.words)} for s in sentences],
            "ner": [{"tokens": list(s.words), "ner_tags": list(s.ner_tags)} for s in sentences],
            "nli": [
                {
                    "premise": " ".join(p.premise.words),
                    "hypothesis": " ".join(p.hypothesis.words),
                    "label": p.label,
                }
                for p in minienglish.pairs(40)
            ],
        }
        columns = [
            "".join(f"{w}\t{t}\n" for w, t in zip(s.words, s.ner_tags, strict=True))
            for s in sentences
        ]
        # The second natural language is the first backwards; words are their own translations.
        backwards = {
            f"second_{name}": [
                {
                    key: value[::-1] if isinstance(value, list) else value
                    for key, value in row.items()
                }
                for row in self.rows[name]
            ]
            for name in TASKS.values()
        }
        for row in backwards["second_nli"]:
            row["premise"] = " ".join(row["premise"].split()[::-1])
        turned = [" ".join(text.split()[::-1]) for text in self.texts]
        pairs = [{"en": en, "fr": fr} for en, fr in zip(self.texts, turned, strict=True)]
        self.rows |= backwards | {
            "second": [{"text": text} for text in turned],
            "verses": pairs,
            "translation": [{"translation": pair} for pair in pairs],
        }
        spell = SyntheticLanguage.from_name("trans_inv").spell
        words = sorted({word for s in sentences for word in s.words if word.isalpha()})
        self.files = {
            "corpus.text": "".join(f"{text}\n" for text in self.texts).encode(),
            "second.text": "".join(f"{text}\n" for text in turned).encode(),
            "verses.text": "".join(f"{pair['en']}\t{pair['fr']}\n" for pair in pairs).encode(),
            "verses.tsv": table(pairs, "\t"),
            "verses.csv": table(pairs, ","),
            "corpus.csv": table(self.rows["corpus"], ","),
            "nli.csv": table(self.rows["nli"], ","),
            "nli.tsv": table(self.rows["nli"], "\t"),
            "trees.conllu": conllu(sentences),
            "ner.columns": "\n".join(columns).encode(),
            "natural.dictionary": "".join(f"{word}\t{word}\n" for word in words).encode(),
            "pairs.dictionary": "".join(f"{word}\t{spell(word)}\n" for word in words).encode(),
        }
        for name, rows in self.rows.items():
            self.files |= {f"{name}.jsonl": json_lines(rows), f"{name}.parquet": parquet(rows)}
        self.path = {name: folder / name for name in self.files}
        for name, data in self.files.items():
            ending = {"text": "txt", "columns": "txt", "dictionary": "txt"}.get(name.split(".")[1])
            self.path[name] = folder / (
                f"{name.split('.')[0]}-{name.split('.')[1]}.txt" if ending else name
            )
            self.path[name].write_bytes(data)
        names = ("checkpoint", "task", "built", "natural", "natural_task", "alone", *ARCHITECTURES)
        self.checkpoint, self.task, self.built, self.natural, *places = (folder / n for n in names)
        self.natural_task, self.alone, self.roberta, self.distilbert = places
        self.sentences = sentences
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            for command, out in (
                ("pretrain", self.checkpoint),
                ("pretrain natural", self.natural),
                ("tag", self.task),
                ("tag natural", self.natural_task),
                ("tag alone", self.alone),
                ("corpus", self.built),
                *((f"pretrain {name}", folder / name) for name in ARCHITECTURES),
            ):
                if not out.exists():
                    options = {**self.options(command, out), "overwrite_output_dir": True}
                    cli.run(command.split()[0], words_of(options))

    @cached_property
    def parser(self) -> Path:
        """The folder of a parser, made when it is asked for: spaCy takes seconds to load."""
        if not (self.folder / "parser").exists():
            make_parser(self.folder / "parser", self.sentences)
        return self.folder / "parser"

    def options(self, command: str, out: Path) -> dict[str, Any]:
        """Options of a command that works; it writes to `out`.

        A second word says on what the command works: `pretrain xlm`, `tag natural`.
        """
        path = self.path
        if " " in command:
            return self.natural_options(*command.split(), out)
        if command == "pretrain":
            return {
                **{"train_file": path["corpus.text"], "validation_file": path["corpus.jsonl"]},
                **{"output_dir": out, **TINY},
            }
        if command in TASKS:
            task = TASKS[command]
            return {
                **{"model_name_or_path": self.checkpoint, "task_name": task, "output_dir": out},
                **{
                    "train_file": path[f"{task}.jsonl"],
                    "test_file": path[f"{task}.parquet"],
                    **FAST,
                },
            }
        if command == "parse":
            return {"": path["corpus.text"], "parser": self.parser, "output": out / "trees.parquet"}
        return {
            "doctor": {"": self.roberta, "output": out / "doctor.md"},
            "retrieval": {
                **{"": self.natural, "parallel_file": f"en-fr={path['verses.text']}"},
                "output": out / "retrieval.json",
            },
            "corpus": {"train_file": path["corpus.text"], "output_dir": out},
            "report": {"": self.folder, "output_dir": out},
            "card": {"": self.checkpoint, "output": out / "README.md"},
            "push": {"": self.checkpoint, "repo_id": "me/name", "dry_run": True},
        }[command]

    def natural_options(self, command: str, kind: str, out: Path) -> dict[str, Any]:
        """Options of a command that works on natural languages, or on a checkpoint of them."""
        path = self.path
        if command == "doctor":
            words = f"en-fr={path['natural.dictionary']}"
            return self.options("doctor", out) | {"": self.natural, "dictionary_file": words}
        if command == "report":
            return self.options(command, out)
        if command in ("card", "push"):
            return self.options(command, out) | {"": self.roberta}
        if command in TASKS:
            rows, first = TASKS[command], f"en={path[TASKS[command] + '.parquet']}"
            return self.options(command, out) | {
                **{"model_name_or_path": self.natural, "train_file": f"en={path[rows + '.jsonl']}"},
                "test_file": [first, f"fr={path[f'second_{rows}.parquet']}"][
                    : 1 + (kind != "alone")
                ],
                "xnli_mixed": command == "nli",
            }
        words = [f"en-fr={path['natural.dictionary']}"]
        options = self.options("pretrain", out) | {
            "train_file": [f"en={path['corpus.text']}", f"fr={path['second.text']}"],
            "validation_file": [f"en={path['corpus.jsonl']}", f"fr={path['second.jsonl']}"],
            "dictionary_file": words,
        }
        if kind == "xlm":
            verses = {"objective": "xlm", "parallel_file": f"en-fr={path['verses.text']}"}
            return options | verses | {"dictionary_file": None}
        if kind == "extend":
            mine = {"model_name_or_path": self.natural, "extend_vocab": 20}
            return options | mine | {"vocab_size": None, "config_overrides": None}
        if kind in ARCHITECTURES:
            configuration = self.folder / f"{kind}.json"
            if not configuration.exists():
                write_configuration(kind, configuration)
            options |= {"config_name": configuration, "config_overrides": None}
            options |= {"tokenizer_type": ARCHITECTURES[kind], "dictionary_file": words * 2}
            options["dictionary_file"][1] = words[0].replace("en-fr=", "en-sw=")
            for name in ("train_file", "validation_file"):
                options[name] += [f"sw={path['corpus.parquet']}"]
        return options


def write_configuration(kind: str, path: Path) -> None:
    """A tiny configuration of an architecture."""
    shape = dict(part.split("=") for part in f"{SHAPE},max_position_embeddings=40".split(","))
    numbers = {name: int(number) for name, number in shape.items()}
    more = {"intermediate_size": 16}
    if kind == "distilbert":
        numbers = {"dim": 16, "n_layers": 1, "n_heads": 2, "max_position_embeddings": 40}
        more = {"hidden_dim": 16}
    AutoConfig.for_model(kind, **numbers, **more, vocab_size=300).to_json_file(path, use_diff=False)


def make_parser(folder: Path, sentences: list[Any]) -> None:
    """A pipeline of spaCy's with random weights: it knows the labels, and nothing else."""
    import spacy
    from spacy.training import Example

    nlp = spacy.blank("en")
    for name in ("morphologizer", "parser"):
        nlp.add_pipe(name)
    examples = [
        Example.from_dict(
            nlp.make_doc(" ".join(s.words)),
            {
                **{"words": list(s.words), "pos": list(s.upos), "deps": list(s.deprels)},
                "heads": [i if head == 0 else head - 1 for i, head in enumerate(s.heads)],
            },
        )
        for s in sentences
    ]
    nlp.initialize(lambda: examples)
    nlp.to_disk(folder)


def main() -> None:
    """A world in the folder of ALIGNMLM_WORLD, for tries by hand."""
    print(World(Path(os.environ["ALIGNMLM_WORLD"])).path)


if __name__ == "__main__":
    main()
