"""The viewer in a real browser: Debian's Chromium, driven by selenium.

Why: whether a page works, asks nothing of another machine and stays silent in the console is only
seen in a browser. Skipped where Chromium or its driver is not installed
(``apt-get install chromium chromium-driver``).
"""

import json
import re
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mentalarena.report.command import find_run, report_page
from mentalarena.store_reader import open_readonly
from mentalarena.view.episode import episode_page
from tests.mentalarena.view.stores import RUN, Viewer, has, snapshot
from tests.mentalarena.view.test_pages import LINKS, every_page, ids

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(
        not (has("chromium") and has("chromedriver")),
        reason="Chromium is not installed: apt-get install chromium chromium-driver",
    ),
]
webdriver: Any = pytest.importorskip("selenium.webdriver", reason="needs selenium")
from selenium.common.exceptions import (  # noqa: E402
    NoSuchElementException,
    StaleElementReferenceException,
)

PHONE = 390


class Browser:
    """Chromium, and what it asked for and complained of."""

    def __init__(self) -> None:
        options = webdriver.ChromeOptions()
        options.binary_location = "/usr/bin/chromium" if Path("/usr/bin/chromium").exists() else ""
        for flag in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
                     "--window-size=1100,900"):  # fmt: skip
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        service = webdriver.ChromeService(executable_path="/usr/bin/chromedriver")
        self.driver = webdriver.Chrome(options=options, service=service)

    def open(self, address: str) -> float:
        """Go there; the seconds until it was loaded."""
        started = time.perf_counter()
        self.driver.get(address)
        return time.perf_counter() - started

    def all(self, selector: str) -> list[Any]:
        return self.driver.find_elements("css selector", selector)  # type: ignore[no-any-return]

    def one(self, selector: str) -> Any:
        return self.driver.find_element("css selector", selector)

    def text(self) -> str:
        return self.one("body").text  # type: ignore[no-any-return]

    def until(self, holds: Callable[[], Any], what: str) -> Any:
        """What holds once a page that a key or a click asked for is there; waits twenty seconds."""
        deadline = time.monotonic() + 20
        while True:
            try:
                found = holds()
            except (StaleElementReferenceException, NoSuchElementException):
                found = None
            if found:
                return found
            assert time.monotonic() < deadline, f"{what} at {self.driver.current_url}"

    def shows(self, words: str) -> None:
        """Wait until the page says this."""
        self.until(lambda: words in self.text(), f"no {words!r}")

    def at(self, pattern: str) -> re.Match[str]:
        """Wait until the address is like this."""
        found = self.until(lambda: re.search(pattern, self.driver.current_url), f"no {pattern}")
        assert isinstance(found, re.Match)
        return found

    def press(self, *keys: str) -> None:
        webdriver.ActionChains(self.driver).send_keys(*keys).perform()

    def asked_for(self) -> list[str]:
        """Addresses of every request since the last look."""
        found = []
        for entry in self.driver.get_log("performance"):
            message = json.loads(entry["message"])["message"]
            if message["method"] == "Network.requestWillBeSent":
                found.append(message["params"]["request"]["url"])
        return found

    def complaints(self) -> list[str]:
        """What the console says since the last look, refused addresses apart."""
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def check_quiet(self, address: str) -> None:
        """Nothing was said in the console, nothing was asked of another machine."""
        assert self.complaints() == []
        for url in self.asked_for():
            assert url.startswith((address, "data:", "file:")), url

    def overflow(self) -> int:
        """Pixels that the page is wider than its window."""
        return int(self.driver.execute_script(
            "return document.documentElement.scrollWidth - document.documentElement.clientWidth"
        ))  # fmt: skip


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    opened = Browser()
    yield opened
    opened.driver.quit()


@pytest.fixture
def browser(chromium: Browser) -> Browser:
    """The one browser, on an empty page, with nothing to be blamed for."""
    chromium.open("about:blank")
    chromium.asked_for()
    chromium.complaints()
    return chromium


def test_every_page_loads_in_a_second_and_asks_nobody_else(
    browser: Browser, browsed: Viewer, thousand: Path
) -> None:
    browser.open(browsed.address)
    for path in every_page(thousand):
        times = [browser.open(browsed.address + path)]
        # What else the machine does is not the page's doing: the best of a few tries counts.
        while min(times) >= 1 and len(times) < 4:
            times.append(browser.open(browsed.address + path))
        assert min(times) < 1, f"{path} took {times} s"
        assert browser.all("h1"), path
        browser.check_quiet(browsed.address)


def test_from_a_run_to_an_episode_to_a_turn_to_its_call(
    browser: Browser, browsed: Viewer, thousand: Path
) -> None:
    browser.open(browsed.address)
    browser.driver.find_element("link text", "models").click()
    browser.shows("Run models")
    episode = browser.one("main tbody a")
    name = episode.text
    episode.click()
    browser.shows(f"Episode {name}")
    assert browser.all("svg.path g.reroute path"), "the reroute is drawn"
    # A cell opens what was stated; Escape closes it.
    cell = browser.one(".grid button")
    cell.click()
    box = browser.one("[popover]")
    assert box.is_displayed()
    assert "threshold" in box.text
    browser.press("\ue00c")
    assert not box.is_displayed()
    # From a round to what was said, and from there to the call.
    browser.all(".grid thead a")[0].click()
    browser.at("#round-0$")
    turn = browser.one("article.turn")
    assert "tokens" in turn.text
    turn.find_element("link text", "journaled").click()
    browser.shows("The answer, as it came")
    assert f"turn {0}, patient" in browser.text()
    browser.driver.find_element("link text", name).click()
    browser.shows(f"Episode {name}")
    # The row behind it, in Datasette, and back.
    browser.driver.find_element("link text", "episode").click()
    browser.at("/store/episodes/")
    browser.check_quiet(browsed.address)


