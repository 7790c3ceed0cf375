# SPDX-License-Identifier: Apache-2.0
"""The XML of libvirt, within bounds.

libvirt writes it, and others have named and configured what it describes. It
has neither a document type nor many levels; what had them would not be from
libvirt. Expat bounds what entities can expand to since 2.4.1, but a Python may
have an older one, and nothing in Python bounds the depth: a copy of a million
levels overruns the stack.
"""

from __future__ import annotations

from xml.etree import ElementTree

from nova_snapshot_driver import exception

#: As much text as libvirt sends at once is a quarter of it, in characters
#: (``REMOTE_STRING_MAX``).
LARGEST = 16 << 20

#: As many levels as libvirt's own parser takes (``xmlParserMaxDepth`` of
#: libxml2).
DEEPEST = 256

#: The beginning of the markup in which entities are defined.
_DOCUMENT_TYPE = '<!DOCTYPE'

#: How much is parsed at a time, in characters: the parser hears no sooner that
#: it is to stop.
_PIECE = 1 << 16


def parsed(xml: str, what: str) -> ElementTree.Element:
    """The root of a document.

    :param what: is described, in words
    :raises DescriptionUnreadable: it is no XML, or is beyond the bounds
    """
    try:
        if len(xml) > LARGEST:
            raise ValueError(f'it has more than {LARGEST} characters')
        # Not left to the parser, which expands entities all the same once a
        # handler of it has failed.
        if _DOCUMENT_TYPE in xml:
            raise ValueError('it has a document type')
        # S314: entities are refused, and depth and size are bounded.
        parser = ElementTree.XMLParser(target=_Builder())  # noqa: S314
        for begin in range(0, len(xml), _PIECE):
            parser.feed(xml[begin : begin + _PIECE])
        return parser.close()
    except (ElementTree.ParseError, ValueError) as error:
        raise exception.DescriptionUnreadable(
            what=what, reason=str(error)
        ) from error


class _Builder(ElementTree.TreeBuilder):
    def __init__(self) -> None:
        super().__init__()
        self._depth = 0

    def start(
        self, tag: str, attributes: dict[str, str], /
    ) -> ElementTree.Element:
        self._depth += 1
        if self._depth > DEEPEST:
            raise ValueError(f'it is deeper than {DEEPEST} levels')
        return super().start(tag, attributes)

    def end(self, tag: str, /) -> ElementTree.Element:
        self._depth -= 1
        return super().end(tag)
