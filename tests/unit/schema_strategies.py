"""What a schema of the AsyncAPI or OpenAPI document allows, as strategies of Hypothesis, for the words they use."""

from hypothesis import strategies as st


def containers(inner, names):
    """Lists, and objects with these names. Names that come twice are merged: far faster than to look for others."""
    objects = st.lists(st.tuples(names, inner), max_size=3).map(dict)
    return st.lists(inner, max_size=3) | objects


LEAVES = st.one_of(st.none(), st.booleans(), st.integers(-(2**63), 2**64 - 1), st.text(max_size=10))
LEFT_OUT = object()
ANYTHING = LEAVES | containers(LEAVES, st.text(max_size=10))


def values(schema, document):
    """A strategy for the JSON values that a schema of the document allows. A word that is not known here fails."""
    match schema:
        case {"$ref": reference}:
            return values(document["components"]["schemas"][reference.rpartition("/")[2]], document)
        case {"anyOf": choices} | {"oneOf": choices}:
            return st.one_of([values(choice, document) for choice in choices])
        case {"enum": members}:
            return st.sampled_from(members)
        case {"type": [*kinds]}:
            return st.one_of([values({**schema, "type": kind}, document) for kind in kinds])
        case {"type": "object"}:
            return _objects(schema, document)
        case {"type": "array", "items": items}:
            return st.lists(values(items, document), max_size=3)
        case {"type": "string", "pattern": pattern}:
            return st.from_regex(pattern, fullmatch=True)
        case {"type": "string"}:
            return st.text(min_size=schema.get("minLength", 0), max_size=schema.get("maxLength"))
        case {"type": "integer"}:
            return st.integers(schema.get("minimum"), schema.get("maximum"))
        case {"type": "number"}:
            return st.floats(allow_nan=False, allow_infinity=False)
        case {"type": "boolean"}:
            return st.booleans()
        case {"type": "null"}:
            return st.none()
    raise NotImplementedError(schema)


def _objects(schema, document):
    properties = schema.get("properties", {})
    required = set(schema.get("required", ()))
    described = st.fixed_dictionaries(
        {
            name: values(field, document) if name in required else st.just(LEFT_OUT) | values(field, document)
            for name, field in properties.items()
        }
    ).map(lambda known: {name: value for name, value in known.items() if value is not LEFT_OUT})
    # Other fields are allowed beside those that are described.
    others = st.lists(st.tuples(st.text(max_size=10), ANYTHING), max_size=2).map(
        lambda pairs: {name: value for name, value in pairs if name not in properties}
    )
    return st.builds(lambda more, known: more | known, others, described)
