# SPDX-License-Identifier: Apache-2.0
"""An entry of the journal: all that one snapshot has taken."""

from __future__ import annotations

import dataclasses
import json
import re
from typing import TypeVar

from nova_snapshot_driver.common import codec
from nova_snapshot_driver.state import former_entry
from nova_snapshot_driver.takings import registry
from nova_snapshot_driver.takings.taking import Taking
from nova_snapshot_driver.takings.taking import Whose
from nova_snapshot_driver.takings.undefine import Undefine

VERSION = 2

#: A UUID as libvirt and Nova write one. It is a part of the names of files,
#: which are removed.
_UUID = re.compile(r'[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}', re.ASCII)

Kind = TypeVar('Kind', bound=Taking)


@dataclasses.dataclass(frozen=True)
class _Domain:
    name: str
    uuid: str


@dataclasses.dataclass(frozen=True)
class Entry:
    """A record of what a snapshot may have taken.

    :ivar name: of the domain
    :ivar uuid: of the domain
    :ivar takings: in the order in which they are undone, however they are
        given
    """

    name: str
    uuid: str
    takings: tuple[Taking, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, 'takings', registry.in_order(self.takings))

    @property
    def is_given_back(self) -> bool:
        """Nothing is taken from the domain (any more)."""
        return self == self.given_back()

    def of_kind(self, kind: type[Kind]) -> list[Kind]:
        return [each for each in self.takings if type(each) is kind]

    def with_(self, *takings: Taking) -> Entry:
        return dataclasses.replace(self, takings=(*self.takings, *takings))

    def without(self, *kinds: type[Taking]) -> Entry:
        left = (each for each in self.takings if type(each) not in kinds)
        return dataclasses.replace(self, takings=tuple(left))

    def given_back(self) -> Entry:
        """The entry once the domain has all that was taken from it."""
        return self._without_those(Whose.GUEST)

    def of_complete_image(self) -> Entry:
        """The entry without the image, which is complete and is to stay."""
        return self._without_those(Whose.IMAGE)

    def _without_those(self, whose: Whose) -> Entry:
        left = (each for each in self.takings if each.WHOSE is not whose)
        return dataclasses.replace(self, takings=tuple(left))

    def to_json(self) -> str:
        return json.dumps(
            {
                'version': VERSION,
                'domain': {'name': self.name, 'uuid': self.uuid},
                'takings': [each.to_json() for each in self.takings],
            },
            indent=2,
        )

    @classmethod
    def from_json(cls, text: str) -> Entry:
        """
        :raises ValueError, TypeError, KeyError, AttributeError,
            RecursionError: it is no entry
        """
        fields = json.loads(text)
        version = fields.pop('version')
        if version == former_entry.VERSION:
            entry = cls(*former_entry.read(fields))
        elif version == VERSION:
            entry = cls._read(**fields)
        else:
            raise ValueError('it is of another version')
        if not _UUID.fullmatch(entry.uuid):
            raise ValueError('its uuid is none')
        if any(
            each.definition.uuid != entry.uuid
            for each in entry.of_kind(Undefine)
        ):
            raise ValueError('its definition is of another domain')
        return entry

    @classmethod
    def _read(cls, domain: object, takings: list[dict[str, object]]) -> Entry:
        of = codec.built(_Domain, domain)
        if not isinstance(takings, list):
            raise TypeError('its takings are no list')
        return cls(of.name, of.uuid, tuple(map(registry.from_json, takings)))
