"""The page in a browser: what is clicked and typed works, nothing is loaded, and no text of a record runs."""

import shutil
from itertools import pairwise

import pytest

from opd_bench.reporting import plots
from opd_bench.reporting.page import page
from tests.results import content, found, results

api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(BROWSER is None, reason="no chromium, chromium-browser or google-chrome is installed")

QUIET = ("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update")
QUIET += ("--disable-sync", "--no-first-run")
EVIL = "<script>window.pwned = 1</script><img src=x onerror=window.pwned=1>"
LONG = "a_very_long_method_name_that_goes_on" * 3
METHODS = ".methods > tr:not([hidden]) .name"
UNNAMED = """() => [...document.querySelectorAll("img, svg, button, input, a, summary, [role=region], table, nav")]
  .filter((one) => !one.closest("[aria-hidden=true]")).filter((one) => {
    const ids = (one.getAttribute("aria-labelledby") || "").split(" ").filter(Boolean);
    const labelled = ids.map((id) => document.getElementById(id)?.textContent).join("");
    const own = one.matches("table") ? one.caption?.textContent : one.matches("svg") ? "" : one.textContent;
    const label = [...(one.labels || [])].map((each) => each.textContent).join("");
    return !(one.getAttribute("aria-label") || labelled || label || own || "").trim();
  }).map((one) => one.outerHTML.slice(0, 200))"""
HEADINGS = """() => [...document.querySelectorAll("h1, h2, h3, h4, h5")].map((one) => Number(one.tagName[1]))"""


@pytest.fixture(scope="module")
def chromium():
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=QUIET)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """Ranked, few, known-wrong and failed rows, of which one is hostile, under two protocols."""
    folder = tmp_path_factory.mktemp("page")
    solved = {"opd": 0.5, "vopd": 0.7, "gkd": 0.9}
    runs = [content(name, seed, mean + seed / 100) for name, mean in solved.items() for seed in range(5)]
    wrong = {"warning": "its mean is 0"}
    runs += [content("k1_direct", seed, 0.1, method=wrong, training={"gradient": {}}) for seed in range(5)]
    evil = {"name": f"evil{EVIL}", "title": EVIL, "formula": EVIL}
    runs += [content(method=evil, solved=0.3), content(method=evil, seed=1, status="crash", reason=EVIL)]
    runs += [content(LONG, seed, 0.2, protocol={"name": "sums-hard", "digest": "f"}) for seed in range(5)]
    results(folder, *runs, wrote=EVIL)
    (folder / "report.html").write_text(page(found(folder), [], plots))
    return (folder / "report.html").as_uri()


@pytest.fixture
def opened(chromium, address):
    """The page; at the end nothing may have been loaded, said or run that should not."""
    view = chromium.new_page(viewport={"width": 1400, "height": 900}, color_scheme="light", reduced_motion="reduce")
    view.set_default_timeout(3000)
    asked, said = [], []
    view.on("request", lambda request: asked.append(request.url))
    view.on("console", lambda message: said.append(message.text))
    view.on("pageerror", lambda error: said.append(str(error)))
    view.goto(address)
    yield view
    assert said == []
    assert {url for url in asked if not url.startswith("data:")} == {address}
    assert view.evaluate("window.pwned") is None
    view.close()


def board(view):
    return view.locator(".board").filter(has_text="k1_direct")


def names(view):
    return [name.split("<")[0] for name in board(view).locator(METHODS).all_inner_texts()]


def sort(view, name):
    return board(view).get_by_role("button", name=name, exact=True)


# ---------------------------------------------------------------- the table


def test_a_click_sorts_and_another_turns_it_round_and_the_untrained_stay_below(opened):
    assert names(opened) == ["gkd", "vopd", "opd", "evil", "k1_direct"]
    sort(opened, "solved %").click()
    assert names(opened) == ["gkd", "vopd", "opd", "evil", "k1_direct"]
    assert board(opened).locator("th[aria-sort=descending]").inner_text().startswith("solved")
    sort(opened, "solved %").click()
    assert names(opened) == ["k1_direct", "evil", "opd", "vopd", "gkd"]
    sort(opened, "method").click()
    assert names(opened) == ["evil", "gkd", "k1_direct", "opd", "vopd"]
    assert board(opened).locator("[aria-sort]").count() == 1
    assert board(opened).locator("tbody").last.locator("th").all_inner_texts() == ["untrained student", "teacher"]


def test_what_is_missing_comes_last_in_both_directions(opened):
    for _ in range(2):
        sort(opened, "rel. variance").click()
        assert names(opened)[-1] == "k1_direct"


