"""English in miniature: a seeded grammar that gives sentences, tags, trees, entities and NLI pairs.

A sentence is a tree of immutable nodes, linearised once, so that words, tags, entities and heads
cannot disagree. It keeps to one topic, whose verbs choose their subjects and objects. Every draw is
a `Random.random()`, whose stream Python promises to keep the same from version to version.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import count as naturals
from itertools import islice
from typing import Any, NamedTuple, TypeVar

__all__ = ["Pair", "Sentence", "pair", "pairs", "sentence", "sentences"]

T = TypeVar("T")
Dep = tuple[str, "Node"]
Deps = tuple[Dep, ...]
Pool = tuple[tuple[str, tuple[str, ...]], ...]


@dataclass(frozen=True, slots=True)
class Sentence:
    """One tokenised sentence with its gold analysis: five fields, an entry per word in each.

    `upos` are universal POS tags, `ner_tags` IOB2 over PER, LOC and ORG, `deprels` UD relations;
    `heads` count from 1, with 0 for the root. The tree is projective.
    """

    words: tuple[str, ...]
    upos: tuple[str, ...]
    ner_tags: tuple[str, ...]
    heads: tuple[int, ...]
    deprels: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Pair:
    """A tokenised premise and hypothesis with their "entailment", "neutral" or "contradiction"."""

    premise: tuple[str, ...]
    hypothesis: tuple[str, ...]
    label: str


class Node(NamedTuple):
    """A constituent: a head word with its dependents, in their order, on either side."""

    word: str
    upos: str
    left: Deps = ()
    right: Deps = ()
    agr: str = "it"  # the pronoun that could stand for it: person, number and gender in one
    ner: str = "O"


class Clause(NamedTuple):
    """What a clause says, before voice, polarity and mood give it an order."""

    subject: Node | None
    verb: str
    object: Node | None = None  # of "be", the predicate
    tense: str = "past"  # or "present", "base", "to"; then an auxiliary, as in "past/have"
    negated: bool = False
    passive: bool = False
    rest: Deps = ()
    adverb: Deps = ()


def _zipf(items: Iterable[T]) -> tuple[T, ...]:
    # Rank k is repeated about 24/k times, so that a uniform draw is a Zipf draw.
    return tuple(item for k, item in enumerate(items, 1) for _ in range(-(-24 // k)))


@cache
def _words(text: str) -> tuple[str, ...]:
    return _zipf(text.split())


@cache
def _pool(text: str) -> Pool:
    parts = (entry.partition(":") for entry in text.split())
    return _zipf((key, _words(values.replace(",", " "))) for key, _, values in parts)


# people | places | qualities of things | verb:objects | verb[:subjects] | organisations.
# PER, LOC, ORG stand for names, WHO for the topic's people, @ for a city, $ for a surname.
TOPICS_TEXT = """teacher student pupil professor | at:school in:library in:classroom | long easy old
novel | read:book,story,poem,novel write:story,book,poem,answer,report teach:student,pupil
study:map,poem,book question:student test:student,pupil | study work | University_of_@ @_College
;farmer neighbour worker | on:farm in:field in:barn near:river | small brown heavy fine |
feed:horse,cow,dog,bird grow:apple,potato,flower pick:apple,flower,orange plant:tree,flower
water:plant,flower,tree sell:horse,apple,cow,egg | work run:horse,dog sleep:dog,cow sing:bird |
$_Farms
;cook waiter guest baker | in:kitchen in:restaurant at:market | hot cold sweet fresh |
bake:bread,cake cook:fish,meal,soup order:soup,drink,meal,cake
serve:meal,drink,soup | eat drink wait | $_Foods @_Stores
;player coach fan captain | in:stadium at:club on:field | fast long hard final | win:match,race,cup
lose:match,race,cup watch:match,race play:match train:player,team coach:team,player
beat:ORG,team,ORG | train run play:team win:team | @ @_United @_City @_Rovers
;manager clerk engineer worker | in:office at:factory at:bank | big cheap light new |
build:machine,engine,car hire:worker,engineer,clerk sell:car,machine,watch sign:contract,order
approve:plan,contract reject:plan,order repair:machine,car,engine | work stop:machine,engine |
$ $_Motors Bank_of_@ $_and_Sons
;minister mayor judge voter guard | in:court at:palace in:capital | secret public local new |
pass:law reject:law,plan approve:law,plan question:witness,prisoner judge:prisoner,crime
guard:prisoner,palace report:crime | speak vote | Green_Party @_Council Council_of_@
;doctor nurse patient | at:hospital in:clinic | new serious secret strange | treat:patient,wound
test:drug visit:patient,WHO order:drug,test | rest sleep wait |
@_Hospital $_Clinic
;sailor captain pilot tourist guide | on:ship at:harbour on:island | old fast small heavy |
load:ship,truck,plane guide:tourist,ship paint:boat,ship sail:boat,ship
map:island,harbour | swim fish arrive:train,ship,plane stop:train,truck | @_Airlines $_Lines
;singer dancer actor artist | in:theatre on:stage at:museum | famous beautiful novel sad |
sing:song record:song,album paint:picture,wall watch:play,film,dance film:play,dance | dance sing |
$_Records @_Opera @_Times
;parent child friend neighbour guest | in:garden in:house at:station | old green small
empty orange | open:door,window,box close:door,window,box clean:room,kitchen,window
paint:wall,door,room hide:key,letter walk:dog answer:letter,question | play sleep talk bark:dog |
@_Times $_Stores"""
COMMON_DEEDS = """see:PER,WHO,LOC visit:LOC,PER,WHO have:plan,car,dog,watch meet:PER,WHO
help:WHO,PER join:ORG leave:LOC,ORG like:LOC,PER,music reach:LOC call:PER,ORG,WHO thank:WHO,PER
need:money,help,water trust:ORG,PER"""
COMPANY_DEEDS = "hire:PER,WHO thank:PER,WHO help:LOC,WHO visit:LOC trust:PER,ORG leave:LOC call:PER"
GIFTS = "book letter flower picture cake drink ticket watch"
PERSONAL = "young happy old tall rich poor strong sad short kind patient weak cruel local"
OPPOSITES = "old/young happy/sad tall/short rich/poor strong/weak kind/cruel"
OPPOSITE_DEEDS = "open/close win/lose approve/reject"
# What a verb says of its complement: that it holds, that it does not, or nothing.
KNOW, THINK = "know remember forget", "say think hope believe report"
MANAGE, FAIL, WANT = "manage remember", "fail forget", "want plan hope try"
STATIVE = {*_words("have like need know be remember think believe hope want trust see")}
TENSES = """past present past/have present/will present/have past/be present/be present/can
present/must present/should present/could present/may present/might present/would"""
MODALS = {*_words("will can must should could may might would")}
DOUBLING = {*_words("win run plan stop swim map forget travel")}
IRREGULAR = """read/read/read write/wrote/written teach/taught/taught feed/fed/fed
grow/grew/grown sell/sold/sold win/won/won lose/lost/lost beat/beat/beaten build/built/built
see/saw/seen do/did/done meet/met/met leave/left/left have/had/had give/gave/given send/sent/sent
show/showed/shown fly/flew/flown bring/brought/brought go/went/gone come/came/come run/ran/run
know/knew/known say/said/said be/was/been think/thought/thought forget/forgot/forgotten
speak/spoke/spoken sing/sang/sung swim/swam/swum eat/ate/eaten drink/drank/drunk
sleep/slept/slept hide/hid/hidden"""
PLURALS = {"child": "children", "person": "people", "potato": "potatoes"}
MASS = {*_words("bread water music money help fish")}
WOMEN = "Lena Mara Anna Jordan Ruth Victoria Clara Chelsea Georgia Sydney Rose Paris May Florence"
MEN = "Tom Paul Omar Jordan Simon Austin Mark Will Lincoln Hugo Grant Washington"
SURNAMES = "Hartley Washington Brandt Lincoln Jordan Silva Moreno Marsh Austin Baker Fields"
CITIES = """Norwick Calder Paris Washington Orven Jordan Tarnow Lincoln Sydney Victoria Austin
Georgia Halden Florence Marsh Chelsea"""
WITH_THE = {*_words("University Bank Party Council Hospital Clinic Opera Times")}
SINGULAR, MASSIVE = "the a the * this every the that a another", "the the some * this that"
PLURAL = "the * some the these two many those three all 40"
TAGS = {"many": "ADJ", "two": "NUM", "three": "NUM", "40": "NUM"}
RELATIONS = {"ADP": "case", "DET": "det", "ADJ": "amod", "NUM": "nummod"}
OFTEN = "often always sometimes usually never"
HOW = "well slowly early quickly hard quietly late fast carefully"
TIMES = {
    "past": """yesterday/NOUN on/ADP_Monday/PROPN last/ADJ_week/NOUN in/ADP_1984/NUM
    on/ADP_Friday/PROPN after/ADP_the/DET_war/NOUN before/ADP_the/DET_storm/NOUN
    in/ADP_May/PROPN""",
    "present": """every/DET_day/NOUN now/ADV today/NOUN on/ADP_Friday/PROPN every/DET_week/NOUN
    at/ADP_night/NOUN before/ADP_lunch/NOUN after/ADP_the/DET_meeting/NOUN in/ADP_March/PROPN""",
    "will": """tomorrow/NOUN soon/ADV next/ADJ_week/NOUN on/ADP_Monday/PROPN after/ADP_lunch/NOUN
    in/ADP_March/PROPN before/ADP_the/DET_meeting/NOUN until/ADP_Friday/PROPN""",
}
ACCUSATIVE = {"I": "me", "he": "him", "she": "her", "we": "us", "they": "them"}
POSSESSIVE = {"I": "my", "he": "his", "she": "her", "we": "our", "you": "your", "it": "its"}
THIRD_SINGULAR = ("he", "she", "it", "everyone", "someone")
# Of the same plural subject, what the first says of the second; "-" negates the verb.
QUANTIFIERS = {
    "entailment": "all:some no:-some three:some all:many many:some",
    "neutral": "some:all some:-some -some:some -some:no some:many",
    "contradiction": "all:-some no:some some:no no:many -some:all",
}
LABELS = tuple(QUANTIFIERS)


@cache
def _dep(relation: str, word: str, upos: str) -> Dep:
    return relation, Node(word, upos)


def _extend(node: Node, left: Deps = (), right: Deps = ()) -> Node:
    return Node(node[0], node[1], left + node[2], node[3] + right, node[4], node[5])


def _case(preposition: str, node: Node) -> Node:
    return _extend(_oblique(node), (_dep("case", preposition, "ADP"),))


def _oblique(node: Node) -> Node:
    return node._replace(word=ACCUSATIVE[node.word]) if node.word in ACCUSATIVE else node


def _phrase(text: str) -> Dep:
    *modifiers, head = (_dep("", *token.split("/"))[1] for token in text.split("_"))
    left = tuple((RELATIONS[node.upos], node) for node in modifiers)
    return "advmod" if head.upos == "ADV" else "obl", _extend(head, left)


@cache
def _name(text: str, kind: str, agr: str = "it") -> Node:
    words = text.split("_")
    nodes = [
        Node(word, "PROPN", agr=agr, ner=f"{'I' if i else 'B'}-{kind}")
        for i, word in enumerate(words)
    ]
    first, last = nodes[0], nodes[-1]
    if len(words) == 3:
        role, link, tag = ("nmod", "case", "ADP") if words[1] == "of" else ("conj", "cc", "CCONJ")
        last = _extend(last, ((link, nodes[1]._replace(upos=tag)),))
        first = _extend(first, (), ((role, last),))
    elif len(words) == 2 and kind == "PER":
        first = _extend(first, (), (("flat", last),))
    elif len(words) == 2:
        first = _extend(last, (("compound", first),))
    return _extend(first, (_dep("det", "the", "DET"),)) if WITH_THE & {*words} else first


def _s_form(word: str) -> str:
    if word[-1] == "y" and word[-2] not in "aeiou":
        return word[:-1] + "ies"
    return PLURALS.get(word) or word + ("es" if word.endswith(("s", "x", "ch", "sh", "o")) else "s")


@cache
def _verb_form(verb: str, shape: str, agr: str = "they") -> str:
    third, first = agr in THIRD_SINGULAR, agr == "I"
    if verb == "be" and shape in ("present", "past"):
        number = 0 if first else 1 if third else 2
        return (("am", "is", "are") if shape == "present" else ("was", "was", "were"))[number]
    if shape == "base" or verb in MODALS or (shape == "present" and not third):
        return verb
    if shape == "present":
        return "has" if verb == "have" else _s_form(verb)
    mute = verb[-1] == "e" and verb not in ("be", "see")
    stem = verb + verb[-1] if verb in DOUBLING else verb[:-1] if mute else verb
    if shape == "ing":
        return stem + "ing"
    regular = _s_form(verb)[:-1] + "d" if _s_form(verb).endswith("ies") else stem + "ed"
    return PAST.get(verb, (regular, regular))[shape == "participle"]


@cache
def _verb_group(
    verb: str, agr: str, tense: str, negated: bool, passive: bool, ask: bool
) -> tuple[Deps, str]:
    # Each auxiliary decides the shape of the next word; the tense decides that of the first.
    shape, *auxiliaries = tense.split("/")
    links = [(word, "aux") for word in auxiliaries] + [("be", "aux:pass")] * passive
    if (negated or ask) and not links and verb != "be" and shape != "to":
        links = [("do", "aux")]
    left: list[Dep] = [_dep("mark", "to", "PART")] * (shape == "to")
    shape, form = "base" if left else shape, ""
    for word, relation in [*links, (verb, "cop" if verb == "be" else "")]:
        form = _verb_form(word, shape, agr)
        left += [_dep(relation, form, "AUX")] * bool(relation)
        done = word == "have" or relation == "aux:pass"
        shape = "participle" if done else "ing" if word == "be" else "base"
    if negated:
        left.insert(tense != "to", _dep("advmod", "not", "PART"))
    return tuple(left), form


def _build(clause: Clause, opening: Deps = (), ask: bool = False, silent: bool = False) -> Node:
    """Give a clause its order: `opening` leads, `ask` inverts, `silent` leaves the subject out."""
    subject, verb, thing, tense, negated, passive, rest, adverb = clause
    if passive:
        rest = (("obl", _case("by", subject)), *rest) if subject else rest
        subject, thing = thing, None
    left, form = _verb_group(verb, subject.agr if subject else "they", tense, negated, passive, ask)
    if subject and not silent:
        lead = (("nsubj:pass" if passive else "nsubj", subject),)
        left = left[:1] + lead + left[1:] if ask else lead + left
    left = opening + left + adverb
    if verb == "be" and thing:
        return _extend(thing, left, rest)
    if thing:
        # Of two objects the receiver comes first; the gift then leads the rest.
        role = "iobj" if rest and rest[0][0] == "obj" else "obj"
        rest = ((role, _oblique(thing)), *rest)
    return Node(form, "VERB", left, rest)


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

    walk("root", _extend(root, (), (_dep("punct", mark, "PUNCT"),)))
    words = [row[0] for row in rows]
    for start in (0, words.index('"') + 1) if '"' in words else (0,):
        at = start + (words[start] == '"')
        rows[at][0] = words[at][0].upper() + words[at][1:]
    return Sentence(*zip(*rows, strict=True))


NONE: Deps = ()
COMMA, QUOTE = _dep("punct", ",", "PUNCT"), _dep("punct", '"', "PUNCT")
AND, THAT = _dep("cc", "and", "CCONJ"), _dep("mark", "that", "SCONJ")
PAST = {verb: (past, done) for verb, past, done in (e.split("/") for e in IRREGULAR.split())}
OPPOSITE = dict(e.split("/") for e in f"{OPPOSITES} {OPPOSITE_DEEDS}".split())
OPPOSITE |= {b: a for a, b in OPPOSITE.items()}
TRAITS = OPPOSITES.replace("/", " ").split()
TIME = {tense: _zipf(map(_phrase, text.split())) for tense, text in TIMES.items()}
TOPICS = [tuple(map(_pool, topic.split("|"))) for topic in TOPICS_TEXT.split(";")]
PEOPLE = {person for topic in TOPICS for person, _ in topic[0]}
DEEDS = dict.fromkeys([*_pool(COMMON_DEEDS), *(deed for topic in TOPICS for deed in topic[3])])
# Nouns that keep company with any topic, so that no topic's qualities suit them.
PLAIN = {
    thing
    for entry in [*_pool(COMMON_DEEDS), *(place for topic in TOPICS for place in topic[1])]
    for thing in entry[1]
} | {*_words(GIFTS)}
VERBS_FOR = {
    thing: tuple(verb for verb, others in DEEDS if thing in others)
    for _, things in DEEDS
    for thing in things
}


class _Writer:
    """Draws constituents on one topic from a stream of uniform numbers."""

    def __init__(self, draw: Callable[[], float]) -> None:
        self.draw, self.owner, self.past = draw, "they", False
        topic = TOPICS[int(draw() * len(TOPICS))]
        self.people, self.places, self.qualities, self.deeds, self.acts, self.firms = topic

    def coin(self, chance: float = 0.5) -> bool:
        return self.draw() < chance

    def pick(self, items: Sequence[T]) -> T:
        return items[int(self.draw() * len(items))]

    def word(self, text: str) -> str:
        return self.pick(_words(text))

    def name(self, kind: str) -> Node:
        x, surname = self.draw(), self.word(SURNAMES)
        if kind == "PER":
            agr, first = ("he", MEN) if self.coin() else ("she", WOMEN)
            if x < 0.1:
                return Node("Doctor", "PROPN", (), (("flat", _name(surname, kind)),), agr)
            forename = self.word(first)
            full = x < 0.5 and forename != surname
            return _name(f"{forename}_{surname}" if full else forename, kind, agr)
        text = self.word(CITIES)
        if kind == "ORG":
            text = self.pick(self.firms)[0].replace("@", text).replace("$", surname)
        elif x < 0.2:
            text = f"{self.word('Lake North New South')}_{text}"
        return _name(text, kind)

    def noun(self, lemma: str, room: int = 0, det: str = "", many: bool | None = None) -> Node:
        """Build a noun phrase: bare if room is -1, with all that may hang on it if room is 1."""
        person, mass = lemma in PEOPLE, lemma in MASS
        plural = not mass and (self.coin(0.3) if many is None else many)
        det = det or self.word(MASSIVE if mass else PLURAL if plural else SINGULAR)
        agr = "they" if plural else "it" if not person else "he" if self.coin() else "she"
        word = after = _s_form(lemma) if plural else lemma
        left: Deps = ()
        if room >= 0 and self.coin(0.3):
            after = self.pick(self.qualities)[0]
            if person or lemma in PLAIN:
                after = self.word(PERSONAL if person else "new small old big")
            very = (_dep("advmod", "very", "ADV"),) if self.coin(0.12) else ()
            left, after = (("amod", Node(after, "ADJ", very)),), "very" if very else after
        if det == "*":
            left = (_dep("nmod:poss", POSSESSIVE.get(self.owner, "their"), "PRON"), *left)
        elif det != "-":
            tag = TAGS.get(det, "DET")
            det = "an" if det == "a" and after[0] in "aeiou" else det
            left = (_dep(RELATIONS[tag], det, tag), *left)
        x, right = self.draw() if room > 0 else 1.0, NONE
        if x < 0.12:
            right = (self.relative(lemma, agr),)
        elif x < 0.31:
            link, name = ("of", "ORG") if person and x < 0.19 else ("from", "LOC")
            right = (("nmod", _case(link, self.name(name)) if x < 0.26 else self.place()[1]),)
        return Node(word, "NOUN", left, right, agr)

    def relative(self, lemma: str, agr: str) -> Dep:
        tense = self.word("past past/have" if self.past else TENSES)
        if lemma in PEOPLE:
            return "acl:relcl", _build(self.clause(0, Node("who", "PRON", agr=agr), tense))
        verb, subject, x = self.pick(VERBS_FOR.get(lemma, ("see",))), self.who(), self.draw()
        if verb in STATIVE:
            tense = tense.removesuffix("/be")
        elif x < 0.25:
            by = (("obl", _case("by", subject)),)
            return "acl", Node(_verb_form(verb, "participle"), "VERB", (), by)
        opening = (_dep("obj", "that", "PRON"),) if x < 0.75 else ()
        return "acl:relcl", _build(Clause(subject, verb, None, tense), opening)

    def role(self, det: str = "", room: int = 0, many: bool | None = None) -> Node:
        return self.noun(self.pick(self.people)[0], room, det, many)

    def titled(self, name: Node) -> Node:
        role = _extend(self.role("the", many=False), (COMMA,), (COMMA,))
        return _extend(name, (), (("appos", role),))

    def who(self, room: int = 0) -> Node:
        x = self.draw()
        if x < 0.45:
            return self.role("no" if x < 0.02 else "", room)
        if x < 0.62:
            return self.name("PER")
        if x < 0.8:
            word = self.word("they he she we I you everyone someone")
            return Node(word, "PRON", agr=word)
        if x < 0.9:
            return self.name("ORG")
        if room and x < 0.94:
            return self.titled(self.name("PER"))
        both = [self.name("PER"), self.role()]
        first, second = both if self.coin() else both[::-1]
        return _extend(first, (), (("conj", _extend(second, (AND,))),))._replace(agr="they")

    def place(self) -> Dep:
        if self.coin(0.35):
            return "obl", _case(self.word("in near"), self.name("LOC"))
        preposition, nouns = self.pick(self.places)
        det = self.word("the a")
        return "obl", _case(preposition, self.noun(self.pick(nouns), 0, det, many=False))

    def deed(self, room: int = 0, det: str = "", pool: Pool = ()) -> tuple[str, Node]:
        """Draw a verb and an object that suits it."""
        usual = self.deeds if self.coin(0.7) else _pool(COMMON_DEEDS)
        verb, things = self.pick(pool or usual)
        thing = self.pick(things)
        if thing == "PER" and not det and self.coin(0.3):
            word = self.word("they he she we I you")
            return verb, Node(word, "PRON", agr=word)
        if thing == "WHO":
            return verb, self.role(det, room)
        return verb, self.name(thing) if thing.isupper() else self.noun(thing, room, det)

    def quality(self, subject: Node) -> Node:
        x, many = self.draw(), subject.agr in ("we", "they")
        if x < 0.3:
            return self.role("-" if many else "a", many=many)
        if x < 0.5:
            return self.place()[1]
        very = (_dep("advmod", self.word("very too so rather"), "ADV"),) if x < 0.65 else ()
        return Node(self.word(PERSONAL), "ADJ", very)

    def subordinate(self, tense: str) -> Dep:
        mark = self.word("because when after if before although while since until as")
        tense = "past" if tense.startswith("past") else "present"
        return "advcl", _build(self.clause(0, tense=tense), (_dep("mark", mark, "SCONJ"),))

    def adjuncts(self, tense: str, room: int, still: bool) -> Deps:
        x, y, rest = self.draw(), self.draw(), []
        if x < 0.35 and not still:
            rest = [self.place() if x > 0.1 else _dep("advmod", self.word(HOW), "ADV")]
        if y < 0.22:
            span = "will" if tense.endswith("will") else tense.partition("/")[0]
            rest.append(self.pick(TIME.get(span, TIME["will"])))
        elif y < 0.27 and not still:
            rest.append(("obl", _case("with", self.name("PER"))))
        elif room and y < 0.36:
            rest.append(self.subordinate(tense))
        return tuple(rest)

    def clause(self, room: int = 1, given: Node | None = None, tense: str = "") -> Clause:
        """Draw a clause, or what a given subject does; if there is room, with clauses in it."""
        kind = self.word("deed be go that to act give" if room else "deed be go act give")
        tense = tense or self.word(TENSES)
        self.past = tense.startswith("past")
        subject, thing, rest = given, None, NONE
        verb, things = self.pick(self.acts)
        noun = self.pick(self.pick(self.deeds)[1])
        if kind == "act" and things:
            subject, kind = given or self.noun(self.pick(things), room), "deed" if given else kind
        elif kind == "be" and not given and noun.islower() and noun not in PEOPLE:
            subject, thing = self.noun(noun, room), Node(self.pick(self.qualities)[0], "ADJ")
        subject = subject or self.who(room)
        self.owner = subject.agr
        company = subject.ner[2:] == "ORG"
        if kind == "deed" or (company and kind not in ("that", "to")):
            kind = "deed"
            verb, thing = self.deed(room, "", _pool(COMPANY_DEEDS) if company else ())
        elif kind == "be":
            verb, thing = kind, thing or self.quality(subject)
        elif kind == "go":
            goal = self.noun(self.pick(self.pick(self.places)[1]), 0, "the")
            goal = _case("to", goal if self.coin() else self.name("LOC"))
            verb, rest = self.word("go walk come travel run return fly"), (("obl", goal),)
        elif kind == "give":
            verb, gift = self.word("give send show bring"), self.noun(self.word(GIFTS))
            thing = self.role() if self.coin() else self.name("PER")
            rest = (("obj", gift),)
            if self.coin():
                thing, rest = gift, (("obl", _case("to", thing)),)
        elif kind == "that":
            verb, past = self.word(f"{THINK} {KNOW}"), self.past
            inner = self.clause(0, None, self.word("past past/have") if past else "")
            tense = "past" if past else "present"
            rest = (("ccomp", _build(inner, (THAT,) if self.coin(0.7) else ())),)
        elif kind == "to":
            verb = self.word(f"{WANT} {MANAGE} {FAIL}")
            rest = (("xcomp", _build(self.clause(0, subject, "to"), silent=True)),)
        tense = tense.removesuffix("/be") if verb in STATIVE else tense
        rest += self.adjuncts(tense, room, kind in ("be", "that"))
        x, y, often = self.draw(), self.draw(), _dep("advmod", self.word(OFTEN), "ADV")
        passive = x < 0.2 and kind == "deed" and verb not in STATIVE and not subject.right
        passive, negated = passive and not given, y < 0.1
        agent = None if passive and x < 0.1 else subject
        adverb = (often,) if y > 0.93 else ()
        return Clause(agent, verb, thing, tense, negated, passive, rest, adverb)

    def utterance(self) -> Sentence:
        x, mark = self.draw(), "." if self.coin(0.95) else "!"
        if x < 0.05:
            return _linearise(_build(self.clause(0), ask=True), "?")
        if x < 0.08:
            opening = (_dep("advmod", self.word("when where why how"), "ADV"),)
            clause = self.clause(0)._replace(rest=(), adverb=())
            return _linearise(_build(clause, opening, ask=True), "?")
        if x < 0.1:
            return _linearise(_build(self.clause(0, Node("who", "PRON"))), "?")
        if x < 0.13:
            verb, thing = self.deed(0, "which", self.deeds)
            thing = Node("who", "PRON") if thing.upos == "PROPN" else thing
            clause = Clause(self.who(), verb, None, self.word("past present present/will"))
            return _linearise(_build(clause, (("obj", thing),), ask=True), "?")
        if x < 0.16:
            command = self.clause(0, Node("you", "PRON", agr="you"), "base")._replace(adverb=())
            please = (_dep("discourse", "please", "INTJ"),) if self.coin() else ()
            return _linearise(_build(command, please, silent=True), self.word("! ."))
        if x < 0.19:
            who = self.role(self.word("many some three") if (many := self.coin()) else "a", 1, many)
            form = _verb_form("be", self.word("past present"), who.agr)
            there = (_dep("expl", "there", "PRON"),)
            return _linearise(Node(form, "VERB", there, (("nsubj", who), self.place())), mark)
        if x < 0.24:
            speech, said = _build(self.clause(0)), Node("said", "VERB")
            speaker = (("nsubj", self.name("PER") if self.coin() else self.role("the")),)
            if self.coin():
                speech = _extend(speech, (COMMA, QUOTE), (QUOTE,))
                return _linearise(_extend(said, speaker, (("ccomp", speech),)))
            speech = _extend(speech, (QUOTE,), (COMMA, QUOTE))
            return _linearise(_extend(said, (("ccomp", speech),), speaker))
        clause = self.clause()
        root = _build(clause)
        if x < 0.36:
            role, front = self.subordinate(clause.tense) if x < 0.3 else self.place()
            root = _extend(root, ((role, _extend(front, (), (COMMA,))),))
        elif x < 0.44:
            link = _dep("cc", self.word("and but so or"), "CCONJ")
            second = _build(self.clause(0, tense=clause.tense))
            root = _extend(root, (), (("conj", _extend(second, (COMMA, link))),))
        elif x < 0.5 and not clause.passive:
            second = _build(self.clause(0, clause.subject, clause.tense), silent=True)
            root = _extend(root, (), (("conj", _extend(second, (AND,))),))
        elif x < 0.53:
            cry = Node(self.word("oh well yes no"), "INTJ", (), (COMMA,))
            root = _extend(root, (("discourse", cry),))
        return _linearise(root, mark)

    def hero(self, *others: str) -> Node:
        who = self.role("the", -1) if self.coin() else self.name("PER")
        return self.hero(*others) if who.word in others else who

    def fact(self) -> Clause:
        """Draw an event plain enough to reason about."""
        verb, thing = self.deed(0, "the")
        while verb in STATIVE:
            verb, thing = self.deed(0, "the")
        tense = self.word("past present past/have present/have present/will past/be")
        rest = (self.place(),) if self.coin() else ()
        return Clause(self.hero(thing.word), verb, thing, tense, self.coin(), False, rest)

    # Each of these six draws a premise and a hypothesis of which the label holds. Both polarities
    # are as likely under each label, so that "not" alone gives nothing away.

    def modified(self, label: str) -> tuple[Node, Node]:
        """Say more and less of one event: what is less follows, save for a verb under negation."""
        less, downward, extra = self.fact(), False, self.place()
        who = less.subject or self.hero()
        if self.coin():
            how = _dep("advmod", self.word(HOW), "ADV")
            extra = self.pick((extra, how, self.pick(TIME["past"])))
            less, downward = less._replace(rest=(), tense="past"), less.negated
            more = less._replace(rest=(extra,))
        elif who.upos == "PROPN":
            more = less._replace(subject=self.titled(who))
        elif self.coin():
            kind = "people" if who.agr == "they" else "person"
            more, less = less, less._replace(subject=who._replace(word=kind))
        else:
            lemma = self.people[0][0]
            more = less._replace(subject=_extend(who, (), (self.relative(lemma, who.agr),)))
        first, second = (more, less) if (label == "neutral") == downward else (less, more)
        flip = label == "contradiction"
        return _build(first), _build(second._replace(negated=first.negated != flip))

    def believed(self, label: str) -> tuple[Node, Node]:
        """Let a verb vouch for its complement, rule it out, or leave it open."""
        fact, flip = self.fact()._replace(tense="past"), label == "contradiction"
        if self.coin():
            verb, rest = THINK if label == "neutral" else KNOW, (("ccomp", _build(fact, (THAT,))),)
            premise = Clause(self.name("PER"), self.word(verb), rest=rest)
        else:
            todo = _build(fact._replace(tense="to", negated=False), silent=True)
            premise = Clause(fact.subject, "", negated=self.coin(), rest=(("xcomp", todo),))
            verb = MANAGE if fact.negated == premise.negated else FAIL
            premise = premise._replace(verb=self.word(WANT if label == "neutral" else verb))
        flip = self.coin() if label == "neutral" else flip
        return _build(premise), _build(fact._replace(negated=fact.negated != flip))

    def voiced(self, label: str) -> tuple[Node, Node]:
        """Turn active to passive or back: the same event, its denial, its opposite or another."""
        premise = self.fact()._replace(passive=self.coin())
        twin = premise._replace(passive=not premise.passive)
        opposite = OPPOSITE.get(twin.verb, "")
        if label == "contradiction":
            swap = opposite and not twin.negated and self.coin()
            twin = twin._replace(verb=opposite) if swap else twin._replace(negated=not twin.negated)
        while label == "neutral" and twin.verb in (premise.verb, opposite):
            fields = self.fact()._asdict() | {"subject": premise.subject, "tense": premise.tense}
            twin = Clause(**fields)._replace(passive=twin.passive)
        return _build(premise), _build(twin)

    def contrasted(self, label: str) -> tuple[Node, Node]:
        """Say that one did and another did not; then speak of either, or of a third."""
        fact = self.fact()
        taken = [node.word for node in (fact.subject, fact.object) if node]
        two = self.hero(*taken)
        three = self.hero(*taken, two.word)
        other = fact._replace(subject=two, negated=not fact.negated)
        then = _extend(_build(other), (COMMA, _dep("cc", "but", "CCONJ")))
        said = fact if self.coin() else other
        said = said._replace(negated=said.negated != (label == "contradiction"))
        said = said._replace(subject=three) if label == "neutral" else said
        return _extend(_build(fact), (), (("conj", then),)), _build(said)

    def described(self, label: str) -> tuple[Node, Node]:
        """Set a quality against itself, its opposite or another."""
        negated, trait = self.coin(), self.pick(TRAITS)
        other = OPPOSITE[trait] if (label == "entailment") == negated else trait
        while label == "neutral" and other in (trait, OPPOSITE[trait]):
            other = self.pick(TRAITS)
        very = (_dep("advmod", "very", "ADV"),) if other == trait or self.coin() else ()
        premise = Clause(self.hero(), "be", Node(trait, "ADJ", very), self.word("past present"))
        twin = premise._replace(object=Node(other, "ADJ"), negated=negated)
        return _build(premise), _build(twin)

    def counted(self, label: str) -> tuple[Node, Node]:
        """Change how many of a group did it."""
        fact, kind = self.fact(), self.pick(self.people)[0]
        first, second = (
            _build(fact._replace(subject=who, negated=quantity[0] == "-"))
            for quantity in self.word(QUANTIFIERS[label]).split(":")
            for who in [self.noun(kind, -1, quantity.strip("-"), many=True)]
        )
        return first, second


def _make_pair(writer: _Writer) -> Pair:
    label = writer.pick(LABELS)
    kinds = (_Writer.modified, _Writer.believed, _Writer.voiced, _Writer.contrasted)
    scheme = writer.pick((*kinds, _Writer.described, _Writer.counted))
    premise, hypothesis = scheme(writer, label)
    return Pair(_linearise(premise).words, _linearise(hypothesis).words, label)


def _stream(make: Callable[[_Writer], T], kind: str, start: int) -> Iterator[T]:
    # Seeding one generator again is the stream of a new one, in half the time.
    rng = random.Random()
    for index in naturals(start):
        rng.seed(f"{kind}/{index}")
        yield make(_Writer(rng.random))


def sentence(index: int, *, split: str = "train", seed: int = 0) -> Sentence:
    """Return sentence `index` of a split: the same on every machine, whatever was drawn before."""
    return next(_stream(_Writer.utterance, f"{seed}/{split}/sentence", index))


def sentences(
    count: int | None = None, *, split: str = "train", seed: int = 0
) -> Iterator[Sentence]:
    """Yield the first `count` sentences of a split, or without end if `count` is None."""
    return islice(_stream(_Writer.utterance, f"{seed}/{split}/sentence", 0), count)


def pair(index: int, *, split: str = "train", seed: int = 0) -> Pair:
    """Return premise-hypothesis pair `index` of a split; its label is drawn uniformly."""
    return next(_stream(_make_pair, f"{seed}/{split}/pair", index))


def pairs(count: int | None = None, *, split: str = "train", seed: int = 0) -> Iterator[Pair]:
    """Yield the first `count` pairs of a split, or without end if `count` is None."""
    return islice(_stream(_make_pair, f"{seed}/{split}/pair", 0), count)
