"""The catalogue in a browser: Debian's Chromium, without a display, on a screen and a telephone."""

import base64
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.select import Select
from selenium.webdriver.support.wait import WebDriverWait

from tests.catalogue.made_up import HELD, PENDING, PREFIX, REFUSED, RETIRED
from tests.example_images import example

SCREEN, TELEPHONE = 1280, 390
IMAGE = example("scikit-learn").name
PAGES = (
    "index.html",
    f"images/{IMAGE}.html",
    f"images/{HELD}.html",
    f"images/{PENDING}.html",
    f"images/{RETIRED}.html",
    f"images/{REFUSED}.html",
    "maintainers.html",
    "404.html",
)


@contextmanager
def started(
    programs: tuple[str, str], profile: Path, *, scripts: bool
) -> Iterator[webdriver.Chrome]:
    """A browser with a profile of its own, with scripts or without."""
    options = webdriver.ChromeOptions()
    options.binary_location = programs[0]
    for argument in ("--headless=new", "--disable-dev-shm-usage", f"--user-data-dir={profile}"):
        options.add_argument(argument)
    if os.geteuid() == 0:
        # Chromium has no sandbox for root.
        options.add_argument("--no-sandbox")
    # The site is on loopback: no proxy of this host is asked.
    options.add_argument("--no-proxy-server")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    if not scripts:
        settings = {"profile.managed_default_content_settings.javascript": 2}
        options.add_experimental_option("prefs", settings)
    browser = webdriver.Chrome(options=options, service=Service(programs[1]))
    try:
        yield browser
    finally:
        browser.quit()


@pytest.fixture(scope="module")
def chromium(
    browser_programs: tuple[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[webdriver.Chrome]:
    """The browser that most tests share."""
    with started(browser_programs, tmp_path_factory.mktemp("profile"), scripts=True) as browser:
        yield browser


@pytest.fixture
def browser(chromium: webdriver.Chrome, site: str) -> Iterator[webdriver.Chrome]:
    """The same, which is on a screen at first; whatever a test does, the console is without an
    error."""
    origin = site.removesuffix("/site/")
    granted = {"permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"], "origin": origin}
    chromium.execute_cdp_cmd("Browser.grantPermissions", granted)
    resize(chromium, SCREEN)
    paint(chromium, "light")
    chromium.get_log("browser")  # type: ignore[no-untyped-call]  # Selenium's.
    yield chromium
    log = chromium.get_log("browser")  # type: ignore[no-untyped-call]  # Selenium's.
    assert not log


def resize(browser: webdriver.Chrome, width: int) -> None:
    """Gives the page this width, on a telephone if it is narrow."""
    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)


def paint(browser: webdriver.Chrome, scheme: str) -> None:
    """Chooses the light or the dark scheme."""
    feature = {"name": "prefers-color-scheme", "value": scheme}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})


def take(browser: webdriver.Chrome, file: Path) -> None:
    """Writes a picture of the whole page."""
    size = browser.execute_script(
        "const e = document.documentElement; return [e.clientWidth, e.scrollHeight]"
    )
    clip = {"x": 0, "y": 0, "width": size[0], "height": size[1], "scale": 1}
    asked = {"format": "png", "captureBeyondViewport": True, "clip": clip}
    picture = browser.execute_cdp_cmd("Page.captureScreenshot", asked)
    file.write_bytes(base64.b64decode(picture["data"]))


def shown(browser: webdriver.Chrome, selector: str) -> list[WebElement]:
    """The elements that are displayed."""
    found = browser.find_elements(By.CSS_SELECTOR, selector)
    return [element for element in found if element.is_displayed()]


def wait(browser: webdriver.Chrome, until: Callable[[webdriver.Chrome], object]) -> None:
    """Waits until something is true."""
    WebDriverWait(browser, 10).until(until)


@pytest.mark.parametrize("path", PAGES)
def test_pages_fit_the_screen_and_a_telephone(
    browser: webdriver.Chrome, site: str, screenshots: Path, path: str
) -> None:
    browser.get(site + path)
    name = path.removesuffix(".html").replace("/", "-")
    for scheme in ("light", "dark"):
        paint(browser, scheme)
        for width in (SCREEN, TELEPHONE):
            resize(browser, width)
            file = screenshots / f"{name}-{width}-{scheme}.png"
            take(browser, file)
            assert file.read_bytes().startswith(b"\x89PNG")
            # With everything open that can be opened, too.
            script = (
                "document.querySelectorAll('details').forEach((one) => { one.open = true });"
                "return document.documentElement.scrollWidth"
            )
            assert browser.execute_script(script) <= width
            browser.refresh()


