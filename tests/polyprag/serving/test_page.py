"""The page in a browser: what is asked, shown, weighed, refused. Needs chromium and its driver."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from polyprag.serving.keys import key_digest
from tests.polyprag.serving.conftest import MakeServer, Serving

selenium = pytest.importorskip("selenium")
from selenium import webdriver  # noqa: E402
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402
from selenium.webdriver.support.wait import WebDriverWait  # noqa: E402

BROWSER, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
ASKED = "Where was Anna Smith born?"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (BROWSER and DRIVER), reason="needs chromium and chromedriver"),
]


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    options = webdriver.ChromeOptions()
    options.binary_location = str(BROWSER)
    profile = tmp_path_factory.mktemp("profile")
    for flag in (
        "headless=new",
        "no-sandbox",
        "disable-gpu",
        "disable-quic",
        "no-first-run",
        "disable-background-networking",
        "disable-component-update",
        "disable-sync",
        f"user-data-dir={profile}",
    ):
        options.add_argument(f"--{flag}")
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(str(DRIVER)))
    yield driver
    driver.quit()


def until(browser: webdriver.Chrome, holds: Callable[[], object]) -> None:
    WebDriverWait(browser, 60).until(lambda _: holds())


def answers(browser: webdriver.Chrome) -> dict[str, str]:
    cards = browser.find_elements(By.CSS_SELECTOR, "article")
    return {
        str(each.get_attribute("data-mode")): each.find_element(By.CSS_SELECTOR, ".text").text
        for each in cards
    }


def busy(browser: webdriver.Chrome) -> bool:
    return bool(browser.find_elements(By.CSS_SELECTOR, "article.busy"))


def ask(browser: webdriver.Chrome, text: str = ASKED) -> None:
    box = browser.find_element(By.ID, "question")
    box.clear()
    box.send_keys(text, Keys.ENTER)
    until(browser, lambda: len(answers(browser)) and not busy(browser))


def logged(browser: webdriver.Chrome) -> list[str]:
    return [str(each["message"]) for each in browser.get_log("browser")]


def test_answers_stand_side_by_side_with_their_passages(
    browser: webdriver.Chrome, serving: Serving
) -> None:
    browser.get(serving.url)
    until(browser, lambda: browser.find_elements(By.CSS_SELECTOR, "#modes input"))
    assert browser.title == browser.find_element(By.ID, "name").text == "wiki"
    ask(browser)
    said = answers(browser)
    assert list(said) == ["closed", "rag", "poly", "combine"]
    for mode, text in said.items():
        expected = serving.engine.ask(ASKED, mode=mode)
        # What can't be printed is drawn as something else; letters stand as they are.
        assert [c for c in text if c.isalnum()] == [c for c in expected.text if c.isalnum()]
        card = browser.find_element(By.CSS_SELECTOR, f"article[data-mode={mode}]")
        assert ("doubtful" in str(card.get_attribute("class"))) == (expected.trusted is False)
        if expected.reason is not None:
            assert expected.reason in card.text
    hits = serving.engine.ask(ASKED).hits
    assert hits is not None
    shown = browser.find_elements(By.CSS_SELECTOR, "#passages li")
    assert [each.find_element(By.CSS_SELECTOR, "h3").text for each in shown] == [
        passage.title for passage in hits.passages
    ]
    script = "return [...document.querySelectorAll('canvas')].map(c => [c.width, c.height])"
    pool = serving.engine.loaded.pool
    assert pool is not None
    assert browser.execute_script(script) == [[pool.num_experts, pool.num_sites]] * len(shown)
    pixels = (
        "const c = document.querySelector('canvas');"
        "return new Set(c.getContext('2d').getImageData(0, 0, c.width, c.height).data).size"
    )
    assert browser.execute_script(pixels) > 10  # it is drawn
    assert logged(browser) == []


def test_a_slider_changes_what_the_weights_answer(
    browser: webdriver.Chrome, serving: Serving
) -> None:
    browser.get(serving.url)
    until(browser, lambda: browser.find_elements(By.CSS_SELECTOR, "#modes input"))
    ask(browser)
    before = answers(browser)
    slider, *others = browser.find_elements(By.CSS_SELECTOR, "#passages input")
    slider.send_keys(Keys.HOME)  # -1
    until(browser, lambda: answers(browser)["poly"] != before["poly"] and not busy(browser))
    hits = serving.engine.ask(ASKED).hits
    assert hits is not None
    weights = [-1.0, *(float(str(each.get_attribute("value"))) for each in others)]
    mixture = dict(zip([each.key for each in hits.passages], weights, strict=True))
    expected = serving.engine.ask(ASKED, mixture=mixture).text
    after = answers(browser)
    assert [c for c in after["poly"] if c.isalnum()] == [c for c in expected if c.isalnum()]
    assert (after["closed"], after["rag"]) == (before["closed"], before["rag"])
    browser.find_element(By.ID, "reset").click()
    until(browser, lambda: answers(browser) == before and not busy(browser))


def test_a_key_is_asked_for_and_kept_while_the_page_is_open(
    browser: webdriver.Chrome, make_server: MakeServer
) -> None:
    server = make_server(key_digests=[key_digest(b"secret")])
    browser.get(server.url)
    box = browser.find_element(By.ID, "key")
    until(browser, box.is_displayed)
    box.send_keys("secret")
    browser.find_element(By.ID, "keep").click()
    until(browser, lambda: not box.is_displayed())
    ask(browser)
    assert len(answers(browser)) == 4
    browser.get_log("browser")  # of the 401


def test_what_is_wrong_is_told(browser: webdriver.Chrome, serving: Serving) -> None:
    browser.get(serving.url)
    until(browser, lambda: browser.find_elements(By.CSS_SELECTOR, "#modes input"))
    ask(browser, "long " * 200)
    failure = browser.find_element(By.ID, "failure")
    until(browser, failure.is_displayed)
    assert "window" in failure.text
    browser.get_log("browser")


def test_it_fits_a_narrow_screen_and_has_a_dark_dress(
    browser: webdriver.Chrome, serving: Serving, tmp_path: Path
) -> None:
    emulate = "Emulation.setDeviceMetricsOverride"
    size = {"width": 360, "height": 800, "deviceScaleFactor": 1, "mobile": True}
    browser.execute_cdp_cmd(emulate, size)
    browser.get(serving.url)
    until(browser, lambda: browser.find_elements(By.CSS_SELECTOR, "#modes input"))
    ask(browser)
    wide = "return document.documentElement.scrollWidth > document.documentElement.clientWidth"
    assert not browser.execute_script(wide)
    back = "return getComputedStyle(document.body).backgroundColor"
    colours = []
    for dress in ("light", "dark"):
        features = [{"name": "prefers-color-scheme", "value": dress}]
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        colours.append(browser.execute_script(back))
    assert colours == ["rgb(251, 250, 248)", "rgb(21, 24, 28)"]
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
