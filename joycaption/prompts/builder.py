"""Builds an instruction, byte for byte as the model was trained on it, from a caption type and its options."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches

from ..errors import PromptError
from .catalog import BETA_ONE, Catalog

__all__ = ["build_prompt", "is_trained_tone"]


def build_prompt(
    type: str = "descriptive",
    length: str | int = "any",
    *,
    extras: Iterable[str] = (),
    name: str | None = None,
    tone: str | None = None,
    tags: str | Sequence[str] | None = None,
    instruction: str | None = None,
    catalog: Catalog = BETA_ONE,
) -> str:
    """The instruction for one caption.

    Its parts, in this order: existing tags and a blank line; the template of type, tone and length; the name option;
    the extra options, in the catalog's order; a tone that the model was not trained on.

    Args:
        type: id or label of a caption type, in upper or lower case.
        length: "any", a length word of the catalog, or a number of words, 1 or more, as a number or in digits.
        extras: ids of extra options, in any order; an id given twice counts once. "name" stands for the name option.
        name: what the model shall call a person in the picture; it brings the name option with it.
        tone: None for the type's own; "formal" or "casual", which are trained for the type "descriptive"; or any other
            text, appended as " Use a {tone} tone.".
        tags: tags that the picture already has, for the model to build on: a list, or a text taken as it is.
        instruction: the user's own, in the place of type, length and tone; taken as it is, braces and all.

    Raises:
        PromptError: an unknown type, length or extra option, a name option without a name, or a blank instruction. The
            message says what is allowed.
    """
    if instruction is not None:
        untrained = None
    else:
        type_id = _find_type(type, catalog)
        trained, untrained = _split_tone(type_id, tone)
        instruction = _instruction(type_id, trained, length, catalog)
    if not isinstance(instruction, str) or not instruction.strip():
        raise PromptError(f"The instruction is {instruction!r}, but must say what to write. Leave it out for a type's.")
    parts = [instruction, *_options(extras, name, catalog)]
    if untrained:
        parts.append(f"Use a {untrained} tone.")
    return _tag_block(tags) + " ".join(parts)


def is_trained_tone(type: str, tone: str | None, *, catalog: Catalog = BETA_ONE) -> bool:
    """Whether the model saw this tone with this caption type in training; None, the type's own, always is.

    Raises:
        PromptError: an unknown type, or a blank tone.
    """
    return _split_tone(_find_type(type, catalog), tone)[1] is None


def _find_type(given: str, catalog: Catalog) -> str:
    labels = {kind.label: kind.id for kind in catalog.types.values()}
    return _choose("caption type", given, {**{id_: id_ for id_ in catalog.types}, **labels}, catalog.types)


def _split_tone(type_id: str, tone: str | None) -> tuple[str | None, str | None]:
    """(trained tone, untrained tone); at most one of them is not None."""
    if tone is None:
        return None, None
    tone = tone.strip()
    if not tone:
        raise PromptError("The tone is blank. Leave it out, or give a word such as formal or casual.")
    if type_id == "descriptive" and tone.lower() in ("formal", "casual"):
        return tone.lower(), None
    if type_id == "descriptive_casual" and tone.lower() == "casual":
        return None, None  # it is casual already
    return None, tone


def _instruction(type_id: str, tone: str | None, length: str | int, catalog: Catalog) -> str:
    templates = catalog.types["descriptive_casual" if tone == "casual" else type_id].templates
    any_length, in_words, of_length = catalog.formal if tone == "formal" else templates
    text = str(length).strip().lower()
    if text == "any":
        return any_length
    if text in catalog.length_words:
        return _fill(of_length, length=text)
    if re.fullmatch(r"[0-9]{1,9}", text) and int(text) > 0:
        return _fill(in_words, word_count=str(int(text)))
    words = ("any", *catalog.length_words)
    raise PromptError(
        f"The length is {length!r}, but must be {', '.join(words)}, or a number of words, 1 or more."
        f"{_suggest(text, words)}"
    )


def _options(extras: Iterable[str], name: str | None, catalog: Catalog) -> list[str]:
    choices = {"name": "name", **{id_: id_ for id_ in catalog.extras}}
    given = [extras] if isinstance(extras, str) else extras
    chosen = {_choose("extra option", extra, choices, choices) for extra in given}
    sentences = [sentence for id_, sentence in catalog.extras.items() if id_ in chosen]
    if name is None and "name" not in chosen:
        return sentences
    if name is None or not name.strip():
        raise PromptError("The name option needs a name that is not blank: give one, or leave the option out.")
    return [_fill(catalog.name_option, name=name.strip()), *sentences]


def _tag_block(tags: str | Sequence[str] | None) -> str:
    listed = [tags] if isinstance(tags, str) else tags or ()
    text = ", ".join(tag.strip() for tag in listed if tag.strip())
    return f"{text}\n\n" if text else ""


def _fill(template: str, **values: str) -> str:
    """Substitute in one pass, so that braces in what a user wrote stay as they are."""
    return re.sub(r"\{(word_count|length|name)\}", lambda match: values[match[1]], template)


def _choose(what: str, given: str, choices: Mapping[str, str], ids: Iterable[str]) -> str:
    """The id that ``given`` stands for, whatever its case."""
    by_lower_case = {choice.lower(): id_ for choice, id_ in choices.items()}
    text = str(given).strip().lower()
    if text in by_lower_case:
        return by_lower_case[text]
    raise PromptError(f"Unknown {what} {given!r}. Allowed are {', '.join(ids)}.{_suggest(text, by_lower_case)}")


def _suggest(text: str, choices: Iterable[str]) -> str:
    close = get_close_matches(text, choices, n=1)
    return f" Did you mean {close[0]!r}?" if close else ""
