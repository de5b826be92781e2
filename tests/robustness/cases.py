"""Every case: a command, what to damage or which option to give, and what is right.

The cases are the same at every run; a seed, made of a case's name, decides where a file is damaged.
"""

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from random import Random
from typing import Any

from damage import (
    ALIGNED,
    CONLLU,
    CORPUS_WORDS_ARE,
    DAMAGES,
    LABEL_IS,
    LABELS,
    SENTENCES,
    TAG_SCHEMES,
    TEXT_IS,
    TRANSLATION_IS,
    VALUES,
    WORDS_ARE,
    json_lines,
    parquet,
)
from transformers import TrainingArguments
from world import World, words_of

from hf_alignmlm.hub.build import BuildArguments
from hf_alignmlm.pretraining.options import PARALLEL, SOURCES, DataArguments, ModelArguments
from hf_alignmlm.tasks.finetuning.options import TaskArguments

Options = dict[str, Any]


# What would do nothing beside an option, and so is left out of the command.
IDLE = {
    ("pretrain", "model_name_or_path"): ("config_overrides", "vocab_size"),
    ("pretrain", "tokenizer_name"): ("vocab_size",),
    ("pretrain", "validation_split_percentage"): ("validation_file",),
}


@dataclass(frozen=True)
class Case:
    """A call of a command. `change` writes what is damaged into a folder, and changes the options.

    `right`: True, the command must succeed; False, it must refuse; None, either. A refusal names
    one of `named`, or a file that `change` wrote. `option`: nothing may be written before it.
    """

    name: str
    command: str
    change: Callable[[World, Path, Options, Random], Options]
    right: bool | None
    named: tuple[str, ...] = ()
    option: bool = False

    def make(self, world: World, folder: Path) -> list[str]:
        """Write the case's files into a folder; the command line."""
        options = world.options(self.command, folder / "out")
        changed = self.change(world, folder, options, Random(self.name))
        idle = {
            name for given in changed for name in IDLE.get((self.command.split()[0], given), ())
        }
        kept = {name: value for name, value in options.items() if name not in idle}
        return words_of(kept | changed)


# Who reads what: content and format, command, option, more options. Where `*` stands in one of
# these, the damaged file stands.
READERS: list[tuple[str, str, str, Options]] = [
    ("corpus.text", "pretrain", "train_file", {}),
    ("corpus.jsonl", "pretrain", "train_file", {}),
    ("corpus.parquet", "pretrain", "train_file", {}),
    ("corpus.csv", "pretrain", "train_file", {}),
    ("words.jsonl", "pretrain", "validation_file", {}),
    (
        "trees.conllu",
        "pretrain",
        "train_file",
        {"language": "trans_syn-fr", "validation_file": "trees.conllu"},
    ),
    ("pairs.dictionary", "pretrain", "dictionary_file", {}),
    ("corpus.jsonl", "pretrain", "train_file", {"streaming": True}),
    ("ner.jsonl", "tag", "train_file", {}),
    ("ner.parquet", "tag", "test_file", {}),
    ("ner.columns", "tag", "train_file", {}),
    ("trees.conllu", "tag", "test_file", {"task_name": "pos", "train_file": "trees.conllu"}),
    ("nli.jsonl", "nli", "test_file", {}),
    ("nli.parquet", "nli", "train_file", {}),
    ("nli.csv", "nli", "train_file", {}),
    ("nli.tsv", "nli", "test_file", {}),
    ("corpus.text", "corpus", "train_file", {}),
    ("corpus.parquet", "corpus", "validation_file", {}),
    ("ner.columns", "corpus", "train_file", {"task_name": "ner", "test_file": "ner.jsonl"}),
    ("nli.jsonl", "corpus", "test_file", {"task_name": "nli", "train_file": "nli.jsonl"}),
    ("corpus.text", "parse", "", {}),
    ("corpus.jsonl", "parse", "", {}),
    ("nli.parquet", "parse", "", {}),
    ("second.text", "pretrain natural", "train_file", {"train_file": ["en=corpus.text", "fr=*"]}),
    ("corpus.jsonl", "pretrain natural", "train_file", {"train_file": ["en=*", "fr=second.text"]}),
    ("second.jsonl", "pretrain natural", "validation_file", {"validation_file": "fr=*"}),
    (
        "second.parquet",
        "pretrain natural",
        "train_file",
        {"train_file": ["en=corpus.text", "fr=*"], "streaming": True},
    ),
    ("natural.dictionary", "pretrain natural", "dictionary_file", {"dictionary_file": "en-fr=*"}),
    ("natural.dictionary", "doctor natural", "dictionary_file", {"dictionary_file": "en-fr=*"}),
    ("second.text", "pretrain extend", "train_file", {"train_file": ["en=corpus.text", "fr=*"]}),
    *(
        (source, "pretrain xlm", "parallel_file", {"parallel_file": "en-fr=*"})
        for source in ("verses.text", "verses.tsv", "translation.jsonl", "verses.parquet")
    ),
    (
        "second.text",
        "pretrain xlm",
        "parallel_file",
        {"parallel_file": ["en-fr=corpus.text", "en-fr=*"]},
    ),
    *(
        (source, "retrieval", "parallel_file", {"parallel_file": "en-fr=*"})
        for source in ("verses.text", "verses.csv", "verses.jsonl", "translation.parquet")
    ),
    ("second_ner.jsonl", "tag natural", "test_file", {"test_file": ["en=ner.parquet", "fr=*"]}),
    ("second_nli.parquet", "nli natural", "test_file", {"test_file": ["en=nli.parquet", "fr=*"]}),
]
# Which option takes the file with an odd row, where it is not the first of train_file and ``.
INTO: dict[str, tuple[str, Any]] = {
    "pretrain natural": ("train_file", ["en=corpus.text", "fr=*"]),
    "pretrain xlm": ("parallel_file", "en-fr=*"),
    "retrieval": ("parallel_file", "en-fr=*"),
    "tag natural": ("test_file", ["en=ner.parquet", "fr=*"]),
}


def _filled(places: dict[str, Any], value: Any) -> Any:
    """A value of an option with the paths of the files that it names, alone or behind `NAME=`."""
    if isinstance(value, list):
        return [_filled(places, one) for one in value]
    if not isinstance(value, str):
        return value
    name, sign, source = value.rpartition("=")
    return f"{name}{sign}{places[source]}" if source in places else places.get(value, value)


def _more(world: World, options: Options, path: Any = None) -> Options:
    """Options whose values name the world's files, with the files' paths."""
    places = world.path if path is None else world.path | {"*": path}
    return {name: _filled(places, value) for name, value in options.items()}


def _into(world: World, command: str, options: Options, path: Path) -> Options:
    """The option that takes a file with an odd row, given this one."""
    if command in INTO:
        option, value = INTO[command]
        return _more(world, {option: value}, path)
    return {next(o for o in ("train_file", "") if o in options): path}


