"""A reader of ontologies in OBO format: identifiers, names, exact synonyms and parents of terms."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

from cellular_bench.core.errors import UnknownNameError, UserError


@dataclass(frozen=True, slots=True, kw_only=True)
class Ontology:
    """Terms and their direct parents.

    Attributes
    ----------
    names
        Name of each term by its identifier.
    parents
        Direct parents of each term.
    lookup
        Term of each identifier, name and exact synonym, in the form of :func:`normalised`.
    given
        Terms that a user assigned to labels; they take precedence.
    """

    names: Mapping[str, str]
    parents: Mapping[str, frozenset[str]]
    lookup: Mapping[str, str]
    given: Mapping[str, str] = field(default_factory=dict)

    def term(self, label: str) -> str | None:
        """Return the term of a label: the assigned one, else by identifier, name or exact synonym; or None.

        Letter case, hyphens, underscores and an ``s`` at the end are ignored.
        """
        name = normalised(label)
        return self.given.get(label) or self.lookup.get(name) or self.lookup.get(name.removesuffix("s"))

    def lineage(self, term: str) -> frozenset[str]:
        """Return a term and all its ancestors except the roots; the lineage of a root is the root."""
        found, waiting = {term}, [term]
        while waiting:
            new = self.parents[waiting.pop()] - found
            found |= new
            waiting.extend(new)
        return frozenset(name for name in found if name == term or self.parents[name])

    def with_labels(self, terms: Mapping[str, str]) -> Ontology:
        """Return a copy with assigned terms.

        Parameters
        ----------
        terms
            Identifier or name of the term of each label.

        Raises
        ------
        UnknownNameError
            If there is no such term.
        """
        given = dict(self.given)
        for label, name in terms.items():
            found = self.term(name)
            if found is None:
                raise UnknownNameError(f"ontology term for label '{label}'", name, self._near(name))
            given[label] = found
        return replace(self, given=given)

    def _near(self, name: str) -> list[str]:
        """Return at most ten names that share a word with an unknown one."""
        words = set(normalised(name).split())
        return [known for known in self.names.values() if words & set(normalised(known).split())][:10]


def normalised(name: str) -> str:
    """Return a name in lower case, with single spaces instead of hyphens and underscores.

    Examples
    --------
    >>> normalised("  CD4-positive_T  cell")
    'cd4 positive t cell'
    """
    return " ".join(re.sub(r"[-_]", " ", name.casefold()).split())


def read_obo(path: Path, *, part_of: bool = False) -> Ontology:
    """Read an ontology from a file; parameters as :func:`parse_obo`.

    Raises
    ------
    UserError
        If the file is not text, is truncated, or has a cycle.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not an OBO file: it is not UTF-8 text.") from error
    return parse_obo(text, source=str(path), part_of=part_of)


def parse_obo(text: str, *, source: str = "The ontology", part_of: bool = False) -> Ontology:
    r"""Read an ontology from text in OBO format.

    Obsolete terms and edges to terms of other ontologies are excluded. Synonyms are used if they are exact
    and belong to only one term.

    Parameters
    ----------
    text
        Content of an OBO file.
    source
        Name of the ontology in messages.
    part_of
        True: parents by ``relationship: part_of`` count as parents, like those by ``is_a``.

    Raises
    ------
    UserError
        If there is no term, a term has no ``id`` or ``name``, a parent is missing (for example because the
        file is truncated), or there is a cycle.

    Examples
    --------
    >>> ontology = parse_obo("[Term]\nid: X:1\nname: cell\n[Term]\nid: X:2\nname: T cell\nis_a: X:1")
    >>> ontology.term("T cells"), sorted(ontology.parents["X:2"])
    ('X:2', ['X:1'])
    """
    every = list(_stanzas(text, source))
    stanzas = [tags for tags in every if "true" not in tags["is_obsolete"]]
    if not stanzas:
        raise UserError(f"{source} has no [Term] that is not obsolete; expected an OBO file such as cl.obo.")
    above = {tags["id"][0]: _above(tags, part_of=part_of) for tags in stanzas}
    _refuse_gaps(above, {tags["id"][0] for tags in every}, source)
    parents = {term: frozenset(name for name in names if name in above) for term, names in above.items()}
    _refuse_circles(parents, source)
    names = {tags["id"][0]: tags["name"][0] for tags in stanzas}
    return Ontology(names=names, parents=parents, lookup=_lookup(stanzas))


_Tags = defaultdict[str, list[str]]


def _stanzas(text: str, source: str) -> Iterator[_Tags]:
    """Yield the tags of each term."""
    tags: _Tags | None = None
    start = 0
    for number, raw in enumerate(text.splitlines(), start=1):
        line = raw.strip()
        if line.startswith("["):
            if tags is not None:
                yield _complete(tags, start, source)
            tags, start = (defaultdict(list) if line == "[Term]" else None), number
        elif tags is not None and line and not line.startswith("!"):
            tag, colon, value = line.partition(":")
            if not colon or not value.strip():
                raise UserError(f"{source}, line {number}: '{line}' is no 'tag: value'; is the file cut off?")
            tags[tag].append(value.strip())
    if tags is not None:
        yield _complete(tags, start, source)


def _complete(tags: _Tags, start: int, source: str) -> _Tags:
    for tag in ("id", "name"):
        # Obsolete terms may have no name.
        if len(tags[tag]) != 1 and not (tag == "name" and "true" in tags["is_obsolete"]):
            raise UserError(
                f"{source}, line {start}: the term has {len(tags[tag])} tags '{tag}', expected 1; "
                "is the file cut off?"
            )
    return tags


def _above(tags: _Tags, *, part_of: bool) -> list[str]:
    above = [_identifier(value) for value in tags["is_a"]]
    if part_of:
        words = (value.split() for value in tags["relationship"])
        above += [_identifier(parts[1]) for parts in words if parts[0] == "part_of" and len(parts) > 1]
    return above


def _refuse_gaps(above: Mapping[str, list[str]], defined: set[str], source: str) -> None:
    """Refuse edges to missing terms of the same ontology; terms of other ontologies may be missing."""
    for term, names in above.items():
        prefix = term.partition(":")[0]
        for name in names:
            if name not in defined and name.partition(":")[0] == prefix:
                raise UserError(
                    f"{source}: {term} lies below {name}, which is not there; is the file cut off?"
                )


def _identifier(value: str) -> str:
    """Return an identifier without the comment and the qualifiers after it."""
    return value.split("!")[0].split("{")[0].strip()


def _lookup(stanzas: list[_Tags]) -> dict[str, str]:
    """Return terms by identifier, name and exact synonym, in this order of precedence."""
    found: dict[str, str] = {}
    for names_of in (lambda tags: tags["id"] + tags["alt_id"], lambda tags: tags["name"], _synonyms):
        level: dict[str, set[str]] = defaultdict(set)
        for tags in stanzas:
            for name in names_of(tags):
                level[normalised(name)].add(tags["id"][0])
        unique = {name: next(iter(terms)) for name, terms in level.items() if len(terms) == 1}
        found = {**unique, **found}
    return found


def _synonyms(tags: _Tags) -> list[str]:
    quoted = (re.match(r'"((?:[^"\\]|\\.)*)"\s+EXACT\b', value) for value in tags["synonym"])
    return [match.group(1) for match in quoted if match]


def _refuse_circles(parents: Mapping[str, frozenset[str]], source: str) -> None:
    try:
        TopologicalSorter(parents).prepare()
    except CycleError as error:
        circle = " -> ".join(error.args[1])
        raise UserError(
            f"{source}: terms lie above themselves: {circle}. Remove one of the edges."
        ) from error
