# SPDX-License-Identifier: Apache-2.0
"""An operator, who does in the lab what the pages say."""

from __future__ import annotations

import glob
import re
from collections.abc import Sequence
from pathlib import Path

import lab.cloud
from lab.directory import lab_directory
from tests.openstack.deployment import commands
from tests.openstack.deployment.host import Host
from tests.openstack.deployment.ini_file import parse
from tests.openstack.deployment.nova_api import NovaApi
from tests.openstack.deployment.rst import Block
from tests.openstack.deployment.rst import Command
from tests.openstack.deployment.rst import Settings

# An absolute path, and no script of sed.
_PATH = re.compile(r'/[\w./@-]+')

#: With what Nova's environment was made.
CONSTRAINTS = Path(lab.cloud.__file__).with_name('constraints.txt')


class Operator:
    """An operator with a page of the documentation."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.api = NovaApi(host.cloud)

    def follow(self, block: Block, accept: Sequence[int] = (0,)) -> None:
        """Do all that a block says.

        :param accept: the exit statuses that mean success
        :raises UnknownCommand: the lab has nothing for a command in it
        :raises LabError: a command has failed
        """
        for step in block.steps:
            match step:
                case Command(line):
                    self.type(line, accept)
                case Settings():
                    self.write(step)

    def type(self, line: str, accept: Sequence[int] = (0,)) -> str:
        """Run a command of a page, and return what it wrote.

        :param accept: the exit statuses that mean success
        :raises UnknownCommand: the lab has nothing for it
        :raises LabError: it has failed
        """
        match commands.translate(line):
            case commands.Run(argv):
                return self.host.run(self._argv(argv), accept)
            case commands.Build() | commands.Nothing():
                # The wheel is built already: the host has it.
                pass
            case commands.Restart('nova-api') if self.api.running:
                self.api.reload()
            case commands.Restart(service):
                self.host.cloud.services[service].restart()
        return ''

    def configure(self, block: Block) -> None:
        """Write the options of a block, and do nothing else that it says."""
        for step in block.steps:
            if isinstance(step, Settings):
                self.write(step)

    def write(self, settings: Settings) -> None:
        """Write the options of a page."""
        if settings.text.startswith('[Service]'):
            self.host.unit.parent.mkdir(parents=True, exist_ok=True)
            self.host.unit.write_text(settings.text)
            return
        for section, option, value in parse(settings.text):
            self.host.put(section, option, self._in_the_lab(value))

    def write_apparmor(self, rule: Block) -> None:
        """Write a rule where AppArmor would have it."""
        self.host.apparmor.parent.mkdir(parents=True, exist_ok=True)
        self.host.apparmor.write_text(rule.text)

    def _argv(self, words: Sequence[str]) -> list[str]:
        """A command with the lab's paths, and without its patterns."""
        argv: list[str] = []
        for word in map(self._in_the_lab, words):
            argv += sorted(glob.glob(word, root_dir=self.host.home)) or [word]
        foreign = [word for word in argv if self._is_foreign(word)]
        if foreign:
            raise commands.UnknownCommand(f'not in the lab: {foreign}')
        return argv

    def _is_foreign(self, word: str) -> bool:
        """Whether a word is a path of the machine that runs the lab."""
        return bool(_PATH.fullmatch(word)) and not any(
            Path(word).is_relative_to(place)
            for place in (lab_directory(), CONSTRAINTS.parent)
        )

    def _in_the_lab(self, text: str) -> str:
        """A text of a page, with the paths and the secrets of the lab."""
        host, cloud = self.host, self.host.cloud
        places = {
            '/path/to/nova': cloud.install.directory,
            '/etc/systemd/system': host.units,
            '/etc/apparmor.d': host.home / 'apparmor.d',
            '/var/lib/node_exporter': host.home / 'node_exporter',
            '/etc/nova': host.etc,
            '/var/lib/nova': cloud.instances_path.parent,
            'CONSTRAINTS': CONSTRAINTS,
            'http://KEYSTONE:5000/v3': cloud.keystone_url,
            'SECRET': host.nova_conf.get('placement', 'password'),
        }
        return re.sub(
            '|'.join(map(re.escape, places)),
            lambda found: str(places[found[0]]),
            text,
        )