def _file_case(source: str, command: str, option: str, more: Options, damage: Any) -> Case:
    form = source.split(".")[1]

    def change(world: World, folder: Path, options: Options, rng: Random) -> Options:
        path = folder / damage.rename(world.path[source].name)
        path.write_bytes(damage.change(world.files[source], rng))
        return {option: path} | _more(world, more, path)

    name = f"{command}/{option}/{source}/{damage.name}"
    right = damage.verdict(form)
    if option == "parallel_file" and isinstance(more[option], list):
        right = ALIGNED.get(damage.name, right)
    return Case(
        name + "".join(f"/{k}" for k in more),
        command,
        change,
        right,
        (f"--{option}",),
    )


def files() -> Iterator[Case]:
    """Every damage of every file that a command reads."""
    for source, command, option, more in READERS:
        for damage in DAMAGES:
            if source.split(".")[1] in damage.formats:
                yield _file_case(source, command, option, more, damage)
        for what, place in (("missing", "no/such.txt"), ("folder", "empty"), ("nothing", "")):

            def change(
                world: World, folder: Path, options: Options, rng: Random,
                more: Options = more, option: str = option, place: str = place,
            ) -> Options:  # fmt: skip
                path = world.folder / place if place else ""
                return {option: path} | _more(world, more, path)

            named = (option, "no/such.txt", "empty", "--train_file", "file")
            yield Case(
                f"{command}/{option}/{source}/{what}" + "".join(f"/{k}" for k in more),
                command,
                change,
                False,
                named,
            )


# Rows with one odd value: whose rows, command, column, what is right for each value.
COLUMNS: list[tuple[str, str, str, dict[str, bool | None], dict[str, Any]]] = [
    ("corpus", "pretrain", "text", TEXT_IS, VALUES),
    ("words", "pretrain", "words", CORPUS_WORDS_ARE, VALUES),
    ("corpus", "corpus", "text", TEXT_IS, VALUES),
    ("corpus", "parse", "text", TEXT_IS, VALUES),
    ("words", "parse", "words", CORPUS_WORDS_ARE, VALUES),
    ("ner", "tag", "tokens", WORDS_ARE, VALUES),
    ("ner", "tag", "ner_tags", WORDS_ARE, VALUES),
    ("nli", "nli", "premise", {**TEXT_IS, "list": None, "empty list": None}, VALUES),
    ("nli", "nli", "hypothesis", {**TEXT_IS, "list": None, "empty list": None}, VALUES),
    ("nli", "nli", "label", LABEL_IS, VALUES),
    ("nli", "nli", "label", LABELS, {label: label for label in LABELS}),
    ("second", "pretrain natural", "text", TEXT_IS, VALUES),
    ("verses", "retrieval", "fr", TEXT_IS, VALUES),
    ("translation", "retrieval", "translation", TRANSLATION_IS, VALUES),
    ("translation", "pretrain xlm", "translation", TRANSLATION_IS, VALUES),
    ("second_ner", "tag natural", "tokens", WORDS_ARE, VALUES),
    ("second_ner", "tag natural", "ner_tags", WORDS_ARE, VALUES),
]


def rows() -> Iterator[Case]:
    """One odd value in one row; in JSON lines, and in parquet where its column can have it."""
    for content, command, column, rights, values in COLUMNS:
        for (value, right), form in (
            (pair, form) for pair in rights.items() for form in ("jsonl", "parquet")
        ):

            def change(
                world: World, folder: Path, options: Options, rng: Random, command: str = command,
                content: str = content, column: str = column, form: str = form,
                value: Any = values[value],
            ) -> Options:  # fmt: skip
                table = json.loads(json.dumps(world.rows[content]))
                table[rng.randrange(1, len(table))][column] = value
                path = folder / f"{content}.{form}"
                path.write_bytes(json_lines(table) if form == "jsonl" else parquet(table))
                test = rng.random() < 0.5 and "test_file" in options and command not in INTO
                return {"test_file": path} if test else _into(world, command, options, path)

            name = f"{command}/{content}.{form}/{column}/{value}"
            if form == "parquet" and not _fits(content, column, values[value]):
                continue
            yield Case(name, command, change, right)
    for scheme, (tags, right) in TAG_SCHEMES.items():
        for command, form in (
            ("tag", "jsonl"),
            ("corpus", "parquet"),
            ("tag", "columns"),
            ("corpus", "jsonl"),
        ):

            def change(
                world: World, folder: Path, options: Options, rng: Random,
                tags: list[Any] = tags, form: str = form,
            ) -> Options:  # fmt: skip
                table = [*world.rows["ner"], {"tokens": ["a", "b", "c", "d"], "ner_tags": tags}]
                path = folder / ("ner.txt" if form == "columns" else f"ner.{form}")
                if form == "columns":
                    lines = [
                        [
                            *map(
                                "\t".join, zip(r["tokens"], map(str, r["ner_tags"]), strict=False)
                            ),
                            "",
                        ]
                        for r in table
                    ]
                    path.write_text("".join(f"{line}\n" for row in lines for line in row))
                else:
                    path.write_bytes(json_lines(table) if form == "jsonl" else parquet(table))
                given = {"train_file": path, "test_file": path, "task_name": "ner"}
                return given

            fits = form == "jsonl" or not any(isinstance(tag, int) for tag in tags)
            fits = fits and not (
                form == "columns" and (len(tags) != 4 or None in tags or "" in tags)
            )
            if fits:
                yield Case(f"{command}/ner.{form}/tags/{scheme}", command, change, right)


def _fits(content: str, column: str, value: Any) -> bool:
    """Whether a parquet column of good values can have this one too."""
    if value is None:
        return True
    if column == "translation":
        return isinstance(value, dict)
    if column in ("words", "tokens", "ner_tags"):
        return isinstance(value, list) and all(isinstance(v, str | None) for v in value)
    return isinstance(value, str)


# Types of a whole column in parquet.
TYPES: dict[str, tuple[Callable[[str], Any], str, bool | None]] = {
    "large_string": (str, "large_string", True),
    "string_view": (str, "string_view", None),
    "dictionary": (str, "dictionary", True),
    "int64": (len, "int64", False),
    "double": (lambda t: len(t) / 3, "float64", False),
    "bool": (lambda t: len(t) % 2 == 0, "bool", False),
    "binary": (lambda t: t.encode(), "binary", None),
    "list": (lambda t: t.split(), "list", None),
    "struct": (lambda t: {"en": t}, "struct", False),
    "null": (lambda t: None, "null", False),
}


