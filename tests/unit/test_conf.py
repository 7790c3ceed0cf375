# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import io
import os
import pathlib
from importlib import metadata

import ddt
import fixtures
import testtools
from oslo_config import cfg
from oslo_config import generator

from nova_snapshot_driver import conf
from tests.unit import tables
from tests.unit.denied import Denied

#: Group, name, type and default of what is Nova's, as Nova 34 has it.
OF_NOVA = (
    ('DEFAULT', 'state_path', cfg.StrOpt, '/var/lib/nova'),
    ('DEFAULT', 'instances_path', cfg.StrOpt, '$state_path/instances'),
    (
        'DEFAULT',
        'non_inheritable_image_properties',
        cfg.ListOpt,
        ['cache_in_nova', 'bittorrent'],
    ),
    ('libvirt', 'connection_uri', cfg.StrOpt, ''),
    (
        'libvirt',
        'snapshots_directory',
        cfg.StrOpt,
        '$instances_path/snapshots',
    ),
    ('libvirt', 'snapshot_image_format', cfg.StrOpt, None),
    ('libvirt', 'snapshot_compression', cfg.BoolOpt, False),
    ('glance', 'num_retries', cfg.IntOpt, 3),
    ('ephemeral_storage_encryption', 'enabled', cfg.BoolOpt, False),
    ('workarounds', 'disable_libvirt_livesnapshot', cfg.BoolOpt, False),
)

NOVA_CONF = """\
[DEFAULT]
state_path = /srv/nova
transport_url = rabbit://nova:s3cret@mq

[libvirt]
virt_type = kvm
snapshot_image_format = qcow2

[snapshot]
method = cold
quiesce_timeout = 3
"""


@ddt.ddt
class DefaultsTest(testtools.TestCase):
    @tables.rows(
        {
            'method': ('auto',),
            'quiesce': ('auto',),
            'pause': ('auto',),
            'target': ('image',),
            'volume_type': (None,),
            'snapshots_take_gigabytes': (True,),
            'state_directory': ('/var/lib/nova/snapshot-driver',),
            'quiesce_timeout': (10,),
            'thaw_timeout': (300,),
            'qemu_timeout': (300,),
            'shutdown_timeout': (300,),
            'suspend_timeout': (300,),
            'device_detach_timeout': (300,),
            'job_abort_timeout': (300,),
            'cancel_timeout': (310,),
            'reattach_agent': (True,),
            'stall_timeout': (30,),
            'volume_timeout': (300,),
            'mirror_timeout': (7200,),
            'flatten_timeout': (7200,),
            'disk_slot_timeout': (7200,),
            'extract_timeout': (7200,),
            'upload_timeout': (86400,),
            'deadline': (0,),
            'scratch_directory': (None,),
            'scratch_reserve': (1024,),
            'bandwidth': (0,),
            'source_timeout': (45,),
            'least_rate': (16,),
            'compression_type': ('zstd',),
            'compression_level': (1,),
            'nice': (10,),
            'ionice': ('none',),
            'metrics_file': (None,),
        }
    )
    def test_ours(self, default: object) -> None:
        name = self.id().rpartition('_ours_')[2].partition('_')[2]
        self.assertEqual(default, conf.load([]).snapshot[name])

    def test_every_option_of_ours_is_in_the_table_above(self) -> None:
        self.assertEqual(34, len(conf.snapshot_opts))

    @tables.rows({row[1]: row for row in OF_NOVA})
    def test_of_nova(
        self, group: str, name: str, kind: type[cfg.Opt], default: object
    ) -> None:
        options = {
            (where or 'DEFAULT', option.name): option
            for where, several in conf.nova_opts.items()
            for option in several
        }
        option = options[group, name]
        self.assertIs(kind, type(option))
        self.assertEqual(default, option.default)

    def test_directories(self) -> None:
        loaded = conf.load([])
        self.assertEqual(
            '/var/lib/nova/instances/snapshots',
            loaded.libvirt.snapshots_directory,
        )


