"""How FreeSWITCH splits the arguments of an API command."""

_ESCAPED = {"n": "\n", "r": "\r", "t": "\t", "s": " "}


def separate(text: str, most: int = 32) -> list[str]:
    """The words of ``switch_separate_string`` with a space between them.

    A word may stand in single quotes, ``\\'`` and ``\\\\`` are escapes, and the last of ``most`` words keeps all the rest.
    """
    words: list[str] = []
    rest = text.strip(" ")
    while rest:
        word, rest = _word(rest, to_end=len(words) == most - 1)
        words.append(word)
        rest = rest.lstrip(" ")
    return words


def _word(text: str, *, to_end: bool) -> tuple[str, str]:
    out: list[str] = []
    quoted = False
    index = 0
    while index < len(text):
        character = text[index]
        if character == "\\" and text[index + 1 : index + 2] in ("\\", "'", *_ESCAPED):
            index += 1
            out.append(_ESCAPED.get(text[index], text[index]))
        elif character == "'":
            quoted = not quoted
        elif character == " " and not quoted and not to_end:
            break
        else:
            out.append(character)
        index += 1
    return "".join(out), text[index:]