def types() -> Iterator[Case]:
    """A parquet column that is of another type throughout."""
    import pyarrow as pa

    arrow = {
        **{
            name: getattr(pa, name)()
            for name in ("large_string", "string_view", "int64", "float64", "binary", "null")
        },
        **{"bool": pa.bool_(), "dictionary": pa.dictionary(pa.int32(), pa.string())},
        **{"list": pa.list_(pa.string()), "struct": pa.struct([("en", pa.string())])},
    }
    for command, content, column in (
        ("pretrain", "corpus", "text"),
        ("corpus", "corpus", "text"),
        ("nli", "nli", "premise"),
        ("parse", "corpus", "text"),
        ("pretrain natural", "second", "text"),
        ("retrieval", "verses", "fr"),
    ):
        for name, (make, type_name, right) in TYPES.items():

            def change(
                world: World, folder: Path, options: Options, rng: Random, command: str = command,
                content: str = content, column: str = column, make: Any = make,
                kind: Any = arrow[type_name],
            ) -> Options:  # fmt: skip
                table = [row | {column: make(row[column])} for row in world.rows[content]]
                schema = pa.schema([(k, kind if k == column else pa.string()) for k in table[0]])
                path = folder / "typed.parquet"
                path.write_bytes(parquet(table, schema))
                return _into(world, command, options, path)

            yield Case(
                f"{command}/{content}.parquet/{column} of type {name}", command, change, right
            )


def shapes() -> Iterator[Case]:
    """JSON whose lines are not all like rows."""
    odd = {
        **{"a number": b"5\n", "a list": b'["a"]\n', "a text": b'"a"\n', "null": b"null\n"},
        **{
            "an empty row": b"{}\n",
            "another column": b'{"other": "a"}\n',
            "half a row": b'{"text": "a\n',
        },
        **{"two rows on a line": b'{"text": "a"} {"text": "b"}\n', "NaN": b'{"text": NaN}\n'},
        **{"a comment": b"// a comment\n", "deep": b'{"text": ' + b"[" * 500 + b"]" * 500 + b"}\n"},
    }
    wrong = {"a number", "a list", "a text", "half a row", "a comment", "deep"}
    for command, content in (
        ("pretrain", "corpus"),
        ("tag", "ner"),
        ("nli", "nli"),
        ("parse", "corpus"),
        ("corpus", "corpus"),
        ("pretrain natural", "second"),
        ("retrieval", "verses"),
    ):
        for name, line in odd.items():
            for place in ("first", "last"):

                def change(
                    world: World, folder: Path, options: Options, rng: Random,
                    command: str = command, content: str = content, line: bytes = line,
                    place: str = place,
                ) -> Options:  # fmt: skip
                    good = world.files[f"{content}.jsonl"]
                    path = folder / "odd.jsonl"
                    path.write_bytes(line + good if place == "first" else good + line)
                    return _into(world, command, options, path)

                yield Case(
                    f"{command}/{content}.jsonl/{name}, {place}",
                    command,
                    change,
                    # A task's rows have no text: what stands there is not looked at.
                    False
                    if name in wrong - ({"deep"} if content not in ("corpus", "second") else set())
                    else None,
                )
        whole = {
            "an array": lambda rows: json.dumps(rows).encode(),
            "an indented array": lambda rows: json.dumps(rows, indent=1).encode(),
            "in data": lambda rows: json.dumps({"data": rows}).encode(),
            "a dictionary of columns": lambda rows: json.dumps(
                {k: [r[k] for r in rows] for k in rows[0]}
            ).encode(),
        }
        for name, write in whole.items():

            def change(
                world: World, folder: Path, options: Options, rng: Random, command: str = command,
                content: str = content, write: Any = write,
            ) -> Options:  # fmt: skip
                path = folder / "whole.json"
                path.write_bytes(write(world.rows[content]))
                return _into(world, command, options, path)

            yield Case(f"{command}/{content}.json/{name}", command, change, None)


def trees() -> Iterator[Case]:
    """Odd sentences of a treebank, where trees are used and where they are not."""
    for name, (lines, right) in SENTENCES.items():
        for command, more in (
            ("pretrain", {"language": "trans_syn-fr", "validation_file": "trees.conllu"}),
            ("pretrain", {}),
            ("tag", {"task_name": "pos", "language": "trans_syn-fr"}),
            ("corpus", {"language": "trans_syn-fr"}),
            ("parse", {}),
        ):

            def change(
                world: World, folder: Path, options: Options, rng: Random,
                lines: list[str] = lines, more: Options = more,
            ) -> Options:  # fmt: skip
                path = folder / "odd.conllu"
                odd = "".join(f"{line}\n" for line in [*lines, ""]).encode()
                path.write_bytes(world.files["trees.conllu"] + odd)
                given = {next(o for o in ("train_file", "") if o in options): path}
                return (
                    _more(world, more)
                    | given
                    | ({"test_file": path} if "task_name" in more else {})
                )

            # What has no use for trees may read them, or not.
            judged = right if more.get("language") or (right and command != "parse") else None
            if name == "three columns":
                judged = False
            yield Case(
                f"{command}/trees.conllu/{name}" + "".join(f"/{k}" for k in more),
                command,
                change,
                judged,
            )
    assert len(CONLLU) == 4


# --- checkpoints and results ----------------------------------------------------------------------

BROKEN: dict[str, bytes | None] = {
    **{
        "missing": None,
        "empty": b"",
        "blank": b"\n",
        "null": b"null",
        "list": b"[]",
        "number": b"5",
    },
    **{"text": b'"x"', "garbage": b"\x80\x81garbage{", "dictionary": b"{}", "deep": b"[" * 5000},
}
OTHER = [None, -1, 0, "x", [], {}, 1e308, float("nan"), True, [None], {"a": [1]}]
# By command: the folder, how it is named, and the files that it must have whole.
NEEDED = {
    "tag": (
        "checkpoint",
        "model_name_or_path",
        ("config.json", "model.safetensors", "tokenizer.json", "language.json"),
    ),
    "pretrain": ("checkpoint", "model_name_or_path", ("config.json", "model.safetensors")),
    "corpus": ("checkpoint", "model_name_or_path", ("tokenizer.json", "language.json")),
    "card": ("checkpoint", "", ("all_results.json", "language.json", "config.json")),
    "push": ("checkpoint", "", ("all_results.json", "language.json", "config.json")),
    "report": ("task", "", ("all_results.json",)),
    "tag natural": (
        "natural",
        "model_name_or_path",
        ("config.json", "model.safetensors", "tokenizer.json", "language.json"),
    ),
    "pretrain extend": (
        "natural",
        "model_name_or_path",
        ("config.json", "model.safetensors", "tokenizer.json"),
    ),
    # Of three languages: its dictionary has parts, and these have counts.
    "doctor": (
        "roberta",
        "",
        ("config.json", "model.safetensors", "language.json", "dictionary.json"),
    ),
    "doctor natural": (
        "natural",
        "",
        ("config.json", "model.safetensors", "tokenizer.json", "language.json"),
    ),
    "retrieval": ("distilbert", "", ("config.json", "model.safetensors", "tokenizer.json")),
    "report natural": ("natural_task", "", ("all_results.json",)),
    "card natural": ("roberta", "", ("all_results.json", "language.json", "config.json")),
    "push natural": ("roberta", "", ("all_results.json", "language.json", "config.json")),
}
PARTS = (
    "config.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
    "language.json",
    "dictionary.json",
    "all_results.json",
)

