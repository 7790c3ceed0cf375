# SPDX-License-Identifier: Apache-2.0
"""The built documentation, as a reader sees it."""

from __future__ import annotations

import importlib.metadata
import pathlib
from typing import Any
from typing import ClassVar

import testtools
import yaml
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.wait import WebDriverWait

from nova_snapshot_driver import exception
from tests.docs import site

HERE = pathlib.Path(__file__).parent
LOOK = (HERE / 'look.js').read_text()
OVERFLOW = (HERE / 'overflow.js').read_text()
RULES = HERE.parents[1] / 'etc/nova_snapshot_driver/prometheus-rules.yaml'

#: The widths of a small screen of a desk, and of a telephone.
WIDTHS = (1280, 400)
ERRORS = 'reference/errors.html'


class SiteTest(testtools.TestCase):
    address: ClassVar[str]
    browser: ClassVar[Any]
    #: each page, as look.js sees it
    pages: ClassVar[dict[str, dict[str, Any]]]
    #: elements that are too wide, and messages of the browser
    overflows: ClassVar[list[str]]
    complaints: ClassVar[list[str]]

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.address = cls.enterClassContext(site.served())
        cls.browser = cls.enterClassContext(site.browser())
        cls.pages = {}
        cls.overflows = []
        cls.complaints = []
        for path in site.paths():
            cls.visit(path)

    @classmethod
    def visit(cls, path: str) -> None:
        cls.browser.get(f'{cls.address}/{path}')
        cls.pages[path] = cls.browser.execute_script(LOOK)
        for width in WIDTHS:
            cls.resize(width)
            cls.overflows += [
                f'{path} at {width}: {found}'
                for found in cls.browser.execute_script(OVERFLOW)
            ]
        cls.complaints += [
            f'{path}: {entry["message"]}'
            for entry in cls.browser.get_log('browser')
        ]

    @classmethod
    def resize(cls, width: int) -> None:
        """Give the page a width, which a window can't have below 500."""
        cls.browser.execute_cdp_cmd(
            'Emulation.setDeviceMetricsOverride',
            {
                'width': width,
                'height': 900,
                'deviceScaleFactor': 1,
                'mobile': False,
            },
        )

    def leads_somewhere(self, path: str, anchor: str) -> bool:
        if path not in self.pages:
            return (site.ROOT / path).is_file()
        return not anchor or anchor in self.pages[path]['anchors']

    def dead(self, address: str, links: list[str]) -> list[str]:
        """The links to the site that lead nowhere.

        :param address: that of the site in the links
        """
        return [
            link
            for link in links
            if link.startswith(f'{address}/')
            and not self.leads_somewhere(
                *link.removeprefix(f'{address}/').partition('#')[::2]
            )
        ]

    def test_no_page_is_wider_than_its_window(self) -> None:
        self.assertEqual([], self.overflows)

    def test_no_link_is_dead(self) -> None:
        links = [
            link for page in self.pages.values() for link in page['links']
        ]
        self.assertGreater(len(links), 1000)
        self.assertEqual([], self.dead(self.address, links))

    def test_browser_has_no_complaint(self) -> None:
        self.assertEqual([], self.complaints)

    def test_nothing_comes_from_elsewhere(self) -> None:
        loaded = {
            name for page in self.pages.values() for name in page['loaded']
        }
        self.assertNotEqual(set(), loaded)
        self.assertEqual(
            set(),
            {name for name in loaded if not name.startswith(self.address)},
        )

    def test_every_title_has_the_version(self) -> None:
        version = importlib.metadata.version('nova-snapshot-driver')
        for path, page in self.pages.items():
            self.assertIn(
                f'nova-snapshot-driver {version}', page['title'], path
            )

    def test_every_page_has_the_licence(self) -> None:
        for path, page in self.pages.items():
            self.assertEqual(['Apache-2.0'], page['licences'], path)

    def test_index_names_every_page(self) -> None:
        named = {
            link.removeprefix(f'{self.address}/').partition('#')[0]
            for link in self.pages['index.html']['named']
        }
        self.assertEqual({'search.html'}, self.pages.keys() - named)

    def test_every_error_has_an_anchor(self) -> None:
        anchors = self.pages[ERRORS]['anchors']
        self.assertEqual(set(), exception.by_code().keys() - set(anchors))

    def test_links_of_alerts_lead_to_a_section(self) -> None:
        links = [
            link.replace('{{ $labels.code }}', 'no-space')
            for group in yaml.safe_load(RULES.read_text())['groups']
            for rule in group['rules']
            for name, link in rule['annotations'].items()
            if name.endswith('_url')
        ]
        self.assertNotEqual([], links)
        self.assertEqual(
            [],
            self.dead('https://docs.example.org/nova-snapshot-driver', links),
        )

    def test_search_finds_an_error_by_its_code(self) -> None:
        self.resize(WIDTHS[0])
        self.browser.get(f'{self.address}/index.html')
        field = self.browser.find_element(By.CSS_SELECTOR, '.sidebar-search')
        field.send_keys('no-space', Keys.ENTER)
        first = WebDriverWait(self.browser, 30).until(
            lambda browser: browser.find_element(
                By.CSS_SELECTOR, '#search-results li a'
            ),
        )
        self.assertEqual(
            f'{self.address}/{ERRORS}#no-space', first.get_attribute('href')
        )