def test_the_keyboard_sorts_filters_and_shows_columns(opened):
    sort(opened, "solved %").focus()
    opened.keyboard.press("Enter")
    opened.keyboard.press("Space")
    assert names(opened)[0] == "k1_direct"
    board(opened).get_by_label("Find a method").focus()
    opened.keyboard.type("OPD")
    assert names(opened) == ["opd", "vopd"]
    board(opened).get_by_label("gradients", exact=True).focus()
    opened.keyboard.press("Space")
    assert sort(opened, "noise scale").is_visible()
    opened.keyboard.press("Space")
    assert not sort(opened, "noise scale").is_visible()


def test_filters_go_together_and_say_how_many_are_left(opened):
    count = board(opened).get_by_role("status")
    assert count.inner_text() == "5 methods"
    board(opened).get_by_label("hide known-wrong").check()
    assert names(opened) == ["gkd", "vopd", "opd", "evil"]
    board(opened).get_by_label("ranked only").check()
    assert names(opened) == ["gkd", "vopd", "opd"]
    board(opened).get_by_label("Find a method").fill("no such thing")
    assert (names(opened), count.inner_text()) == ([], "0 of 5 methods")


@pytest.mark.parametrize("group", ["results", "gradients", "health", "cost", "provenance"])
def test_each_group_of_columns_is_shown_when_it_is_asked_for(opened, group):
    heads = board(opened).locator("thead th:visible")
    before = heads.count()
    board(opened).get_by_label(group, exact=True).check()
    assert heads.count() >= before + 3
    assert board(opened).locator("tbody tr").first.locator("> :visible").count() == heads.count()


# ---------------------------------------------------------------- sections, themes, widths


def test_a_name_in_the_table_leads_to_its_section_which_opens(opened):
    board(opened).get_by_role("link", name="vopd").click()
    section = opened.locator("details[open]")
    assert section.locator("h4").inner_text() == "vopd"
    assert section.locator("summary").first.evaluate("one => one === document.activeElement")
    assert section.get_by_text("What its student wrote").is_visible()
    opened.reload()
    assert opened.locator("details[open] h4").inner_text() == "vopd"


def test_hostile_text_is_text(opened):
    board(opened).get_by_role("link", name="evil").click()
    for words in (f"evil{EVIL}", f"crash: {EVIL}"):
        assert opened.get_by_text(words).count() >= 1
    assert opened.locator("details[open] .wrote").last.inner_text() == EVIL
    assert opened.evaluate("document.scripts.length") == 1
    assert opened.evaluate("document.images.length") == 0


def test_a_script_that_came_in_would_not_run(chromium, address):
    view = chromium.new_page()
    view.goto(address)
    code = (
        "const one = document.createElement('script'); one.textContent = 'window.pwned = 1'; document.body.append(one)"
    )
    view.evaluate(f"() => {{ {code} }}")
    assert view.evaluate("window.pwned") is None
    view.close()


def test_the_theme_is_the_system_s_until_the_button_says_otherwise(opened):
    ground = "getComputedStyle(document.body).backgroundColor"
    light = opened.evaluate(ground)
    opened.emulate_media(color_scheme="dark")
    dark = opened.evaluate(ground)
    assert dark != light
    opened.get_by_role("button", name="Light theme").click()
    assert opened.evaluate(ground) == light
    opened.get_by_role("button", name="Dark theme").click()
    assert opened.evaluate(ground) == dark


@pytest.mark.parametrize("width", [320, 390])
def test_on_a_phone_only_the_table_scrolls_sideways_and_the_names_stay(opened, width):
    opened.set_viewport_size({"width": width, "height": 844})
    for group in board(opened).locator(".groups input").all():
        group.check()
    opened.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    assert opened.evaluate("document.documentElement.scrollWidth") <= width
    region = board(opened).get_by_role("region")
    region.evaluate("one => { one.scrollLeft = 600; }")
    assert region.evaluate("one => one.scrollLeft") == 600
    name = board(opened).get_by_role("link", name="gkd").bounding_box()
    assert 0 <= name["x"] < 60


# ---------------------------------------------------------------- for everybody


def test_tab_goes_from_the_skip_link_through_every_control_in_order(opened):
    reached = []
    for _ in range(26):
        opened.keyboard.press("Tab")
        reached.append(opened.evaluate("document.activeElement.textContent.trim() || document.activeElement.className"))
    wanted = ["Skip to the tables", "Dark theme", "find", "only-ranked", "not-wrong", "show-results"]
    wanted += ["show-provenance", "solved %", "time a run", "gkd"]
    places = [next(place for place, one in enumerate(reached) if one == name) for name in wanted]
    assert places == sorted(places)
    assert opened.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none"


def test_everything_has_a_name_and_headings_skip_no_level(opened):
    assert opened.evaluate(UNNAMED) == []
    levels = opened.evaluate(HEADINGS)
    assert levels.count(1) == 1
    assert levels[0] == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    for landmark in ("banner", "navigation", "main", "contentinfo"):
        assert opened.get_by_role(landmark).count() == 1