CARDS = ("card", "push", "card natural", "push natural")
# A card does without these, and others take the languages that they are told.
FINE = {
    *((command, part, "missing") for command in CARDS for part in ("config.json", "language.json")),
    *((command, "config.json", "dictionary") for command in CARDS),
    *((command, "language.json", "missing") for command in ("corpus", "doctor", "tag natural")),
}


def _broken(command: str, part: str, alter: Callable[[bytes, Random], bytes | None]) -> Any:
    source, option, _ = NEEDED[command]

    def change(world: World, folder: Path, options: Options, rng: Random) -> Options:
        copy = folder / "damaged"
        shutil.copytree(getattr(world, source), copy)
        if (copy / part).exists():
            data = alter((copy / part).read_bytes(), rng)
            (copy / part).unlink()
            if data is not None:
                (copy / part).write_bytes(data)
        return {option: copy}

    return change


def checkpoints() -> Iterator[Case]:
    """Each file of a checkpoint or a run damaged, missing, or of other types inside."""
    for command, (source, _, needed) in NEEDED.items():
        for part in PARTS if "task" not in source else ("all_results.json",):
            damages: dict[str, Any] = {n: lambda d, r, new=new: new for n, new in BROKEN.items()}
            damages |= {
                "cut": lambda d, r: d[: r.randrange(1, len(d) - 1)],
                "bit flipped": flip_json,
            }
            if part.endswith(".json"):
                damages |= {f"other types {turn}": other_types for turn in range(6)}
            for name, alter in damages.items():
                certain = part in needed and not name.startswith(("bit", "other"))
                if (command, part, name) in FINE:
                    certain = False
                # The folder is named where no file is damaged, but one is missing or of another.
                whole = name in ("missing", "dictionary") or name.startswith("other")
                named = (part, "damaged") if whole else (part,)
                named += ("the dictionary has", "--dictionary_file: en-fr is no pair")
                change = _broken(command, part, alter)
                yield Case(
                    f"{command}/{part}/{name}",
                    command,
                    change,
                    None if not certain else False,
                    named,
                )


def flip_json(data: bytes, rng: Random) -> bytes:
    place = rng.randrange(len(data))
    return data[:place] + bytes([data[place] ^ (1 << rng.randrange(8))]) + data[place + 1 :]


def other_types(data: bytes, rng: Random) -> bytes:
    """JSON with another value in one place, at any depth."""
    whole = json.loads(data)
    place = whole
    while True:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        if not keys:
            return json.dumps(whole).encode()
        key = rng.choice(keys)
        if isinstance(place[key], dict | list) and place[key] and rng.random() < 0.7:
            place = place[key]
            continue
        place[key] = rng.choice(OTHER)
        return json.dumps(whole).encode()


# --- options --------------------------------------------------------------------------------------

ODD = ("-1", "0", "nan", "inf", "", "no/such", "FOLDER", "unknown", "1e400", "0x10")
NAMES = {
    "tokenizer_type",
    "extend_vocab_init",
    "objective",
    "size",
    "language",
    "alignment_loss_type",
    "alignment_word_weights",
    "task_name",
    "lr_scheduler_type",
    "optim",
    "dict_mlm_variant",
}
FILES = {
    *("train_file", "validation_file", "test_file", "parallel_file", "parallel_dataset_name"),
    *("dictionary_file", "dataset_name", "model_name_or_path", "tokenizer_name", "config_name"),
    *("parser", "transfer"),
}
COUNTS = {
    *("vocab_size", "max_train_samples", "max_eval_samples", "max_seq_length", "max_samples"),
    *("preprocessing_num_workers", "per_device_train_batch_size", "gradient_accumulation_steps"),
    *("alignment_pairs_per_step", "extend_vocab"),
}
SHARES = {
    "dictionary_fraction",
    "sampling_alpha",
    "tlm_rate",
    "swap_probability",
    "mlm_probability",
    "validation_split_percentage",
}
NUMBERS = {
    *("learning_rate", "weight_decay", "adam_epsilon", "warmup_steps", "alignment_loss_weight"),
    *("adam_beta1", "adam_beta2", "label_smoothing_factor", "num_train_epochs", "seeds"),
    *("dictionary_seed", "language_seed", "seed", "data_seed", "per_device_eval_batch_size"),
}
# Options of our own that only some objective has.
OBJECTIVE = {"tlm_rate": "xlm", "swap_probability": "dict-mlm", "dict_mlm_variant": "dict-mlm"}
# What the library would reach other machines for, or (torch_compile…) call a compiler.
LEFT_OUT = {"push_to_hub", "hub_token", "local_rank", "ddp_backend", "debug"}


def wrong(name: str, value: str) -> bool | None:
    """Whether this value of an option is known to be wrong."""
    if name in NAMES:
        return False
    if name in FILES:
        return None if value == "0" else False
    number = value in ("-1", "0", "nan", "inf", "1e400", "0x10")
    if name in COUNTS | SHARES | NUMBERS and not number:
        return False
    if name in COUNTS:
        return False
    if name in SHARES | NUMBERS:
        return None if value == "0" else False
    return None


def empty_folder(folder: Path) -> Path:
    """A folder with nothing in it, of this case alone: commands may write there."""
    (folder / "empty").mkdir()
    return folder / "empty"


def _option_case(command: str, name: str, value: str, right: bool | None) -> Case:
    def change(world: World, folder: Path, options: Options, rng: Random) -> Options:
        given = {name: str(empty_folder(folder)) if value == "FOLDER" else value}
        streaming = {"streaming": True} if name == "shuffle_buffer" else {}
        return ({"objective": OBJECTIVE[name]} if name in OBJECTIVE else streaming) | given

    # "x: no such file" names the option's value.
    named = (
        name,
        *(
            f"{value}: no such",
            f"{value}: its tokenizer.json",
            f"{value} does not load",
            f"{value} has no",
            repr(value),
            "has no dictionary.json",
            "unrecognized arguments",
        ),
        "empty" if value == "FOLDER" else name,
    )
    named += (value,) if len(value) > 2 else ()
    named += ("xnli_mixed needs",) if command == "nli natural" else ()
    return Case(f"{command}/--{name}/{value!r}", command, change, right, named, True)


