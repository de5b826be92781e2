"""English in miniature: a seeded grammar that gives sentences, tags, trees, entities and NLI pairs.

A sentence is a tree of immutable nodes. It is put into order once, so that words, tags, entities
and heads cannot disagree. A sentence has one topic, whose verbs choose their subjects and objects.
The topics and all word lists, most frequent first, are in `grammar.json`. Every draw is a
`Random.random()`, whose numbers Python promises to keep from version to version.
"""

import itertools
import json
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

T = TypeVar("T")
Dep = tuple[str, "Node"]
Deps = tuple[Dep, ...]


@dataclass(frozen=True, slots=True)
class Sentence:
    """One sentence with its gold analysis: five fields, each with an entry per word.

    `upos` and `deprels` are those of Universal Dependencies, `ner_tags` IOB2 over PER, LOC and ORG;
    `heads` count from 1, with 0 for the root. The tree is projective.
    """

    words: tuple[str, ...]
    upos: tuple[str, ...]
    ner_tags: tuple[str, ...]
    heads: tuple[int, ...]
    deprels: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Pair:
    """A premise and a hypothesis with their "entailment", "neutral" or "contradiction"."""

    premise: Sentence
    hypothesis: Sentence
    label: str


class Node(NamedTuple):
    """A constituent: a head word, and its dependents to the left and to the right, in order."""

    word: str
    upos: str
    left: Deps = ()
    right: Deps = ()
    agr: str = "it"  # the pronoun that could stand for it: person, number and gender in one
    ner: str = "O"

    def extend(self, left: Deps = (), right: Deps = ()) -> "Node":
        """The same node with more dependents, farther out on each side."""
        return Node(self[0], self[1], left + self[2], self[3] + right, self[4], self[5])

    def join(self, other: "Node", *links: Dep) -> "Node":
        """The same node and `other`, with `links` before it: "Tom and Lena"."""
        return self.extend((), (("conj", other.extend(links)),))

    def oblique(self, preposition: str = "") -> "Node":
        """The same node as an object, or behind a preposition: "him", "by him"."""
        node = self._replace(word=WORDS["accusative"].get(self.word, self.word))
        return node.extend((_dep(preposition, "ADP"),)) if preposition else node


class Clause(NamedTuple):
    """What a clause says. Voice, polarity and mood then give it an order of words."""

    subject: Node | None
    verb: str
    object: Node | None = None  # of "be", the predicate
    tense: str = "past"  # or "present", "base", "to"; then an auxiliary, as in "past/have"
    negated: bool = False
    passive: bool = False
    rest: Deps = ()


