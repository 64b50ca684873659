"""Places of this machine in a text, and the text without them: clients have no use for them.

Pure. For the words of others, and for what is written down for clients to read; our own words to a
client name none.
"""

from __future__ import annotations

import re

_PLACE = re.compile(
    # Quoted as a whole, or plain and of two parts at least. Our API's paths are no machine's.
    r"""(?P<quote>['"])(?P<quoted>/(?!(?:v1|api)/)[^'"]+)(?P=quote)"""
    r"""|(?<![\w/:.…}])(?P<plain>~?/(?!(?:v1|api)/)[^\s'"<>:;,()/]+(?:/[^\s'"<>:;,()/]*)+)"""
)


def without_places(text: str) -> str:
    """`text` less the absolute paths in it; of a file its name stays."""
    return _PLACE.sub(_name_alone, text)


def reason_of(error: BaseException) -> str:
    """What an error that is not ours says, less the places of this machine."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return without_places(str(error))


def _name_alone(place: re.Match[str]) -> str:
    quote, path = place["quote"] or "", place["quoted"] or place["plain"]
    name = path.rstrip("/.").rpartition("/")[2]
    shown = f"…/{name}" if "." in name.strip(".") else "…"
    return quote + shown + quote