def options() -> Iterator[Case]:
    """Every option with every odd value; of the library's, two values each."""
    own = {
        "pretrain": [f.name for part in (ModelArguments, DataArguments) for f in fields(part)]
        + [*OBJECTIVE, "mlm_probability"],
        "tag": [f.name for f in fields(TaskArguments)],
        "nli": ["task_name", "train_file", "max_eval_samples", "seeds", "xnli_mixed"],
        "corpus": [f.name for f in fields(BuildArguments)],
        "parse": ["parser", "output", "preprocessing_num_workers", "overwrite_output_dir"],
        "report": ["output_dir"],
        "card": ["output", "transfer"],
        "push": ["repo_id", "transfer", "private"],
        "pretrain natural": [
            *("sampling_alpha", "tokenizer_type", "vocab_size", "lowercase", "streaming"),
            *("language", "alignment_pairs_per_step", "alignment_word_weights", "max_seq_length"),
            *(*SOURCES, "dictionary_file", "dictionary_fraction", "max_train_samples"),
        ],
        "pretrain extend": ["extend_vocab", "extend_vocab_init", "max_seq_length"],
        "pretrain xlm": [*PARALLEL, "tlm_rate", "validation_split_percentage"],
        "tag natural": [*SOURCES, "test_file", "language", "max_train_samples"],
        "nli natural": ["test_file", "xnli_mixed"],
        "doctor": ["", "dictionary_file", "transfer", "output"],
        "retrieval": ["", "parallel_file", "max_samples", "output"],
    }
    library = [
        f.name
        for f in fields(TrainingArguments)
        if f.init and f.name not in LEFT_OUT and not f.name.startswith("torch_compile")
    ]
    for command, names in own.items():
        for name in names:
            for value in ODD:
                yield _option_case(command, name, value, wrong(name, value))
    for command in ("pretrain", "tag"):
        for name in sorted(set(library) - set(own[command])):
            chosen = (
                ODD if name in COUNTS | NUMBERS else Random(f"{command}{name}").sample(ODD[:8], 2)
            )
            for value in chosen:
                # Fine-tuning takes seeds of its own.
                known = (command, name) != ("tag", "seed")
                yield _option_case(command, name, value, wrong(name, value) if known else None)


OVERRIDES = (
    *(
        "hidden_size=-1",
        "hidden_size=0",
        "hidden_size=nan",
        "hidden_size=17",
        "hidden_size",
        "=",
        "a=b=c",
    ),
    *("nonsense=1", "num_attention_heads=0", "num_attention_heads=7", "num_hidden_layers=-1"),
    *(
        "vocab_size=10",
        "max_position_embeddings=8",
        "max_position_embeddings=-1",
        "hidden_act=unknown",
    ),
    *("layer_norm_eps=nan", "hidden_dropout_prob=2", "hidden_dropout_prob=-1", "type_vocab_size=0"),
    *("hidden_dropout_prob=nan", "intermediate_size=0", "initializer_range=inf", "hidden_size=1e9"),
)
LANGUAGES: dict[str, bool | None] = {
    **dict.fromkeys(("trans", "trans_inv", "trans50", "trans50_perm", "trans_perm"), True),
    **dict.fromkeys(("trans__inv", "_inv", "trans_", "trans-1", "trans1000", "trans_syn-"), False),
    **dict.fromkeys(
        ("trans_syn-xx", "natural_inv", "natural", "trans_inv ", "trans;rm", "trans_nope"), False
    ),
    **dict.fromkeys(
        ("inv", "TRANS", "trans0", "trans100", "trans050", "trans_inv_perm", "trans_inv_inv"), None
    ),
}
# Several options that do not go together, or that would do nothing.
TOGETHER: list[tuple[str, str, Options, bool | None]] = [
    ("pretrain", "a dataset beside files", {"dataset_name": "FOLDER"}, False),
    ("pretrain", "validation alone", {"train_file": None}, False),
    (
        "pretrain",
        "a language beside a natural one",
        {"train_file": "en=corpus.text", "language": "trans_inv"},
        False,
    ),
    (
        "pretrain",
        "a natural language for xlm",
        {"train_file": "en=corpus.text", "objective": "xlm"},
        False,
    ),
    ("pretrain", "no checkpoint to resume", {"resume_from_checkpoint": "/nonexistent"}, False),
    ("pretrain", "an option of another objective", {"tlm_rate": "0.5"}, False),
    ("pretrain", "one checkpoint kept", {"save_strategy": "steps", "save_total_limit": 1}, None),
    ("pretrain", "a stream without end", {"streaming": True, "max_steps": -1}, False),
    ("pretrain", "a stream", {"streaming": True}, True),
    ("pretrain", "more steps than rows", {"max_train_samples": 1}, None),
    ("pretrain", "one row to split", {"validation_file": None, "max_train_samples": 1}, None),
    ("pretrain", "a tokenizer of natural languages", {"tokenizer_type": "bpe"}, False),
    ("pretrain", "an unknown kind of tokenizer", {"tokenizer_type": "words"}, False),
    ("pretrain", "tokens to add to no checkpoint", {"extend_vocab": 10}, False),
    (
        "pretrain",
        "tokens to add for a synthetic language",
        {"extend_vocab": 10, "model_name_or_path": "CHECKPOINT"},
        False,
    ),
    ("pretrain", "a start of no tokens", {"extend_vocab_init": "mean"}, False),
    ("pretrain", "positions too few", {"max_seq_length": 2}, False),
    ("pretrain", "length of three", {"max_seq_length": 3}, None),
    (
        "pretrain",
        "longer than the model",
        {"max_seq_length": 4096, "model_name_or_path": "CHECKPOINT"},
        False,
    ),
    (
        "pretrain",
        "the output in the model",
        {
            "model_name_or_path": "CHECKPOINT",
            "output_dir": "CHECKPOINT",
            "overwrite_output_dir": True,
        },
        False,
    ),
    (
        "pretrain",
        "the output above the model",
        {"model_name_or_path": "CHECKPOINT", "output_dir": "ABOVE", "overwrite_output_dir": True},
        False,
    ),
    ("pretrain", "a package that is not there", {"report_to": "wandb"}, False),
    ("pretrain", "an optimizer that is not there", {"optim": "adamw_8bit"}, False),
    ("pretrain", "deepspeed", {"deepspeed": "no/such.json"}, False),
    (
        "pretrain",
        "best model",
        {
            "load_best_model_at_end": True,
            "eval_strategy": "steps",
            "eval_steps": 1,
            "save_strategy": "steps",
            "save_steps": 1,
        },
        None,
    ),
    (
        "pretrain",
        "a plateau",
        {"lr_scheduler_type": "reduce_lr_on_plateau", "eval_strategy": "steps", "eval_steps": 1},
        None,
    ),
    ("pretrain", "smoothed labels", {"label_smoothing_factor": 0.1}, None),
    ("pretrain", "last batch dropped", {"dataloader_drop_last": True}, None),
    ("pretrain", "columns removed", {"remove_unused_columns": True}, None),
    (
        "pretrain",
        "workers that persist",
        {"dataloader_persistent_workers": True, "dataloader_num_workers": 1},
        None,
    ),
    (
        "pretrain",
        "both batch sizes zero",
        {"per_device_train_batch_size": 0, "per_device_eval_batch_size": 0},
        False,
    ),
    ("pretrain", "an unknown option", {"nonsense": 5}, False),
    ("pretrain", "the input as output", {"output_dir": "corpus.text"}, False),
    ("tag", "a dataset beside files", {"dataset_name": "FOLDER"}, False),
    ("tag", "a test file alone", {"train_file": None}, False),
    ("tag", "a train file alone", {"test_file": None}, False),
    (
        "tag",
        "validation alone",
        {"train_file": None, "test_file": None, "validation_file": "ner.jsonl"},
        False,
    ),
    ("tag", "a seed", {"seed": 5}, False),
    ("tag", "seeds twice", {"seeds": [0, 0]}, False),
    ("tag", "too short", {"max_seq_length": 2}, False),
    ("tag", "too long", {"max_seq_length": 10_000}, False),
    ("tag", "resumed", {"resume_from_checkpoint": "/nonexistent"}, False),
    ("tag", "evaluated without a set", {"eval_strategy": "epoch"}, None),
    ("tag", "evaluated", {"eval_strategy": "epoch", "validation_file": "ner.jsonl"}, None),
    (
        "tag",
        "best model",
        {
            "load_best_model_at_end": True,
            "eval_strategy": "epoch",
            "save_strategy": "epoch",
            "validation_file": "ner.jsonl",
        },
        None,
    ),
    ("tag", "smoothed labels", {"label_smoothing_factor": 0.1}, True),
    ("tag", "a language of files", {"train_file": "en=ner.jsonl"}, False),
    ("tag", "pairs of sentences", {"xnli_mixed": True}, False),
    ("tag", "a task of the other command", {"task_name": "nli"}, False),
    (
        "tag",
        "the output in the model",
        {"output_dir": "CHECKPOINT", "overwrite_output_dir": True},
        False,
    ),
    (
        "tag",
        "the output above the model",
        {"output_dir": "ABOVE", "overwrite_output_dir": True},
        False,
    ),
    ("tag", "another language", {"language": "trans50"}, None),
    ("tag", "no checkpoint", {"model_name_or_path": None}, False),
    (
        "tag",
        "the embedded corpus",
        {"train_file": None, "test_file": None, "max_train_samples": 30, "max_eval_samples": 10},
        True,
    ),
    ("nli", "a task of the other command", {"task_name": "pos"}, False),
    ("nli", "rows of another task", {"train_file": "ner.jsonl"}, False),
    ("tag", "rows of another task", {"train_file": "nli.jsonl"}, False),
    ("corpus", "a language twice", {"language": ["trans_inv", "trans_inv"]}, None),
    ("corpus", "two languages", {"language": ["trans", "trans_inv"]}, True),
    ("corpus", "a test set of a corpus", {"test_file": "corpus.text"}, False),
    ("corpus", "a dataset beside files", {"dataset_name": "FOLDER"}, False),
    ("corpus", "a task without a test set", {"task_name": "ner", "train_file": "ner.jsonl"}, False),
    ("corpus", "validation alone", {"train_file": None, "validation_file": "corpus.text"}, False),
    ("corpus", "no samples", {"max_samples": 0}, False),
    ("corpus", "a checkpoint without a language", {"model_name_or_path": "FOLDER"}, False),
    ("corpus", "the input as output", {"output_dir": "corpus.text"}, False),
    ("parse", "the input as output", {"": "corpus.text", "output": "corpus.text"}, False),
    (
        "parse",
        "the input as output, overwritten",
        {"": "corpus.text", "output": "corpus.text", "overwrite_output_dir": True},
        False,
    ),
    ("report", "no runs", {"": "FOLDER"}, False),
    ("report", "a file", {"": "corpus.text"}, False),
    ("card", "no run", {"": "FOLDER"}, False),
    ("card", "a file", {"": "corpus.text"}, False),
    ("card", "no transfer", {"transfer": "FOLDER"}, False),
    ("card", "to a folder", {"output": "FOLDER"}, False),
    ("push", "no run", {"": "FOLDER"}, False),
    ("push", "an impossible name", {"repo_id": "a/b/c"}, None),
]


