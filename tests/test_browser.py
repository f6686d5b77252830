"""The page in a real browser: alive, alone, readable on a phone. The distribution's Chromium, driven by Playwright."""

import shutil
import subprocess
from pathlib import Path

import pytest

from bilevelbench.report import page as pages
from bilevelbench.report import parts
from tests.results_factory import write_run

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), ""
)
pytestmark = [
    pytest.mark.xdist_group("browser"),  # one process makes what the module's tests share
    pytest.mark.skipif(not CHROMIUM, reason="there is no Chromium on this machine"),
]
SOLVERS = (
    "bome",
    "itd",
    "aid_cg",
    "penalty",
    "soba",
    "vpbgd",
    "f2sa",
    "bvfsm",
    "meha",
    "darts",
    "es",
    "a_very_long_name" * 18,
)
NASTY = "<img src=x onerror=alert(1)>$x_1^2${{7*7}}\u202e"
OVERLAPS = """() => [...document.querySelectorAll("td, th")].filter((cell) => cell.offsetParent
    && cell.scrollWidth > cell.clientWidth + 1 && getComputedStyle(cell).overflow === "visible")
    .map((cell) => cell.textContent)"""


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    folder = tmp_path_factory.mktemp("results")
    for problem in ("quadratic", "toy"):
        for k, solver in enumerate((*SOLVERS, NASTY)):
            for seed in (0, 1, 2):
                gaps = [(0.5 + 0.03 * k) ** step * (1 + 0.1 * seed) for step in range(8)]
                failed = (
                    {"status": "error", "reason": NASTY, "traceback": f"{NASTY}\nlast"}
                    if solver == "bome" and seed == 2
                    else {}
                )
                write_run(
                    folder,
                    problem,
                    solver,
                    seed,
                    gaps,
                    extra={"f": 2.0, "gap": 0.1},
                    order=1 + k % 2,
                    kind="d2g" if k % 2 else "dg_y",
                    **failed,
                )
    return pages.write(folder, tmp_path_factory.mktemp("out")).path


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture
def tab(browser, report):
    """A tab that fails the test where the page asks for anything, or the console has an error."""
    wrong = []
    made = browser.new_page(viewport={"width": 1400, "height": 900}, reduced_motion="reduce")
    made.set_default_timeout(10_000)
    made.on(
        "request", lambda request: wrong.append(request.url) if request.url.split("#")[0] != report.as_uri() else None
    )
    made.on("console", lambda message: wrong.append(message.text) if message.type in ("error", "warning") else None)
    made.on("pageerror", lambda error: wrong.append(str(error)))
    made.on("dialog", lambda dialog: wrong.append("a label has opened a dialog"))
    yield made
    made.close()
    assert wrong == []


def until(tab, expression):
    """Wait for it; Playwright's own wait evaluates strings in the page, which its policy rightly forbids."""
    for _ in range(200):
        if tab.evaluate(expression):
            return
        tab.wait_for_timeout(50)
    raise AssertionError(f"not within ten seconds: {expression}")


def visit(tab, report, view=""):
    tab.goto(report.as_uri() + view)
    until(tab, "document.querySelector('#explore .said').textContent !== ''")


def plot(tab):
    """Where the explorer's panel is."""
    tab.locator(".u-over").scroll_into_view_if_needed()
    return tab.evaluate("document.querySelector('.u-over').getBoundingClientRect().toJSON()")


def column(tab, place):
    return tab.eval_on_selector_all(
        "table.sorts >> nth=0 >> tbody tr", f"rows => rows.map(r => r.cells[{place}].innerText)"
    )


def test_tables_sort_and_filter_and_the_address_keeps_it(tab, report):
    visit(tab, report)
    order = column(tab, 0)
    tab.locator("table.sorts >> nth=0").get_by_role("button", name="solver").click()
    assert column(tab, 0) == sorted(order, key=str.lower)
    tab.locator("#filter select[name=order]").select_option("second order")
    shown = tab.locator("table.sorts >> nth=0 >> tbody tr:visible")
    assert shown.count() == 6
    assert {row.split("\t")[1].strip() for row in shown.all_inner_texts()} == {"second order"}
    address = tab.url
    assert "order=second" in address
    visit(tab, report, address[address.index("#") :])
    assert shown.count() == 6
    assert column(tab, 0) == sorted(order, key=str.lower)


