# SPDX-License-Identifier: Apache-2.0
"""The files of Nova's configuration, as they are: no value is interpreted."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Self

from oslo_config import cfg

from nova_snapshot_driver import exception
from nova_snapshot_driver.cmd.check import api_paste
from nova_snapshot_driver.cmd.check import configuration
from nova_snapshot_driver.cmd.check import nova_options
from nova_snapshot_driver.cmd.check import paths
from nova_snapshot_driver.common import reason


@dataclasses.dataclass(frozen=True)
class NovaFile:
    """A file of configuration.

    :ivar sections: the values of each option, by section and name
    """

    path: str
    sections: Mapping[str, Mapping[str, Sequence[str]]]

    @classmethod
    def read(cls, path: str) -> Self:
        """
        :raises ConfigurationInvalid: it can't be read or parsed
        """
        sections: dict[str, dict[str, list[str]]] = {}
        try:
            cfg.ConfigParser(path, sections).parse()
        except (OSError, ValueError, cfg.ParseError) as error:
            raise exception.ConfigurationInvalid(
                reason=f'{path}: {reason.of(error)}'
            ) from error
        return cls(path, sections)

    def values(self, section: str, name: str) -> Sequence[str]:
        return self.sections.get(section, {}).get(name, ())


def known(conf: cfg.ConfigOpts) -> list[str]:
    """The files that were read, and those that some service of Nova may read.

    A host may have more of them than were given.
    """
    beside = dict.fromkeys(
        os.path.join(directory, name)
        for directory in (
            *map(os.path.dirname, conf.config_file),
            api_paste.USUAL_DIRECTORY,
        )
        for name in ('nova.conf', nova_options.COMPUTE_CONF)
    )
    found = [*configuration.files(conf), *filter(paths.may_exist, beside)]
    return list({os.path.realpath(path): path for path in found}.values())