# The same of natural languages.
NAMED = ("corpus-text.txt", "empty", "checkpoint", "verses-text.txt", "natural-dictionary.txt")
NAMED += ("sw=", "fr-sw", "'en-fr'", "derived is", "corpus.jsonl", "xnli_mixed", "second_ner")
NAMED += ("the test sets of fr and en", "en-fr is no pair", "roberta")
EN, FR = "en=corpus.text", "fr=second.text"
WORDS, VERSES = "natural.dictionary", "verses.text"
THREE = [EN, FR, "sw=corpus.parquet"]
NATURAL: list[tuple[str, str, Options, bool | None]] = [
    ("pretrain natural", "a text without a name", {"train_file": [EN, "second.text"]}, False),
    ("pretrain natural", "validation without a name", {"validation_file": "corpus.text"}, False),
    ("pretrain natural", "training without a name", {"train_file": "corpus.text"}, False),
    ("pretrain natural", "validation of one", {"validation_file": "fr=second.jsonl"}, True),
    ("pretrain natural", "validation of another", {"validation_file": "sw=second.jsonl"}, False),
    ("pretrain natural", "a pair has no text", {"train_file": [EN, "en-fr=second.text"]}, False),
    ("pretrain natural", "called derived", {"train_file": [EN, "derived=second.text"]}, False),
    ("pretrain natural", "no file behind the name", {"train_file": [EN, "fr="]}, False),
    ("pretrain natural", "no name before the file", {"train_file": [EN, "=second.text"]}, False),
    ("pretrain natural", "a name that is a number", {"train_file": [EN, "5=second.text"]}, False),
    ("pretrain natural", "two names", {"train_file": [EN, "fr=sw=second.text"]}, False),
    ("pretrain natural", "in two files", {"train_file": [EN, FR, "fr=corpus.parquet"]}, True),
    ("pretrain natural", "streams", {"streaming": True}, True),
    ("pretrain natural", "balanced streams", {"streaming": True, "sampling_alpha": 0.5}, False),
    ("pretrain natural", "as it is", {"sampling_alpha": 1}, True),
    ("pretrain natural", "all alike", {"sampling_alpha": 0}, True),
    ("pretrain natural", "one of one", {"train_file": EN, "validation_file": None}, False),
    (
        "pretrain natural",
        "one, mlm",
        {
            **{"train_file": EN, "validation_file": None},
            **{"objective": "mlm", "dictionary_file": None},
        },
        True,
    ),
    ("pretrain natural", "no dictionary", {"dictionary_file": None}, False),
    ("pretrain natural", "a dictionary without a name", {"dictionary_file": WORDS}, True),
    ("pretrain natural", "a dictionary back", {"dictionary_file": f"fr-en={WORDS}"}, None),
    ("pretrain natural", "a dictionary of others", {"dictionary_file": f"en-sw={WORDS}"}, False),
    ("pretrain natural", "a dictionary of one", {"dictionary_file": f"fr={WORDS}"}, False),
    ("pretrain natural", "of itself", {"dictionary_file": f"en-en={WORDS}"}, False),
    ("pretrain natural", "twice", {"dictionary_file": [f"en-fr={WORDS}"] * 2}, False),
    (
        "pretrain natural",
        "both ways",
        {"dictionary_file": [f"en-fr={WORDS}", f"fr-en={WORDS}"]},
        False,
    ),
    ("pretrain natural", "one for three", {"train_file": THREE}, True),
    ("pretrain natural", "of whom", {"train_file": THREE, "dictionary_file": WORDS}, False),
    (
        "pretrain natural",
        "without the source",
        {"train_file": THREE, "dictionary_file": f"fr-sw={WORDS}"},
        None,
    ),
    ("pretrain natural", "unigram", {"tokenizer_type": "unigram"}, True),
    ("pretrain natural", "bpe", {"tokenizer_type": "bpe"}, True),
    ("pretrain natural", "bpe, lower case", {"tokenizer_type": "bpe", "lowercase": True}, True),
    ("pretrain natural", "bytes too many", {"tokenizer_type": "bpe", "vocab_size": 100}, False),
    ("pretrain natural", "unigram, none", {"tokenizer_type": "unigram", "vocab_size": 6}, False),
    (
        "pretrain natural",
        "a kind beside a tokenizer",
        {"tokenizer_name": "NATURAL", "tokenizer_type": "bpe", "vocab_size": None},
        False,
    ),
    ("pretrain natural", "another's tokenizer", {"tokenizer_name": "ROBERTA"}, True),
    ("pretrain natural", "doubled", {"tokenizer_name": "CHECKPOINT"}, None),
    ("pretrain natural", "by frequency", {"alignment_word_weights": "frequency"}, True),
    (
        "pretrain natural",
        "by frequency in a stream",
        {"alignment_word_weights": "frequency", "streaming": True},
        False,
    ),
    ("pretrain natural", "one pair a step", {"alignment_pairs_per_step": 1}, True),
    (
        "pretrain natural",
        "a language each",
        {"objective": "mlm", "language_embeddings": True, "train_file": THREE},
        None,
    ),
    ("pretrain natural", "swapped", {"objective": "dict-mlm"}, True),
    ("pretrain natural", "a configuration", {"config_name": "NATURAL"}, True),
    ("pretrain natural", "another's", {"model_name_or_path": "ROBERTA"}, True),
    ("pretrain natural", "a unigram's", {"model_name_or_path": "DISTILBERT"}, True),
    ("pretrain natural", "a twin's", {"model_name_or_path": "CHECKPOINT"}, None),
    (
        "pretrain natural",
        "too few positions",
        {"model_name_or_path": "ROBERTA", "max_seq_length": 40},
        False,
    ),
    ("pretrain natural", "parallel text for align-mlm", {"parallel_file": VERSES}, False),
    ("pretrain", "parallel text of a twin", {"objective": "xlm", "parallel_file": VERSES}, False),
    ("pretrain", "another's model", {"model_name_or_path": "ROBERTA"}, False),
    ("pretrain", "balance of twins", {"sampling_alpha": 0.5}, False),
    ("pretrain xlm", "no parallel text", {"parallel_file": None}, False),
    ("pretrain xlm", "without a name", {"parallel_file": VERSES}, True),
    ("pretrain xlm", "back", {"parallel_file": f"fr-en={VERSES}"}, None),
    ("pretrain xlm", "of others", {"parallel_file": f"en-sw={VERSES}"}, False),
    ("pretrain xlm", "of one", {"parallel_file": f"fr={VERSES}"}, False),
    (
        "pretrain xlm",
        "without the source",
        {"parallel_file": f"fr-sw={VERSES}", "train_file": THREE},
        False,
    ),
    (
        "pretrain xlm",
        "one for three",
        {"parallel_file": f"en-fr={VERSES}", "train_file": THREE},
        True,
    ),
    ("pretrain xlm", "one side", {"parallel_file": "en-fr=corpus.text"}, False),
    (
        "pretrain xlm",
        "aligned",
        {"parallel_file": ["en-fr=corpus.text", FR.replace("fr", "en-fr", 1)]},
        True,
    ),
    ("pretrain xlm", "two of columns", {"parallel_file": [f"en-fr={VERSES}"] * 2}, False),
    (
        "pretrain xlm",
        "three aligned",
        {"parallel_file": ["en-fr=corpus.text", "en-fr=second.text", "en-fr=corpus.text"]},
        False,
    ),
    (
        "pretrain xlm",
        "several forms",
        {"parallel_file": ["en-fr=verses.jsonl", "en-fr=verses.csv", "en-fr=translation.parquet"]},
        True,
    ),
    ("pretrain xlm", "rows of another kind", {"parallel_file": "en-fr=corpus.jsonl"}, False),
    ("pretrain xlm", "a dataset beside", {"parallel_dataset_name": "en-fr=FOLDER"}, False),
    ("pretrain xlm", "a stream beside", {"streaming": True}, True),
    ("pretrain xlm", "three, one pair", {"max_train_samples": 1}, None),
    ("pretrain xlm", "of no more tokens", {"tlm_rate": 1}, True),
    ("pretrain extend", "no dictionary", {"dictionary_file": None, "objective": "mlm"}, True),
    *(
        ("pretrain extend", f"from {start}", {"extend_vocab_init": start}, True)
        for start in ("pieces", "mean", "random")
    ),
    ("pretrain extend", "a tokenizer beside", {"tokenizer_name": "NATURAL"}, False),
    ("pretrain extend", "byte-level", {"model_name_or_path": "ROBERTA"}, True),
    ("pretrain extend", "pieces", {"model_name_or_path": "DISTILBERT"}, True),
    ("pretrain extend", "a twin's", {"model_name_or_path": "CHECKPOINT"}, None),
    ("pretrain extend", "a language more", {"train_file": THREE}, True),
    ("pretrain extend", "more than there is", {"extend_vocab": 10**6}, None),
    ("pretrain extend", "streams", {"streaming": True}, True),
    (
        "pretrain extend",
        "of one language",
        {
            **{"train_file": EN, "validation_file": None},
            **{"objective": "mlm", "dictionary_file": None},
        },
        False,
    ),
    ("tag natural", "only the source", {"test_file": "en=ner.parquet"}, True),
    (
        "tag natural",
        "without a name",
        {"train_file": "ner.jsonl", "test_file": "ner.parquet"},
        True,
    ),
    ("tag natural", "some without a name", {"test_file": "second_ner.parquet"}, None),
    ("tag natural", "one without", {"test_file": ["en=ner.parquet", "second_ner.parquet"]}, False),
    ("tag natural", "another", {"test_file": ["en=ner.parquet", "hi=second_ner.jsonl"]}, True),
    ("tag natural", "of the same", {"test_file": ["en=ner.parquet", "fr=ner.jsonl"]}, False),
    ("tag natural", "twice", {"test_file": ["en=ner.parquet", "en=second_ner.jsonl"]}, False),
    ("tag natural", "no test of the source", {"test_file": "fr=second_ner.jsonl"}, False),
    ("tag natural", "no training", {"train_file": None}, False),
    ("tag natural", "training of another", {"train_file": "fr=second_ner.jsonl"}, None),
    (
        "tag natural",
        "supervised",
        {"train_file": ["en=ner.jsonl", "fr=second_ner.jsonl"], "skip_supervised": None},
        True,
    ),
    ("tag natural", "a twin", {"language": "trans_inv"}, False),
    ("tag natural", "doubled", {"double_vocabulary": True}, False),
    ("tag natural", "nothing", {"train_file": None, "test_file": None}, False),
    ("tag natural", "byte-level", {"model_name_or_path": "ROBERTA"}, True),
    ("tag natural", "pieces", {"model_name_or_path": "DISTILBERT"}, True),
    ("tag natural", "a dataset each", {"dataset_name": "FOLDER"}, False),
    ("tag natural", "a pair", {"test_file": ["en=ner.parquet", "en-fr=second_ner.jsonl"]}, False),
    (
        "nli natural",
        "not parallel",
        {"test_file": ["en=nli.parquet", "fr=second_ner.jsonl"]},
        False,
    ),
    ("nli natural", "mixed with itself", {"test_file": "en=nli.parquet"}, False),
    ("nli natural", "not mixed", {"xnli_mixed": None}, True),
    ("nli natural", "one row", {"max_eval_samples": 1}, True),
    ("nli", "mixed with a twin", {"xnli_mixed": True}, True),
    ("doctor", "no checkpoint", {"": "FOLDER"}, False),
    ("doctor", "a file", {"": "corpus.text"}, False),
    ("doctor", "a twin's", {"": "CHECKPOINT"}, True),
    ("doctor", "a tagger", {"": "TASK"}, False),
    ("doctor", "runs of tasks", {"": "CHECKPOINT", "transfer": "TASK"}, True),
    ("doctor", "runs of natural tasks", {"transfer": "NATURAL_TASK"}, True),
    ("doctor", "runs of one language", {"transfer": "ALONE"}, True),
    ("report natural", "one language", {"": "ALONE"}, None),
    ("card natural", "runs of one language", {"": "NATURAL", "transfer": "ALONE"}, None),
    ("card natural", "runs of natural tasks", {"": "NATURAL", "transfer": "NATURAL_TASK"}, True),
    ("card natural", "a tagger", {"": "NATURAL_TASK"}, True),
    ("card natural", "a tagger of one language", {"": "ALONE"}, True),
    ("doctor", "runs of none", {"transfer": "FOLDER"}, False),
    ("doctor", "to a folder", {"output": "FOLDER"}, False),
    ("doctor", "a dictionary without a name", {"dictionary_file": WORDS}, False),
    (
        "doctor",
        "a dictionary each",
        {"dictionary_file": [f"en-fr={WORDS}", f"en-sw={WORDS}"]},
        True,
    ),
    ("doctor natural", "without a name", {"dictionary_file": WORDS}, True),
    ("doctor natural", "of others", {"dictionary_file": f"en-sw={WORDS}"}, False),
    ("doctor natural", "of one", {"dictionary_file": f"fr={WORDS}"}, False),
    ("doctor natural", "twice", {"dictionary_file": [f"en-fr={WORDS}"] * 2}, False),
    (
        "doctor natural",
        "over its words",
        {"dictionary_file": f"en-fr={WORDS}", "output": WORDS},
        False,
    ),
    ("doctor natural", "a twin's", {"": "CHECKPOINT", "dictionary_file": "pairs.dictionary"}, True),
    ("doctor natural", "a twin's, named", {"": "CHECKPOINT"}, False),
    ("retrieval", "no checkpoint", {"": "FOLDER"}, False),
    ("retrieval", "a twin's", {"": "CHECKPOINT"}, True),
    ("retrieval", "byte-level", {"": "ROBERTA"}, True),
    ("retrieval", "a tagger", {"": "TASK"}, True),
    ("retrieval", "to a folder", {"output": "FOLDER"}, False),
    ("retrieval", "without a name", {"parallel_file": VERSES}, None),
    ("retrieval", "of one", {"parallel_file": f"fr={VERSES}"}, False),
    ("retrieval", "of itself", {"parallel_file": f"en-en={VERSES}"}, False),
    ("retrieval", "of languages unseen", {"parallel_file": f"hi-sw={VERSES}"}, True),
    ("retrieval", "over its text", {"parallel_file": f"en-fr={VERSES}", "output": VERSES}, False),
    ("retrieval", "one pair", {"max_samples": 1}, None),
    ("card natural", "to a folder", {"output": "FOLDER"}, False),
    ("card natural", "no transfer", {"transfer": "FOLDER"}, False),
]