class LoadTest(testtools.TestCase):
    def setUp(self) -> None:
        super().setUp()
        root = self.useFixture(fixtures.TempDir()).path
        self.file = pathlib.Path(root) / 'nova.conf'
        self.file.write_text(NOVA_CONF)

    def test_file_of_nova(self) -> None:
        loaded = conf.load([str(self.file)])
        self.assertEqual(
            '/srv/nova/snapshot-driver', loaded.snapshot.state_directory
        )
        self.assertEqual('qcow2', loaded.libvirt.snapshot_image_format)
        self.assertEqual('cold', loaded.snapshot.method)
        self.assertEqual(3, loaded.snapshot.quiesce_timeout)

    def test_former_names(self) -> None:
        """A nova.conf that was written before options had their names."""
        self.file.write_text(
            '[snapshot]\npath = mirror\nstillness_timeout = 7\n'
            'guest_timeout = 9\n'
        )
        loaded = conf.load([str(self.file)])
        self.assertEqual('mirror', loaded.snapshot.method)
        self.assertEqual(7, loaded.snapshot.stall_timeout)
        self.assertEqual(9, loaded.snapshot.qemu_timeout)
        self.assertEqual(300, loaded.snapshot.suspend_timeout)

    def test_overrides_go_before_the_file(self) -> None:
        loaded = conf.load(
            [str(self.file)], [('snapshot', 'method', 'mirror')]
        )
        self.assertEqual('mirror', loaded.snapshot.method)

    def test_overrides_are_those_of_one_configuration(self) -> None:
        conf.load([], [('snapshot', 'method', 'mirror')])
        self.assertEqual('auto', conf.load([]).snapshot.method)

    def test_places_where_openstack_keeps_it(self) -> None:
        asked = []

        def find(*where: str) -> list[str]:
            asked.append(where)
            return [str(self.file)]

        self.useFixture(
            fixtures.MockPatchObject(cfg, 'find_config_files', find)
        )
        self.assertEqual('cold', conf.load().snapshot.method)
        self.assertEqual(
            [('nova', 'nova-compute'), ('nova', 'nova-snapshot')], asked
        )

    def test_file_of_the_command_alone(self) -> None:
        """The file goes before those of Nova, which are read once."""
        home = self.file.parent
        self.useFixture(fixtures.EnvironmentVariable('HOME', str(home)))
        (home / 'nova-compute.conf').write_text('[snapshot]\nnice = 3\n')
        own = home / 'nova-snapshot.conf'
        own.write_text('[snapshot]\nmethod = mirror\n')
        loaded = conf.load()
        self.assertEqual('mirror', loaded.snapshot.method)
        self.assertEqual(3, loaded.snapshot.nice)
        self.assertEqual(
            ['nova.conf', 'nova-compute.conf', 'nova-snapshot.conf'],
            [os.path.basename(path) for path in loaded.config_file],
        )

    def test_directories(self) -> None:
        """Nova reads two of them, and the command one of its own."""
        home = self.file.parent
        self.useFixture(fixtures.EnvironmentVariable('HOME', str(home)))
        for number, name in enumerate(('nova', 'nova-compute')):
            directory = home / f'{name}.conf.d'
            directory.mkdir()
            (directory / 'a.conf').write_text(f'[snapshot]\nnice = {number}\n')
        own = home / 'nova-snapshot.conf.d'
        own.mkdir()
        (own / 'a.conf').write_text('[snapshot]\nmethod = mirror\n')
        for files in (None, [str(self.file)]):
            loaded = conf.load(files)
            self.assertEqual('mirror', loaded.snapshot.method)
            self.assertEqual(1, loaded.snapshot.nice)
            self.assertEqual(
                ['nova.conf.d', 'nova-compute.conf.d', 'nova-snapshot.conf.d'],
                [os.path.basename(path) for path in loaded.config_dir],
            )

    def test_hidden_file(self) -> None:
        """Defaults do not stand in for what nobody may look at."""
        self.useFixture(
            fixtures.MockPatchObject(conf, 'NOVA_CONF', str(self.file))
        )
        self.useFixture(Denied(self.file.parent))
        error = self.assertRaises(
            cfg.ConfigFilesPermissionDeniedError, conf.load
        )
        self.assertIn(str(self.file), str(error))

    def test_missing_file(self) -> None:
        self.assertRaises(
            cfg.ConfigFilesNotFoundError, conf.load, ['/missing/nova.conf']
        )

    def test_value_that_is_not_valid(self) -> None:
        """An invalid value is found before any of the others is used."""
        self.file.write_text('[snapshot]\nquiesce_timeout = 0\n')
        self.assertRaises(
            cfg.ConfigFileValueError, conf.load, [str(self.file)]
        )

    def test_override_that_is_not_valid(self) -> None:
        self.assertRaises(
            ValueError, conf.load, [], [('snapshot', 'method', 'sideways')]
        )

    def test_arguments_of_the_process_are_not_read(self) -> None:
        arguments = ['nova-snapshot', '--no-such-option']
        self.useFixture(fixtures.MockPatch('sys.argv', arguments))
        self.assertEqual('auto', conf.load([]).snapshot.method)


class BesideNovaTest(testtools.TestCase):
    def test_ours_alone_are_registered(self) -> None:
        nova = cfg.ConfigOpts()
        conf.register_opts(nova)
        nova([])
        self.assertEqual('auto', nova.snapshot.method)
        self.assertNotIn('libvirt', nova)

    def test_twice(self) -> None:
        nova = cfg.ConfigOpts()
        conf.register_opts(nova)
        conf.register_opts(nova)


class SampleTest(testtools.TestCase):
    def test_sample_has_our_options_alone(self) -> None:
        (entry_point,) = metadata.entry_points(
            group='oslo.config.opts', name='nova_snapshot_driver'
        )
        ((group, options),) = entry_point.load()()
        self.assertEqual('snapshot', str(group))
        self.assertEqual(
            [option.name for option in conf.snapshot_opts],
            [option.name for option in options],
        )

    def test_sample_is_written(self) -> None:
        generated = cfg.ConfigOpts()
        generator.register_cli_opts(generated)
        generated(['--namespace', 'nova_snapshot_driver'])
        sample = io.StringIO()
        generator.generate(generated, sample)
        text = sample.getvalue()
        self.assertEqual(
            ['[DEFAULT]', '[snapshot]'],
            [line for line in text.splitlines() if line.startswith('[')],
        )
        for option in conf.snapshot_opts:
            self.assertIn(f'#{option.name} = ', text)
