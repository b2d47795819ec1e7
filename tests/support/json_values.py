"""Small JSON documents and filters, of few keys and values, so that they often meet."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

Strategy = st.SearchStrategy[Any]

KEYS = ["a", "b", "0", "1"]
COMPARISONS = ["$eq", "$ne", "$gt", "$gte", "$lt", "$lte"]

numbers = st.integers(-1, 2) | st.sampled_from([0.0, 1.0, 1.5])
texts = st.sampled_from(["", "a", "b", "ab", "A", "a\nb", "aé"])
scalars = numbers | texts | st.none() | st.booleans()
keys = st.sampled_from(KEYS)


def containers(inner: Strategy) -> Strategy:
    return st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=2)


values = st.recursive(scalars, containers, max_leaves=5)
documents = st.fixed_dictionaries({"a": containers(values) | values}, optional={"b": values})
paths = st.builds(
    lambda first, rest: ".".join([first, *rest]),
    st.sampled_from(["a", "a", "a", "b"]),
    st.lists(keys, max_size=2),
)

patterns = st.sampled_from(
    ["a", "^a", "b$", "^$", "a.b", "[ab]{2}", "(a|b)+", "A", "\\bb", "^a\\wb?", "[^a]", "(?i)B"]
)
text_matches = st.builds(
    lambda pattern, options: {"$regex": pattern, **options},
    patterns,
    st.just({}) | st.text(alphabet="ims", max_size=2).map(lambda text: {"$options": text}),
)


def _operators(tests: Strategy, filters: Strategy) -> Strategy:
    lists = st.lists(values, min_size=1, max_size=3)
    single = st.one_of(
        _named(st.sampled_from(COMPARISONS), values),
        _named(st.sampled_from(COMPARISONS), scalars),
        _named(st.sampled_from(["$in", "$nin", "$all"]), lists),
        _named(st.just("$exists"), st.booleans() | st.sampled_from([0, 1, 0.0, -1])),
        _named(st.sampled_from(["$gte", "$lte"]), st.none()),
        _named(st.just("$size"), st.integers(0, 3)),
        _named(st.just("$not"), tests),
        _named(st.just("$elemMatch"), tests | filters),
        text_matches,
    )
    return single | st.builds(lambda one, other: {**one, **other}, single, single)


def _named(names: Strategy, operands: Strategy) -> Strategy:
    return st.builds(lambda name, operand: {name: operand}, names, operands)


def _filters(inner: Strategy, tests: Strategy) -> Strategy:
    field = _named(paths, values | tests | tests)
    logic = _named(
        st.sampled_from(["$and", "$or", "$nor"]), st.lists(inner, min_size=1, max_size=2)
    )
    both = st.builds(lambda one, other: {**one, **other}, field, logic | field)
    return field | logic | both


_flat_tests = _operators(_named(st.sampled_from(COMPARISONS), scalars), st.just({"a": 1}))
_flat_filters = _filters(_named(keys, values), _flat_tests)
conditions = _operators(_flat_tests, _flat_filters)
filters = _filters(_flat_filters, conditions)

deep_paths = st.lists(keys, min_size=1, max_size=3).map(".".join)
_pulls = values | text_matches | conditions | _filters(_named(keys, values), _flat_tests)
_each = st.lists(values, max_size=3).map(lambda values: {"$each": values})
changes = st.one_of(
    st.tuples(st.just("$set"), deep_paths, values),
    st.tuples(st.just("$unset"), deep_paths, st.just("")),
    st.tuples(st.just("$push"), deep_paths, values | _each),
    st.tuples(st.just("$addToSet"), deep_paths, values | _each),
    st.tuples(st.just("$pull"), deep_paths, _pulls),
    st.tuples(st.just("$inc"), deep_paths, numbers),
    st.tuples(st.just("$rename"), deep_paths, deep_paths),
)


def _update(changes: list[tuple[str, str, Any]]) -> dict[str, Any]:
    update: dict[str, Any] = {}
    for operator, path, operand in changes:
        update.setdefault(operator, {})[path] = operand
    return update


updates = st.lists(changes, min_size=1, max_size=4).map(_update)