def combinations() -> Iterator[Case]:
    """Values of a configuration, names of languages, and options that do not go together."""

    def given(more: Options) -> Any:
        def change(world: World, folder: Path, options: Options, rng: Random) -> Options:
            copy = folder / "runs" / "checkpoint"
            if any(
                value in ("CHECKPOINT", "ABOVE")
                for value in more.values()
                if isinstance(value, str)
            ) or more.get("overwrite_output_dir"):
                shutil.copytree(world.checkpoint, copy)
                if "model_name_or_path" in options:
                    options["model_name_or_path"] = copy
            places = {"FOLDER": empty_folder(folder), "CHECKPOINT": copy, "ABOVE": folder / "runs"}
            runs = ("NATURAL", "ROBERTA", "DISTILBERT", "TASK", "NATURAL_TASK", "ALONE")
            places |= {name: getattr(world, name.lower()) for name in runs} | world.path
            for source in {more.get("output"), more.get("output_dir")} & world.path.keys():
                places[source] = Path(shutil.copy(world.path[source], folder))
            return {name: _filled(places, value) for name, value in more.items()}

        return change

    for override in OVERRIDES:
        yield Case(
            f"pretrain/--config_overrides/{override}",
            "pretrain",
            given({"config_overrides": override}),
            False,
            (
                override.partition("=")[0] or "config_overrides",
                "config_overrides",
                "max_seq_length",
            ),
            True,
        )
    for language, right in LANGUAGES.items():
        for command in ("pretrain", "corpus", "tag"):
            yield Case(
                f"{command}/--language/{language}",
                command,
                given({"language": language}),
                right,
                (language, "language"),
                True,
            )
    for command, name, more, right in TOGETHER + NATURAL:
        yield Case(
            f"{command}/together/{name}",
            command,
            given(more),
            right,
            (*more, *map(str, more.values()), *NAMED),
            True,
        )


def every_case() -> list[Case]:
    """All cases, by name."""
    cases: dict[str, Case] = {}
    for kind in (files, rows, types, shapes, trees, checkpoints, options, combinations):
        for case in kind():
            assert case.name not in cases, case.name
            cases[case.name] = case
    return list(cases.values())