def test_the_explorer_draws_what_is_chosen(tab, report):
    visit(tab, report, "#explore?p=toy&y=gap&x=4&v=seeds")
    assert tab.locator("#explore .said").inner_text() == "toy: gap against outer steps, 13 solvers, 10 coloured."
    assert tab.locator(".legend button[aria-pressed=true]").count() == 10
    tab.locator(".legend").get_by_role("button", name="bome", exact=True).click()
    assert "9 coloured" in tab.locator("#explore .said").inner_text()
    assert "bome" not in tab.locator("#explore .command").inner_text()
    tab.locator("#explore select[name=y]").select_option("phi_gap")
    box = plot(tab)
    tab.mouse.move(box["left"] + 100, box["top"] + 100)
    tab.mouse.down()
    tab.mouse.move(box["left"] + 300, box["top"] + 250, steps=5)  # the plot follows frame by frame
    until(tab, "document.querySelector('#explore .u-select').offsetWidth > 50")
    tab.mouse.up()
    until(tab, "location.hash.includes('zoom=')")
    assert {"p=toy", "y=phi_gap", "x=4"} <= set(tab.url.split("?")[1].split("&"))


def test_values_are_told_where_the_cursor_rests(tab, report):
    visit(tab, report, "#explore?p=quadratic&s=itd")
    box = plot(tab)
    for share in (0.2, 0.4, 0.6, 0.8, 0.99):
        for up in (0.1, 0.3, 0.5, 0.7, 0.9):
            tab.mouse.move(box["left"] + share * box["width"], box["top"] + up * box["height"])
            if tab.locator(".tip").is_visible():
                said = tab.locator(".tip").inner_text()
                assert "phi_gap" in said
                assert "oracle calls" in said
                return
    raise AssertionError("no value was told")


def test_a_run_opens_to_what_it_was(tab, report):
    visit(tab, report)
    tab.locator("td[data-status=failed]:visible").filter(has_text="2 of 6").first.click()
    tab.wait_for_selector("#all-runs tr[data-of]")
    rows = tab.locator("#all-runs tr[data-of]")
    assert rows.count() == 2
    assert all("error" in text for text in rows.all_inner_texts())
    rows.first.click()
    dialog = tab.locator("dialog#run")
    assert dialog.is_visible()
    said = dialog.inner_text()
    for words in ("bome on", "seed 2", "traceback", "last", "whose fault", NASTY.replace("\u202e", "\ufffd")):
        assert words in said
    assert dialog.locator("table").nth(1).locator("tbody tr").count() == 8
    address = tab.url
    visit(tab, report, address[address.index("#") :])
    assert dialog.is_visible(), "a link opens the run"
    tab.keyboard.press("Escape")
    until(tab, "!location.href.includes('run=')")  # the dialog says that it has closed when the keys are done


@pytest.mark.parametrize("width", [400, 1400])
def test_nothing_overlaps(tab, report, width):
    tab.set_viewport_size({"width": width, "height": 900})
    visit(tab, report)
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    assert tab.evaluate(OVERLAPS) == []


def test_cells_that_overlap_are_found(tab, report):
    tab.set_viewport_size({"width": 400, "height": 900})
    visit(tab, report)
    tab.add_style_tag(content="table { table-layout: fixed; width: 100% } td, th { min-width: 0 !important }")
    assert len(tab.evaluate(OVERLAPS)) > 3