def _ranked(entry: Any) -> tuple[Any, ...]:
    if isinstance(entry, str):
        entry = entry.split()
    elif isinstance(entry, dict):
        entry = [(key, _ranked(text)) for key, text in entry.items()]
    # Item k comes about 24/k times, so that a uniform draw is a draw by Zipf's law.
    return tuple(item for k, item in enumerate(entry, 1) for _ in range(-(-24 // k)))


@cache
def _dep(word: str, upos: str, relation: str = "") -> Dep:
    return relation or WORDS["relations"][upos], Node(word, upos)


def _phrase(text: str) -> Dep:
    *modifiers, (word, upos) = (token.split("/") for token in text.split())
    relation = "advmod" if upos == "ADV" else "obl"
    return relation, Node(word, upos, tuple(_dep(*modifier) for modifier in modifiers))


WORDS = json.loads(Path(__file__).with_suffix(".json").read_text(encoding="utf-8"))
LISTS = {name: _ranked(entry) for name, entry in WORDS["lists"].items()}
TOPICS = [{part: _ranked(entry) for part, entry in topic.items()} for topic in WORDS["topics"]]
PEOPLE = {person for topic in TOPICS for person in topic["people"]}
TIMES = {tense: _ranked(map(_phrase, phrases)) for tense, phrases in WORDS["times"].items()}
COMMA, AND, THAT = _dep(",", "PUNCT"), _dep("and", "CCONJ"), _dep("that", "SCONJ")
NONE: Deps = ()


@cache
def _name(text: str, kind: str, agr: str) -> Node:
    words = text.removeprefix("the_").split("_")
    first, *others = [Node(word, "PROPN", agr=agr, ner=f"I-{kind}") for word in words]
    role = "flat"
    if len(others) == 2:
        link, last = others
        role, others = "nmod", [last.extend((("case", link._replace(upos="ADP")),))]
    first = first._replace(ner=f"B-{kind}", right=tuple((role, other) for other in others))
    return first.extend((_dep("the", "DET"),)) if text.startswith("the_") else first


@cache
def _verb_form(verb: str, shape: str, agr: str) -> str:
    third = agr in ("he", "she", "it", "everyone", "someone")
    if verb == "be" and shape in WORDS["be"]:
        return WORDS["be"][shape][0 if agr == "I" else 1 if third else 2]
    if shape == "base" or verb in WORDS["modals"] or (shape == "present" and not third):
        return verb
    place = ("present", "past", "participle", "ing").index(shape)
    return WORDS["verbs"][verb].split()[place]


@cache
def _verb_group(
    verb: str, agr: str, tense: str, negated: bool, passive: bool, ask: bool
) -> tuple[Deps, str]:
    # Each auxiliary decides the shape of the next word; the tense decides that of the first.
    shape, *auxiliaries = tense.split("/")
    links = [(word, "aux") for word in auxiliaries] + [("be", "aux:pass")] * passive
    if (negated or ask) and not links and verb != "be" and shape != "to":
        links = [("do", "aux")]
    left: list[Dep] = [_dep("to", "PART", "mark")] * (shape == "to")
    shape, form = "base" if left else shape, ""
    for word, relation in [*links, (verb, "cop" if verb == "be" else "")]:
        form = _verb_form(word, shape, agr)
        if relation:
            left.append(_dep(form, "AUX", relation))
        done = word == "have" or relation == "aux:pass"
        shape = "participle" if done else "ing" if word == "be" else "base"
    if negated:
        left.insert(tense != "to", _dep("not", "PART"))
    return tuple(left), form


def _build(clause: Clause, opening: Deps = (), ask: bool = False, silent: bool = False) -> Node:
    """Order a clause: `opening` comes first, `ask` inverts, `silent` leaves the subject out."""
    subject, verb, thing, tense, negated, passive, rest = clause
    if passive:
        rest = (("obl", subject.oblique("by")), *rest) if subject else rest
        subject, thing = thing, None
    left, form = _verb_group(verb, subject.agr if subject else "they", tense, negated, passive, ask)
    if subject and not silent:
        lead = (("nsubj:pass" if passive else "nsubj", subject),)
        left = left[:1] + lead + left[1:] if ask else lead + left
    if verb == "be" and thing:
        return thing.extend(opening + left, rest)
    rest = (("obj", thing.oblique()), *rest) if thing else rest
    return Node(form, "VERB", opening + left, rest)


def _linearise(root: Node, mark: str = ".") -> Sentence:
    rows: list[list[Any]] = []

    def walk(relation: str, node: Node) -> int:
        children = [walk(*dep) for dep in node[2]]
        rows.append([node[0], node[1], node[5], 0, relation])
        here = len(rows)
        children += [walk(*dep) for dep in node[3]]
        for child in children:
            rows[child - 1][3] = here
        return here

    walk("root", root.extend((), (_dep(mark, "PUNCT"),)))
    rows[0][0] = rows[0][0][0].upper() + rows[0][0][1:]
    return Sentence(*zip(*rows, strict=True))


class _Writer:
    """Draws constituents on one topic; `draw` gives uniform numbers in [0, 1)."""

    def __init__(self, draw: Callable[[], float]) -> None:
        self.draw, self.owner, self.past = draw, "they", False
        self.topic = self.pick(TOPICS)

    def coin(self, chance: float = 0.5) -> bool:
        return self.draw() < chance

    def pick(self, items: str | Sequence[Any]) -> Any:
        """One of the items, or of the list of that name."""
        items = LISTS[items] if isinstance(items, str) else items
        return items[int(self.draw() * len(items))]

    def name(self, kind: str) -> Node:
        agr = "it" if kind != "PER" else self.pick(("he", "she"))
        lists = {"@": "cities", "$": "surnames", "#": "women" if agr == "she" else "men"}
        pattern = self.pick(self.topic["firms"] if kind == "ORG" else kind)
        text = "".join(self.pick(lists[c]) if c in lists else c for c in pattern)
        return _name(text, kind, agr)

    def noun(self, lemma: str, room: int = 0, det: str = "") -> Node:
        """Build a noun phrase: without adjectives if room is -1, with any modifier if room is 1."""
        person, mass = lemma in PEOPLE, lemma in WORDS["mass nouns"]
        many = det != "a" and not mass and self.coin(0.3)
        agr = "they" if many else "it" if not person else self.pick(("he", "she"))
        word = WORDS["plurals"].get(lemma, lemma + "s") if many else lemma
        left, right = NONE, NONE
        if room >= 0 and self.coin(0.3):
            fits = any(lemma in things for _, things in self.topic["deeds"])
            usual = self.topic["qualities"] if fits else "qualities"
            left = (_dep(self.pick("people's qualities" if person else usual), "ADJ"),)
        number = "mass" if mass else "plural" if many else "singular"
        det = f"{det}/DET" if det else self.pick(number)
        if det == "*/PRON":
            det = WORDS["possessive"].get(self.owner, "their") + "/PRON"
        elif det == "a/DET" and (left[0][1].word if left else word)[0] in "aeiou":
            det = "an/DET"
        left = (_dep(*det.split("/")), *left)
        x = self.draw() if room > 0 else 1.0
        if x < 0.12:
            right = (self.relative(lemma, agr),)
        elif x < 0.31:
            link, name = ("of", "ORG") if person and x < 0.19 else ("from", "LOC")
            right = (("nmod", self.name(name).oblique(link) if x < 0.26 else self.place()[1]),)
        return Node(word, "NOUN", left, right, agr)

    def relative(self, lemma: str, agr: str) -> Dep:
        tense = self.pick("past tenses" if self.past else "tenses")
        if lemma in PEOPLE:
            return "acl:relcl", _build(self.clause(0, Node("who", "PRON", agr=agr), tense))
        deeds = self.topic["deeds"] + LISTS["common deeds"]
        verb = self.pick([verb for verb, things in deeds if lemma in things] or ["see"])
        tense = tense.removesuffix("/be") if verb in WORDS["stative"] else tense
        opening = (_dep("that", "PRON", "obj"),) if self.coin() else ()
        who = self.nominal(self.pick("subjects"))
        return "acl:relcl", _build(Clause(who, verb, None, tense), opening)

    def nominal(self, kind: str, room: int = 0, det: str = "") -> Node:
        """Build a name, PEOPLE of the topic, a couple (AND), a pronoun or a noun, by `kind`."""
        if kind in ("PER", "LOC", "ORG"):
            return self.name(kind)
        if kind == "AND":
            first, second = self.pick((("PER", "PEOPLE"), ("PEOPLE", "PER"), ("PER", "PER")))
            return self.nominal(first).join(self.nominal(second), AND)._replace(agr="they")
        if kind in WORDS["pronouns"]:
            return Node(kind, "PRON", agr=kind)
        return self.noun(self.pick(self.topic["people"]) if kind == "PEOPLE" else kind, room, det)

    def place(self) -> Dep:
        if self.coin(0.35):
            preposition = self.pick("near places")
            return "obl", self.name("LOC").oblique(preposition)
        preposition, nouns = self.pick(self.topic["places"])
        noun = self.noun(self.pick(nouns), 0, self.pick("place determiners"))
        return "obl", noun.oblique(preposition)

    def deed(self, room: int = 0, det: str = "", company: bool = False) -> tuple[str, Node]:
        """Draw a verb and an object that fits it."""
        usual = company or self.coin(0.7)
        pool = "company deeds" if company else self.topic["deeds"]
        verb, things = self.pick(pool if usual else "common deeds")
        return verb, self.nominal(self.pick(things), room, det)

    def subordinate(self, tense: str) -> Dep:
        mark = _dep(self.pick("subordinators"), "SCONJ")
        tense = "past" if tense.startswith("past") else "present"
        return "advcl", _build(self.clause(0, tense=tense), (mark,))

    def adjuncts(self, tense: str, room: int, still: bool) -> Deps:
        x, y, rest = self.draw(), self.draw(), NONE
        if x < 0.35 and not still:
            how = _dep(self.pick("how"), "ADV")
            rest = (self.place() if x > 0.1 else how,)
        if y < 0.22:
            era = "will" if "will" in tense else "past" if tense[:4] == "past" else "present"
            return *rest, self.pick(TIMES[era])
        return (*rest, self.subordinate(tense)) if room and y < 0.33 else rest

    def clause(self, room: int = 1, given: Node | None = None, tense: str = "") -> Clause:
        """Draw a clause, or what a given subject does; with clauses inside it if there is room."""
        kind = self.pick("clauses" if room else "simple clauses")
        tense = tense or self.pick("tenses")
        self.past = tense.startswith("past")
        verb, actors = self.pick(self.topic["acts"])
        thing, rest = None, NONE
        actor = self.noun(self.pick(actors), room) if kind == "act" and actors else None
        subject = given or actor or self.nominal(self.pick("subjects"), room)
        self.owner = subject.agr
        company = subject.ner.endswith("ORG")
        if kind == "deed" or (company and kind not in ("that", "to")):
            kind, (verb, thing) = "deed", self.deed(room, "", company)
        elif kind == "be":
            very = _dep(self.pick("degree"), "ADV")
            left = (very,) if self.coin(0.2) else NONE
            verb, thing = kind, Node(self.pick("people's qualities"), "ADJ", left)
            if self.coin(0.4):
                single = self.coin() and subject.agr not in ("we", "they")
                thing = self.nominal("PEOPLE", 0, "a") if single else self.place()[1]
        elif kind == "go":
            verb, goal = self.pick("motion"), self.place()[1]
            rest = (("obl", goal._replace(left=goal.left[1:]).oblique("to")),)
        elif kind == "that":
            verb, tense = self.pick(kind), "past" if self.past else "present"
            said = self.clause(0, tense=self.pick("past tenses") if self.past else "")
            rest = (("ccomp", _build(said, (THAT,) if self.coin(0.7) else ())),)
        elif kind == "to":
            verb = self.pick(kind)
            rest = (("xcomp", _build(self.clause(0, subject, "to"), silent=True)),)
        tense = tense.removesuffix("/be") if verb in WORDS["stative"] else tense
        rest += self.adjuncts(tense, room, kind in ("be", "that"))
        x, negated = self.draw(), self.coin(0.1)
        free = kind == "deed" and verb not in WORDS["stative"]
        passive = x < 0.2 and free and not given and not subject.right
        agent = None if passive and x < 0.1 else subject
        return Clause(agent, verb, thing, tense, negated, passive, rest)

    def utterance(self) -> Sentence:
        x, mark = self.draw(), "." if self.coin(0.95) else "!"
        if x < 0.09:
            how = (_dep(self.pick("questions"), "ADV"),) if x < 0.04 else ()
            return _linearise(_build(self.clause(0)._replace(rest=()), how, ask=True), "?")
        if x < 0.12:
            return _linearise(_build(self.clause(0, Node("who", "PRON"))), "?")
        if x < 0.16:
            command = self.clause(0, Node("you", "PRON", agr="you"), "base")
            please = (_dep("please", "INTJ"),) if self.coin() else ()
            return _linearise(_build(command, please, silent=True), self.pick("command marks"))
        clause = self.clause()
        root = _build(clause)
        if x < 0.29:
            role, front = self.subordinate(clause.tense) if x < 0.22 else self.place()
            root = root.extend(((role, front.extend((), (COMMA,))),))
        elif x < 0.38:
            link = _dep(self.pick("coordinators"), "CCONJ")
            root = root.join(_build(self.clause(0, tense=clause.tense)), COMMA, link)
        elif x < 0.45 and not clause.passive:
            second = self.clause(0, clause.subject, clause.tense)
            root = root.join(_build(second, silent=True), AND)
        return _linearise(root, mark)

    def fact(self, common: float = 0.5) -> Clause:
        """Draw a simple event to reason about; `common` is the chance of a subject without name."""
        verb, thing = self.deed(0, "the")
        while verb in WORDS["stative"] or thing.upos == "PRON":
            verb, thing = self.deed(0, "the")
        who = thing
        while who.word == thing.word:
            who = self.nominal("PEOPLE", -1, "the") if self.coin(common) else self.name("PER")
        tense = self.pick("tenses of facts")
        rest = (self.place(),) if self.coin() else ()
        return Clause(who, verb, thing, tense, self.coin(), False, rest)

    # `modified` and `believed` draw a premise and a hypothesis for a label. Under each label both
    # polarities are as likely, so that "not" alone does not show the label.

    def modified(self, label: str) -> tuple[Clause, Clause]:
        """Say more and less of one event. More entails less; negated, less entails more."""
        fact, downward = self.fact(1.0), False
        if self.coin():
            how = _dep(self.pick("how"), "ADV")
            extra = self.pick((self.place(), how, self.pick(TIMES["past"])))
            less, downward = fact._replace(rest=(), tense="past"), fact.negated
            more = less._replace(rest=(extra,))
        else:
            who = fact.subject or self.nominal(self.pick("subjects"))
            general = who._replace(word="people" if who.agr == "they" else "person")
            known = who.extend((), (self.relative(self.topic["people"][0], who.agr),))
            kinds = (who, known) if self.coin() else (general, who)
            less, more = (fact._replace(subject=kind) for kind in kinds)
        first, second = (more, less) if (label == "neutral") == downward else (less, more)
        opposite = WORDS["opposites"].get(fact.verb)
        if label == "contradiction" and opposite and not fact.negated and self.coin():
            return first, second._replace(verb=opposite)
        # That it happened and that it did not happen there (or then, or so) can both be true.
        apart = label == "neutral" and more.rest != less.rest and self.coin()
        flip = label == "contradiction" or apart
        return first, second._replace(negated=first.negated != flip)

    def believed(self, label: str) -> tuple[Clause, Clause]:
        """Let a verb say that its complement is true, that it is false, or neither."""
        fact = self.fact()._replace(tense="past")
        if self.coin(0.3):
            said = (("ccomp", _build(fact, (THAT,))),)
            verb = "nonfactive" if label == "neutral" else "factive"
            premise = Clause(self.name("PER"), self.pick(verb), rest=said)
        else:
            todo = _build(fact._replace(tense="to", negated=False), silent=True)
            premise = Clause(fact.subject, "", negated=self.coin(), rest=(("xcomp", todo),))
            verb = "implicative" if fact.negated == premise.negated else "negative implicative"
            verb = self.pick("volitional" if label == "neutral" else verb)
            premise = premise._replace(verb=verb)
        flip = self.coin() if label == "neutral" else label == "contradiction"
        return premise, fact._replace(negated=fact.negated != flip)

    def inference(self) -> Pair:
        label = self.pick(("entailment", "neutral", "contradiction"))
        clauses = self.modified(label) if self.coin() else self.believed(label)
        # Active and passive mean the same, so that each clause may have either voice.
        voiced = (c._replace(passive=bool(c.object) and self.coin(0.3)) for c in clauses)
        premise, hypothesis = (_linearise(_build(side)) for side in voiced)
        return Pair(premise, hypothesis, label)


def _stream(make: Callable[[_Writer], T], kind: str, start: int = 0) -> Iterator[T]:
    # A generator that is seeded again gives the numbers of a new one, in half the time.
    rng = random.Random()
    for index in itertools.count(start):
        rng.seed(f"{kind}/{index}")
        yield make(_Writer(rng.random))


def sentence(index: int, *, split: str = "train", seed: int = 0) -> Sentence:
    """Sentence `index` of a split: the same on every machine, whatever was drawn before."""
    return next(_stream(_Writer.utterance, f"{seed}/{split}/sentence", index))


def sentences(
    count: int | None = None, *, split: str = "train", seed: int = 0
) -> Iterator[Sentence]:
    """The first `count` sentences of a split, or without end if `count` is None."""
    return itertools.islice(_stream(_Writer.utterance, f"{seed}/{split}/sentence"), count)


def pair(index: int, *, split: str = "train", seed: int = 0) -> Pair:
    """Premise-hypothesis pair `index` of a split; its label is drawn uniformly."""
    return next(_stream(_Writer.inference, f"{seed}/{split}/pair", index))


def pairs(count: int | None = None, *, split: str = "train", seed: int = 0) -> Iterator[Pair]:
    """The first `count` pairs of a split, or without end if `count` is None."""
    return itertools.islice(_stream(_Writer.inference, f"{seed}/{split}/pair"), count)
