"""The paper's grid: the presets, and the steps that each takes."""

import argparse
import shlex
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hf_alignmlm.runs import RESULTS_FILE

OBJECTIVES = ("mlm", "xlm", "dict-mlm", "align-mlm")
TASKS = ("pos", "ner", "nli")
KINDS = ("parser", "parsing", "pretraining", *TASKS)
# The first stands for all: it alone is run with every seed and, with one task, every dictionary.
LANGUAGES = ("trans_inv", "trans", "trans_syn-fr")
MAIN = LANGUAGES[0]
CURVE_OBJECTIVE, CURVE_TASK = "align-mlm", "pos"
PRESETS = tomllib.loads(Path(__file__).with_name("presets.toml").read_text(encoding="utf-8"))


# Modules that had another name in release 0.1.0: a result recorded under it still counts.
OF_0_1 = {"study.parser": ["hf_alignmlm.parsing", "train"], "hf_alignmlm": ["hf_alignmlm.parsing"]}


@dataclass(frozen=True)
class Step:
    """One call of a module; `{data}` and `{output}` in its command stand for the two folders."""

    name: str
    kind: str
    command: tuple[str, ...]
    product: str
    needs: tuple["Step", ...] = ()
    cell: tuple[str, str, str] | None = None  # objective, language, task
    dictionary_fraction: float = 1.0

    @property
    def chain(self) -> list["Step"]:
        """All steps that lead to this one's product, in order, itself last."""
        return [*dict.fromkeys(step for need in self.needs for step in need.chain), self]

    @property
    def shown(self) -> str:
        """The command for a shell, `{data}` and `{output}` still in it."""
        return " ".join(["python -m", *(word or "''" for word in self.command)])

    def made(self, recorded: list[list[str]]) -> bool:
        """Whether a result with these commands, one for each step of the chain, is this step's."""
        return len(recorded) == len(self.chain) and all(
            command in (list(step.command), [*OF_0_1.get(step.command[0], []), *step.command[1:]])
            for command, step in zip(recorded, self.chain, strict=True)
        )


class Plan:
    """Gathers the steps of a grid, each once, in the order in which they are asked for."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options, self.preset = options, PRESETS[options.preset]
        self.steps: dict[str, Step] = {}

    def words(self, kind: str) -> list[str]:
        """The preset's options of a kind of step, then the user's, which win."""
        given = self.options.override.get(kind, "")
        return shlex.split(f"{self.preset['options'].get(kind, '')} {given}")

    def add(self, name: str, kind: str, command: list[str], *args: Any, **more: Any) -> Step:
        return self.steps.setdefault(name, Step(name, kind, tuple(command), *args, **more))

    def parsed(self, path: str) -> Step:
        """The step that gives a file trees, after the one that trains the parser."""
        files, given = shlex.split(self.preset["options"]["parser"]), self.words("parser")
        train = [*files, "--output_dir", "{output}/parser", *given[len(files) :]]
        product = "{output}/parser/parser.json"
        parser = self.add("parser", "parser", ["study.parser", *train], product)
        name = "-".join(path.split(".")[0].split("/")[1:])
        product = f"{{output}}/parsed/{name}.parquet"
        parse = f"hf_alignmlm parse {path} --parser {{output}}/parser --output {product}".split()
        return self.add(name, "parsing", [*parse, *self.words("parsing")], product, (parser,))

    def run(
        self, name: str, kind: str, head: str, language: str, *needs: Step, **more: Any
    ) -> Step:
        """A training run; in a language that needs trees, on the parsed files."""
        unparsed = self.preset["unparsed"] if "syn-" in language else ()
        trees = {word: self.parsed(word) for word in self.words(kind) if word in unparsed}
        words = [trees[w].product if w in trees else w for w in self.words(kind)]
        folder = "{output}/" + name
        product = f"{folder}/{'model.safetensors' if kind == 'pretraining' else RESULTS_FILE}"
        command = [*head.split(), *words, "--output_dir", folder]
        return self.add(name, kind, command, product, (*trees.values(), *needs), **more)

    def cell(self, objective: str, language: str, seed: int, fraction: float = 1.0) -> None:
        """A pre-training run and its tasks; with part of the dictionary, one task."""
        name = f"{objective}-{language}-{seed}"
        head = f"run_pretraining --objective {objective} --language {language} --seed {seed}"
        if fraction != 1:
            name += f"-d{round(100 * fraction):02d}"
            head += f" --dictionary_fraction {fraction:g}"
        more: dict[str, Any] = {"dictionary_fraction": fraction}
        pretraining = self.run(name, "pretraining", head, language, **more)
        for task in self.options.tasks if fraction == 1 else (CURVE_TASK,):
            head = "run_xnli" if task == "nli" else f"run_tagging --task_name {task}"
            head += f" --model_name_or_path {{output}}/{name}"
            more["cell"] = (objective, language, task)
            self.run(f"{name}-{task}", task, head, language, pretraining, **more)


def plan(options: argparse.Namespace) -> list[Step]:
    """All steps of the grid, the most telling first: first seeds, more seeds, dictionary curve."""
    grid = Plan(options)
    for language in sorted(options.languages, key=lambda name: [*LANGUAGES, name].index(name)):
        for objective in options.objectives:
            grid.cell(objective, language, options.seeds[0])
    if MAIN in options.languages:
        for seed in options.seeds[1:]:
            for objective in options.objectives:
                grid.cell(objective, MAIN, seed)
        if CURVE_OBJECTIVE in options.objectives and CURVE_TASK in options.tasks:
            for fraction in sorted({*options.dictionary_fractions} - {1.0}, reverse=True):
                grid.cell(CURVE_OBJECTIVE, MAIN, options.seeds[0], fraction)
    # Parsing takes long and few wait for it, so it goes first.
    return sorted(grid.steps.values(), key=lambda step: step.kind not in KINDS[:2])
