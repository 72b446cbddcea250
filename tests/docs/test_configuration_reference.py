"""`docs/configuration.md` says of every key what the schema says."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from picolm.config.loading import valid_keys
from picolm.config.schema import Config

PAGE = Path(__file__).resolve().parents[2] / "docs" / "configuration.md"
SCHEMA = Config.model_json_schema()


def resolved(part: dict[str, Any]) -> dict[str, Any]:
    return SCHEMA["$defs"][part["$ref"].rsplit("/", 1)[-1]] if "$ref" in part else part


def described(part: dict[str, Any]) -> str:
    """Say what a value may be."""
    if "anyOf" in part:
        return " or ".join(described(option) for option in part["anyOf"])
    if "enum" in part or "const" in part:
        return ", ".join(f"`{choice}`" for choice in part.get("enum", [part.get("const")]))
    if "prefixItems" in part:
        kinds = [described(item) for item in part["prefixItems"]]
        assert len(set(kinds)) == 1
        return f"list of {len(kinds)}, each {kinds[0]}"
    if "$ref" in part:
        return "section"
    if part["type"] == "array":
        one = described(part["items"])
        for noun in ("text", "number", "section"):
            one = one.replace(noun, f"{noun}s")
        return f"list of {one}"
    if part["type"] == "object":
        one = "section" if "$ref" in part["additionalProperties"] else described(part["additionalProperties"])
        return f"names, each with a {one}"
    kind = {
        "integer": "whole number",
        "number": "number",
        "boolean": "`true`, `false`",
        "string": "text",
        "null": "`null`",
    }
    bounds = {"minimum": "from {}", "exclusiveMinimum": "above {}", "maximum": "to {}", "exclusiveMaximum": "below {}"}
    # 2**63 is the width of a seed, nothing that a person runs into.
    limits = [form.format(f"{part[name]:g}") for name, form in bounds.items() if name in part and part[name] < 2**62]
    return " ".join([kind[part["type"]], *limits])


def written(value: object) -> str:
    """A default as one writes it in YAML."""
    if isinstance(value, float):
        return repr(value).replace("e-0", "e-")
    if isinstance(value, list):
        return "[" + ", ".join(written(item) if item != "" else '""' for item in value) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {written(item)}" for key, item in value.items()) + "}"
    return value if isinstance(value, str) else json.dumps(value)


def sections_within(field: dict[str, Any], key: str) -> dict[str, Any]:
    """Sections that a key holds several of: under names of the user's own, or in a list."""
    places = {f"{key}.NAME": field.get("additionalProperties"), key: field.get("items")}
    return {place: part for place, part in places.items() if isinstance(part, dict) and "$ref" in part}


def rows(part: dict[str, Any], prefix: str) -> Iterator[str]:
    """What the page must say about a section: a heading, its meaning, a row for each key, then its own sections."""
    if "discriminator" in part or "oneOf" in part:
        for variant in part["oneOf"]:
            section = resolved(variant)
            yield from rows(section, f"{prefix} (kind: {section['properties']['kind']['const']})")
        return
    part = resolved(part)
    if prefix:
        yield f"### `{prefix.split(' ')[0]}`" + (f" {prefix.partition(' ')[2]}" if " " in prefix else "")
        yield part["description"].splitlines()[0]
    below = {}
    for name, field in part["properties"].items():
        key = f"{prefix.split(' ')[0]}.{name}".lstrip(".")
        if "$ref" in field or "oneOf" in field:
            below[key] = field
        elif any("$ref" in option for option in field.get("anyOf", ())):
            # A section that may be left out.
            below[key] = next(option for option in field["anyOf"] if "$ref" in option)
            yield f"| `{key}` | `{written(field['default'])}` | section or `null` | {field['description']} |"
        else:
            meaning = field.get("description", "the only kind so far" if name == "kind" else "")
            if name == "kind" and "(kind:" in prefix:
                meaning = f"which {prefix.split(' ')[0]}"
            default = f"`{written(field['default'])}`" if "default" in field else "must be given"
            yield f"| `{key}` | {default} | {described(field)} | {meaning} |"
            below |= sections_within(field, key)
    for key, field in below.items():
        yield from rows(field, key)


def test_every_key_stands_in_the_reference_as_the_schema_has_it() -> None:
    page = PAGE.read_text(encoding="utf-8").partition("\n## Reference\n")[2].splitlines()
    wanted = list(rows(SCHEMA, ""))
    assert [line for line in wanted if line not in page] == [], "paste these lines into docs/configuration.md"
    assert [line for line in page if line.startswith(("| `", "### `")) and line not in wanted] == [], (
        "remove these lines"
    )


def test_the_reference_covers_every_valid_key() -> None:
    text = "\n".join(rows(SCHEMA, ""))
    assert [key for key in valid_keys() if f"`{key}`" not in text] == []


if __name__ == "__main__":  # prints the reference, for pasting
    for line in rows(SCHEMA, ""):
        if line.startswith("###"):
            print(f"\n{line}\n")
        elif not line.startswith("|"):
            print(f"{line}\n\n| key | default | values | meaning |\n| --- | --- | --- | --- |")
        else:
            print(line)