def test_of_many_runs_the_rows_come_when_they_are_asked_for(browser, tmp_path, monkeypatch):
    monkeypatch.setattr(parts, "MOST_RUNS", 3)
    for seed in range(4):
        write_run(tmp_path / "results", seed=seed)
    path = pages.write(tmp_path / "results", tmp_path / "out").path
    tab, asked, wrong = browser.new_page(reduced_motion="reduce"), [], []
    tab.on("request", lambda request: asked.append(request.url.rpartition("/")[2].partition("#")[0]))
    tab.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
    visit(tab, path)
    tab.locator("#explore").scroll_into_view_if_needed()
    assert "rows-quadratic.js" not in asked
    tab.locator("#explore select[name=v]").select_option("seeds")
    until(tab, "bilevelbench.get('v') === 'seeds'")
    tab.locator("#runs").scroll_into_view_if_needed()
    tab.wait_for_selector("#all-runs tr[data-of]")
    assert set(asked) == {"index.html", "rows-quadratic.js", "runs.js"}
    tab.locator("#all-runs tr[data-of]").first.click()
    assert "looks" in tab.locator("dialog#run").inner_text()
    (path.parent / "data" / "rows-quadratic.js").unlink()
    visit(tab, path)
    tab.locator("#explore select[name=v]").select_option("seeds")
    until(tab, "document.querySelector('#explore .said').textContent.includes('is not beside this page')")
    assert [text for text in wrong if "ERR_FILE_NOT_FOUND" not in text] == []
    tab.close()


def test_without_script_figures_and_tables_are_there(browser, report):
    context = browser.new_context(java_script_enabled=False, viewport={"width": 1000, "height": 800})
    still = context.new_page()
    still.goto(report.as_uri())
    assert still.locator("figure svg").first.is_visible()
    assert still.locator("table.sorts").first.is_visible()
    assert not still.locator("#explore").is_visible()
    context.close()


@pytest.mark.browser(sibling="test_nothing_overlaps")
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [400, 800, 1400, 2500])
def test_nothing_overlaps_on_any_screen(browser, report, width, scheme):
    tab = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    visit(tab, report)
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    assert tab.evaluate(OVERLAPS) == []
    tab.close()


@pytest.mark.browser(sibling="test_without_script_figures_and_tables_are_there")
@pytest.mark.skipif(not shutil.which("pdffonts"), reason="there is no pdffonts on this machine")
def test_it_prints(tab, report, tmp_path):
    visit(tab, report)
    tab.pdf(path=tmp_path / "page.pdf", format="A4")
    assert fonts(tmp_path / "page.pdf")
    assert all(embedded for _, _, embedded in fonts(tmp_path / "page.pdf"))


@pytest.mark.skipif(not shutil.which("pdffonts"), reason="there is no pdffonts on this machine")
def test_every_figure_embeds_its_fonts(report):
    for figure in sorted((report.parent / "figures").glob("*.pdf"))[:6]:
        assert fonts(figure)
        assert all(embedded and "Type 3" not in kind for _, kind, embedded in fonts(figure)), figure


def fonts(path: Path):
    """Name, kind and whether it is embedded, of every font of a PDF."""
    told = subprocess.run(["pdffonts", str(path)], capture_output=True, text=True, check=True).stdout.splitlines()
    rule = told[1].split(" ")
    ends = [sum(map(len, rule[: k + 1])) + k for k in range(len(rule))]
    return [
        (line[: ends[0]].strip(), line[ends[0] : ends[1]].strip(), line[ends[2] : ends[3]].strip() == "yes")
        for line in told[2:]
    ]


@pytest.mark.browser(sibling="test_nothing_overlaps")
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("view", ["", "#runs?rs=bome&rt=failed"])
def test_nothing_stands_in_the_way_of_a_reader(browser, report, scheme, view):
    """axe-core 4.14 (MPL 2.0, see vendor) finds nothing serious; it is handed over past the page's policy."""
    tab = browser.new_page(viewport={"width": 1400, "height": 900}, color_scheme=scheme, reduced_motion="reduce")
    visit(tab, report, view)
    tab.evaluate((Path(__file__).parent / "vendor" / "axe.min.js").read_text(encoding="utf-8"))
    found = tab.evaluate("axe.run().then(r => r.violations.map(v => [v.impact, v.id, v.nodes[0].html]))")
    assert [one for one in found if one[0] in ("serious", "critical")] == []
    tab.close()