def test_what_was_said_is_found_from_the_keyboard(
    browser: Browser, browsed: Viewer, thousand: Path
) -> None:
    (said,) = ids(thousand, "select text from turns order by length(text) desc limit 1")
    word = max(re.findall("[a-z]+", said), key=len)
    browser.open(browsed.address)
    browser.press("/")
    browser.press(f"{word}\n")
    browser.shows(f"Turns in which “{word}” was said")
    hits = browser.all("article.turn")
    assert hits
    assert browser.one("mark").text.lower().startswith(word[:4]), "stems count"
    browser.press("j")
    assert browser.driver.switch_to.active_element.tag_name in ("a", "article")
    browser.one("article.turn a").click()
    turn = browser.at(r"#turn-(\d+)$")
    assert browser.until(
        lambda: word[:4] in browser.one(f"#turn-{turn[1]}").text.lower(), "the turn that was found"
    )
    browser.check_quiet(browsed.address)


def test_everything_is_reached_with_the_tab_key(browser: Browser, browsed: Viewer) -> None:
    episode = "/episodes?run=models"
    browser.open(browsed.address + episode)
    browser.one("main tbody a").click()
    browser.at("/episode/")
    browser.until(lambda: browser.all("article.turn"), "the episode")
    browser.press("\ue004")
    assert browser.driver.switch_to.active_element.text == "Skip to the content"
    browser.press("\ue007")
    seen = set()
    for _ in range(40):
        browser.press("\ue004")
        active = browser.driver.switch_to.active_element
        seen.add(active.tag_name)
        if active.tag_name == "button":
            browser.press(" ")
            assert (
                browser.driver.execute_script(
                    "return document.querySelectorAll('[popover]:popover-open').length"
                )
                == 1
            )
            browser.press("\ue00c")
            break
    assert {"a", "summary", "button"} <= seen


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_shows_all_of_it_in_light_and_dark(
    browser: Browser, browsed: Viewer, thousand: Path, scheme: str
) -> None:
    driver = browser.driver
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {
        "width": PHONE, "height": 800, "deviceScaleFactor": 2, "mobile": True,
    })  # fmt: skip
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {
        "features": [{"name": "prefers-color-scheme", "value": scheme}],
    })  # fmt: skip
    try:
        for path in every_page(thousand)[:7]:
            browser.open(browsed.address + path)
            assert browser.overflow() <= 0, path
            back = driver.execute_script("return getComputedStyle(document.body).backgroundColor")
            light = sum(map(int, re.findall(r"\d+", back)[:3])) / 3
            assert (light > 128) == (scheme == "light"), path
            contrasts = driver.execute_script(CONTRAST)
            assert min(contrasts.values()) >= 4.5, contrasts
    finally:
        driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
        driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


CONTRAST = """
const light = (color) => {
  const [r, g, b] = color.match(/[0-9.]+/g).map(Number).map((v) => v / 255)
    .map((v) => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const page = light(getComputedStyle(document.body).backgroundColor);
const found = {};
const kinds = "main a, main .meta, main .g, main .tag, main b, h1";
for (const element of document.querySelectorAll(kinds)) {
  const own = light(getComputedStyle(element).color);
  const ratio = (Math.max(own, page) + 0.05) / (Math.min(own, page) + 0.05);
  const name = element.tagName + "." + element.className;
  found[name] = Math.min(found[name] ?? 99, ratio);
}
return found;
"""
"""Contrast of each kind of text with the page, as WCAG counts it."""


def test_a_page_follows_what_is_written(browser: Browser, played: Path, tmp_path: Path) -> None:
    db = snapshot(played, tmp_path)
    with sqlite3.connect(db) as writing:
        writing.execute("update episodes set status = 'running' where run_id = 'models'")
    viewer = Viewer(db)
    try:
        browser.open(viewer.address + "/run/models")
        browser.shows("2 running")
        with sqlite3.connect(db) as writing:
            writing.execute("update episodes set status = 'ok' where run_id = 'models'")
        browser.shows("2 ok")
        browser.check_quiet(viewer.address)
    finally:
        viewer.close()


def test_hostile_text_does_nothing(browser: Browser, hostile: Path, tmp_path: Path) -> None:
    viewer = Viewer(hostile)
    try:
        for path in every_page(hostile):
            browser.open(viewer.address + path)
            assert browser.driver.title != "owned"
            assert not browser.all("img[src='x']"), path
            if not path.startswith("/store"):
                assert browser.overflow() <= 0, path
            browser.check_quiet(viewer.address)
        browser.open(viewer.address + LINKS.to("run", RUN))
        browser.shows("a/b <script>")
        browser.check_quiet(viewer.address)
    finally:
        viewer.close()
    with open_readonly(hostile) as store:
        (episode,) = ids(hostile, "select id from episodes limit 1")
        pages = {"episode.html": episode_page(store, episode),
                 "report.html": report_page(store, find_run(store, RUN))}  # fmt: skip
    for name, page in pages.items():
        (tmp_path / name).write_text(page, encoding="utf-8")
        browser.open((tmp_path / name).as_uri())
        assert browser.driver.title.endswith("MentalArena")
        assert browser.overflow() <= 0, name
        browser.check_quiet("file:")


def test_a_page_that_runs_a_script_would_be_noticed(browser: Browser, tmp_path: Path) -> None:
    bad = "<meta charset=utf-8><title>x</title><script>document.title='owned'; nothing()</script>"
    (tmp_path / "bad.html").write_text(bad, encoding="utf-8")
    browser.open((tmp_path / "bad.html").as_uri())
    assert browser.driver.title == "owned"
    assert browser.complaints()
    browser.asked_for()
