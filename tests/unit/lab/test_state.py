# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import dataclasses
import json
import tempfile
from pathlib import Path
from typing import Any

import testtools

from lab.cloud.options import STOCK_API
from lab.cloud.options import STOCK_DRIVER
from lab.cloud.options import CloudOptions
from lab.cloud.options import Storage
from lab.cloud.state import State
from lab.errors import LabError


class StateTest(testtools.TestCase):
    def test_it_is_read_as_it_was_written(self) -> None:
        state = _state(storage=Storage.CEPH, images_type='rbd')
        with tempfile.TemporaryDirectory() as name:
            path = Path(name, 'state.json')
            state.write(path)
            self.assertEqual(state, State.read(path))

    def test_one_of_before_there_was_a_choice(self) -> None:
        options = dataclasses.asdict(CloudOptions())
        for name in ('storage', 'images_type', 'app_factory'):
            del options[name]
        with tempfile.TemporaryDirectory() as name:
            path = Path(name, 'state.json')
            path.write_text(json.dumps({'options': options, 'checkout': 'a'}))
            self.assertEqual(_state(app_factory=STOCK_API), State.read(path))

    def test_nothing_is_stale_without_a_change(self) -> None:
        self.assertEqual(set(), _state().stale(_state()))

    def test_what_a_change_concerns(self) -> None:
        before = _state(storage=Storage.CEPH)
        self.assertEqual(
            {'nova-compute'},
            before.stale(_state(storage=Storage.CEPH, images_type='rbd')),
        )
        self.assertEqual({'nova-api'}, _state().stale(_state(app_factory='a')))

    def test_another_environment_concerns_nova_alone(self) -> None:
        before = _state(driver=STOCK_DRIVER, app_factory=STOCK_API)
        after = dataclasses.replace(before.options, stock=True)
        self.assertEqual(
            {'nova-api', 'nova-compute', 'nova-conductor', 'nova-scheduler'},
            before.stale(State(after, before.checkout)),
        )

    def test_with_and_without_ceph_all_that_stores_is_another(self) -> None:
        stale = _state().stale(_state(storage=Storage.CEPH))
        self.assertEqual(stale, _state(storage=Storage.CEPH).stale(_state()))
        self.assertLessEqual(
            {'cinder-volume', 'glance', 'nova-api', 'nova-compute'}, stale
        )
        self.assertNotIn('keystone', stale)


class OptionsTest(testtools.TestCase):
    def test_root_disks_in_a_ceph_that_is_not_there(self) -> None:
        self.assertRaises(LabError, CloudOptions, images_type='rbd')

    def test_stock_nova_with_the_driver(self) -> None:
        self.assertRaises(LabError, CloudOptions, stock=True)


def _state(**options: Any) -> State:
    return State(CloudOptions(**options), 'a')