def test_search_and_filters(browser: webdriver.Chrome, site: str) -> None:
    browser.get(f"{site}index.html")
    count = browser.find_element(By.ID, "count")
    everything = len(browser.find_elements(By.CSS_SELECTOR, "[data-card]"))
    assert count.text == f"{everything} images"

    search = browser.find_element(By.ID, "q")
    search.send_keys("LightGBM 3.12")
    cards = shown(browser, "[data-card]")
    assert [card.get_attribute("data-framework") for card in cards] == ["lightgbm"]
    assert count.text == f"1 of {everything} images"
    assert "q=LightGBM" in browser.current_url

    search.clear()
    search.send_keys("no such image")
    assert not shown(browser, "[data-card]")
    assert browser.find_element(By.ID, "empty").is_displayed()

    browser.find_element(By.CSS_SELECTOR, "#filters [type=reset]").click()
    wait(browser, lambda _: count.text == f"{everything} images")

    # Retired images come out when they are asked for.
    Select(browser.find_element(By.ID, "f-framework")).select_by_visible_text("scikit-learn")
    Select(browser.find_element(By.ID, "f-track")).select_by_visible_text("Historical")
    (card,) = shown(browser, "[data-card]")
    assert RETIRED in card.text

    # An address with filters can be shared.
    address = browser.current_url
    browser.get("about:blank")
    browser.get(address)
    (card,) = shown(browser, "[data-card]")
    assert RETIRED in card.text
    assert Select(browser.find_element(By.ID, "f-track")).first_selected_option.text == "Historical"


def test_filters_of_addresses_that_mean_nothing(browser: webdriver.Chrome, site: str) -> None:
    browser.get(f"{site}index.html?length=1&framework=none&q=%3Cscript%3E")
    assert browser.find_element(By.ID, "q").get_property("value") == "<script>"
    assert not shown(browser, "[data-card]")


@pytest.mark.parametrize("width", [SCREEN, TELEPHONE])
def test_copy_button(browser: webdriver.Chrome, site: str, width: int) -> None:
    resize(browser, width)
    browser.get(f"{site}images/{IMAGE}.html")
    button = browser.find_element(By.CSS_SELECTOR, "#pull ~ .command .copy")
    assert button.accessible_name == "Copy: pull by tag"
    button.click()
    said = browser.find_element(By.ID, "said")
    wait(browser, lambda _: said.get_property("textContent") == "Copied to the clipboard")
    text = browser.execute_async_script("navigator.clipboard.readText().then(arguments[0])")
    assert text == f"docker pull {PREFIX}/{IMAGE}:latest"


def test_tags_open_and_have_addresses(browser: webdriver.Chrome, site: str) -> None:
    browser.get(f"{site}images/{IMAGE}.html")
    tag = browser.find_element(By.ID, "tag-20261029.v1")
    assert not tag.get_property("open")
    tag.find_element(By.TAG_NAME, "summary").click()
    assert tag.get_property("open")
    assert "CVE-2026-40117" in tag.text
    # The feed leads to one.
    browser.get("about:blank")
    browser.get(f"{site}images/{IMAGE}.html#tag-20261012.v1")
    assert browser.find_element(By.ID, "tag-20261012.v1").get_property("open")


def test_keyboard_reaches_the_content_first(browser: webdriver.Chrome, site: str) -> None:
    browser.get(f"{site}index.html")
    browser.find_element(By.TAG_NAME, "body").send_keys(Keys.TAB)
    link = browser.switch_to.active_element
    assert link.text == "Skip to the content"
    link.send_keys(Keys.ENTER)
    assert browser.switch_to.active_element.get_attribute("id") == "main"


def test_pages_work_from_the_disk(browser: webdriver.Chrome, catalogue: Path) -> None:
    browser.get((catalogue / "index.html").as_uri())
    browser.find_element(By.ID, "q").send_keys("lightgbm")
    (card,) = shown(browser, "[data-card]")
    card.find_element(By.TAG_NAME, "a").click()
    assert browser.current_url == (catalogue / f"images/{HELD}.html").as_uri()
    # The style sheet is there.
    assert (
        browser.find_element(By.CSS_SELECTOR, ".badge").value_of_css_property("border-radius")
        != "0px"
    )


def test_pages_work_without_scripts(
    browser_programs: tuple[str, str], site: str, tmp_path: Path, screenshots: Path
) -> None:
    with started(browser_programs, tmp_path, scripts=False) as browser:
        resize(browser, TELEPHONE)
        browser.get(f"{site}index.html")
        assert not shown(browser, "form, .copy")
        assert len(shown(browser, "[data-card]")) > 10
        take(browser, screenshots / "index-without-scripts.png")
        browser.find_element(By.LINK_TEXT, f"scikit-learn 1.9\n{IMAGE}").click()
        assert browser.current_url == f"{site}images/{IMAGE}.html"
        tag = browser.find_element(By.ID, "tag-20261029.v1")
        tag.find_element(By.TAG_NAME, "summary").click()
        assert "CVE-2026-40117" in tag.text
        assert f"docker pull {PREFIX}/{IMAGE}:latest" in browser.find_element(By.ID, "main").text
        # No log is asked for: without scripts there is none.
