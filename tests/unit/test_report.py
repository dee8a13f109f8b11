"""Reports, plots and the live view: what is in them is right, whatever people and items are called."""

from __future__ import annotations

import dataclasses
import math
import re
import warnings
from collections import deque
from html.parser import HTMLParser

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from voxpop.cli import plots
from voxpop.cli.live import LiveView, Snapshot, pace
from voxpop.cli.output import Output
from voxpop.cli.report import Happening, JobReport, render_report, write_report
from voxpop.cli.scores import (
    CountedAnswer,
    ItemLabel,
    fit_methods,
    printable,
    score,
    score_labels,
    votes_of,
    wilson,
    worker_rows,
)
from voxpop.simulator.recorded import bluebirds

VOID = {"meta", "br", "hr", "img", "input", "link"}
HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "$x^2$ & $",
    "\x00\x1b[31m",
    "\u202egnp.exe",
    "鳥\ud800",
    "a" * 300,
]


class Page(HTMLParser):
    """Reads a page as strictly as a parser for people's HTML can: every tag that opens must close, in order."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.open, self.tags, self.attributes, self.ids, self.words = [], [], [], [], []
        self.feed(text)
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]
        self.ids += [value for name, value in attrs if name == "id"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open, f"</{tag}> closes nothing"
        assert self.open[-1] == tag, f"</{tag}> closes <{self.open[-1]}>"
        self.open.pop()

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("style", "script"):
            self.words.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())


def answers_of(names=None, people=None, count=5):
    """Five recorded answers to each of the first items, times made up."""
    crowd = bluebirds()
    made = []
    for item, name in enumerate(crowd.items):
        for place in range(count):
            worker = crowd.workers[(item * 7 + place * 5) % len(crowd.workers)]
            made.append(
                CountedAnswer(
                    (names or {}).get(name, name),
                    (people or {}).get(worker, worker),
                    crowd.answer(worker, item).content["label"],
                    at_seconds=len(made) * 0.04,
                    seconds=0.5 + place,
                )
            )
    return made, crowd.gold


def report_of(answers, gold, **changes):
    result = fit_methods(votes_of(answers))["dawid_skene"]
    labels = [
        ItemLabel(item, label, confidence)
        for item, label, confidence in zip(
            result.items.tolist(), result.labels.tolist(), result.confidence.tolist(), strict=True
        )
    ]
    base = JobReport(
        title="Labeling job bluebirds",
        lead="A job.",
        created="2026-01-02 03:04 UTC",
        facts=[("items", "108")],
        answers=answers,
        labels=labels,
        wanted=len(answers),
        per_item="5 answers an item",
        gold=gold,
        happenings=[Happening(1.0, "An outsider knocks", 'was told: "not found"', held=True)],
        files=[("out/report.html", "This page.")],
        repeat=[("voxpop demo", "Again.")],
    )
    return dataclasses.replace(base, **changes)


@pytest.fixture(scope="module")
def recorded():
    return answers_of()


@pytest.fixture(scope="module")
def page(recorded):
    return render_report(report_of(*recorded))


def test_a_report_is_well_formed_html_with_ids_that_are_unique(page):
    found = Page(page)
    assert page.startswith("<!doctype html>")
    assert found.tags[0] == "html"
    assert [tag for tag in found.tags if tag in ("h1", "h2")] == ["h1", *["h2"] * 6]
    assert len(found.ids) == len(set(found.ids))


def test_a_report_needs_no_network_and_no_script(page):
    found = Page(page)
    assert "://" not in page
    assert "@import" not in page
    assert not {"script", "link", "iframe", "img", "object"} & set(found.tags)
    for tag, name, value in found.attributes:
        if name.endswith(("href", "src")):
            assert value.startswith("#"), (tag, name, value)
        assert not name.startswith("on"), (tag, name, value)
    for target in re.findall(r"url\(([^)]*)\)", page):
        assert target.startswith("#"), target
        assert target[1:] in found.ids, target


def test_every_drawing_says_what_it_shows_and_every_table_has_a_caption(page):
    found = Page(page)
    drawings = [value for tag, name, value in found.attributes if tag == "svg" and name == "aria-label"]
    assert len(drawings) == found.tags.count("svg") == 5
    assert all(len(told) > 20 for told in drawings)
    assert found.tags.count("caption") == found.tags.count("table")


def test_the_colours_of_drawings_are_those_of_the_page(page):
    """One drawing serves light and dark pages; a colour that is no variable would be unreadable on one of them."""
    drawings = "".join(re.findall(r"<svg.*?</svg>", page, flags=re.DOTALL))
    assert "var(--ink)" in drawings
    assert set(re.findall(r"#[0-9a-f]{6}\b", drawings)) == set()
    style = page[page.index("<style>") : page.index("</style>")]
    for variable in set(re.findall(r"var\((--\w+)\)", drawings)):
        assert style.count(f"{variable}:") == 3, f"{variable}: light, dark and print each define it"


def test_the_figures_of_the_report_are_those_of_an_independent_count(recorded, page):
    answers, gold = recorded
    said = {}
    for answer in answers:
        said.setdefault(answer.item, []).append(answer.label)
    # Five answers of two classes have no ties.
    right = sum(max(set(labels), key=labels.count) == gold[item] for item, labels in said.items())
    assert f"Majority vote 5 answers an item {right / len(said):.1%}" in Page(page).text


def test_the_doubtful_items_are_those_with_the_lowest_confidence_in_order(recorded):
    answers, gold = recorded
    report = report_of(answers, gold)
    text = Page(render_report(report)).text
    text = text[text.index("Items with the lowest confidence") :]
    lowest = sorted(report.labels, key=lambda label: (label.confidence, label.item))
    places = [text.index(f" {label.item} ") for label in lowest[:12]]
    assert places == sorted(places)
    assert f" {lowest[13].item} " not in text[: text.index("Workers, the best")]


def test_a_job_without_gold_has_a_report_that_claims_no_accuracy(recorded):
    text = Page(render_report(report_of(recorded[0], {}))).text
    assert "gold" not in text.lower()
    assert "How good the labels are" not in text
    assert "Workers, the best estimated quality first" in text


def test_a_job_that_nobody_answered_has_a_report(recorded):
    report = report_of(*recorded)
    report = dataclasses.replace(report, answers=[], labels=[ItemLabel("item 7", reason="stopped")], happenings=[])
    text = Page(render_report(report)).text
    assert "item 7 none: stopped" in text
    assert "Where the files are" in text


def test_items_that_failed_come_first_with_their_reason(recorded):
    answers, gold = recorded
    report = report_of(answers, gold)
    labels = [*report.labels[1:], ItemLabel(report.labels[0].item, reason="declined by everybody who was asked")]
    text = Page(render_report(dataclasses.replace(report, labels=labels))).text
    assert f"{report.labels[0].item} none: declined by everybody who was asked" in text


@pytest.mark.parametrize("name", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_names_are_shown_and_never_obeyed(name, tmp_path):
    answers, gold = answers_of(names={"36618": name, "11619": name + "2"}, people={"w1": name, "w2": name + "2"})
    report = report_of(
        answers,
        {**gold, name: "1"},
        title=name,
        lead=name,
        facts=[(name, name)],
        happenings=[Happening(1.0, name, name, held=False)],
        files=[(name, name)],
        repeat=[(name, name)],
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        write_report(report, tmp_path / "report.html")
    found = Page((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert "script" not in found.tags
    assert "img" not in found.tags
    assert not [name for _, name, _ in found.attributes if name.startswith("on")]
    assert "".join(printable(name).split()) in "".join(found.words).replace(" ", "").replace("\n", "")
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


@given(st.text())
def test_printable_text_survives_and_everything_else_is_replaced(text):
    shown = printable(text)
    assert len(shown) == len(text)
    shown.encode("utf-8")
    assert all(b in (a, "\N{REPLACEMENT CHARACTER}") for a, b in zip(text, shown, strict=True))
    assert not any(ord(char) < 32 and char != "\n" for char in shown)


def test_wilson_is_the_interval_of_textbooks():
    assert wilson(0, 0) == pytest.approx((math.nan, math.nan), nan_ok=True)
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)  # Newcombe, Stat. Med. 1998, method 3
    assert wilson(15, 148) == pytest.approx((0.0624, 0.1605), abs=5e-5)
    assert wilson(0, 20) == pytest.approx((0.0, 0.1611), abs=5e-5)
    assert wilson(1, 29) == pytest.approx((0.0061, 0.1718), abs=5e-5)


def test_published_labels_are_scored_as_they_are(recorded):
    gold = {"a": "1", "b": "0", "c": "1", "d": "0"}
    labels = [
        ItemLabel("a", "1", 0.9),
        ItemLabel("b", "1", 0.6),
        ItemLabel("c", reason="declined"),
        ItemLabel("x", "1", 0.5),
    ]
    found = score_labels(labels, gold, "two answers")
    assert (found.n, found.accuracy) == (3, pytest.approx(1 / 3))
    assert found.ece == pytest.approx((0.1 + 0.6) / 2)
    assert math.isnan(found.log_loss)


def test_a_row_a_worker_counts_what_they_did(recorded):
    answers, gold = recorded
    rows = worker_rows(answers, fit_methods(votes_of(answers))["dawid_skene"], gold)
    assert [row.quality for row in rows] == sorted((row.quality for row in rows), reverse=True)
    for row in rows:
        mine = [answer for answer in answers if answer.worker == row.worker]
        assert row.answers == len(mine) == row.gold_answers
        assert row.gold_accuracy == pytest.approx(np.mean([gold[one.item] == one.label for one in mine]))
        assert row.median_seconds == pytest.approx(np.median([one.seconds for one in mine]))


@pytest.mark.parametrize(("suffix", "magic"), [(".png", b"\x89PNG"), (".svg", b"<?xml")])
def test_worker_quality_is_plotted_as_the_suffix_says(recorded, tmp_path, suffix, magic):
    path = tmp_path / "new" / f"workers{suffix}"
    plots.plot_worker_quality(fit_methods(votes_of(recorded[0]))["dawid_skene"], path)
    assert path.read_bytes().startswith(magic)
    if suffix == ".svg":
        assert ">w11<" in path.read_text()


def test_many_workers_and_unknown_ones_are_plotted_without_names(recorded, tmp_path):
    result = fit_methods(votes_of(recorded[0]))["dawid_skene"]
    many = dataclasses.replace(
        result,
        workers=np.array([f"person {i}" for i in range(300)]),
        worker_quality=np.where(np.arange(300) < 3, np.nan, np.linspace(0, 1, 300)),
    )
    plots.plot_worker_quality(many, tmp_path / "many.svg")
    text = (tmp_path / "many.svg").read_text()
    assert "estimated quality of 297 workers (3 unknown, left out)" in text
    assert "person" not in text


def test_another_suffix_is_refused_and_nothing_is_written(recorded, tmp_path):
    with pytest.raises(ValueError, match=r"written as \.png or \.svg, found suffix '\.pdf'"):
        plots.plot_worker_quality(fit_methods(votes_of(recorded[0]))["majority"], tmp_path / "sub" / "workers.pdf")
    assert list(tmp_path.iterdir()) == []


def test_drawings_are_the_same_in_every_run(recorded):
    answers, gold = recorded
    scores = [score(name, result, gold, "5") for name, result in fit_methods(votes_of(answers)).items()]
    one, two = (plots.svg_element(plots.calibration_figure(scores, plots.PAGE), "a", "told").attrib for _ in range(2))
    assert one == two
    assert render_report(report_of(answers, gold)) == render_report(report_of(answers, gold))


# -- the live view -----------------------------------------------------------------------------------------------------


def snapshot(at_seconds, answers, wanted=540, **changes):
    values = {"items": 108, "labeled": answers // 5, "failed": 0, "leases": 3, "lapsed": 0, "declined": 0, "refused": 1}
    return Snapshot(at_seconds=at_seconds, answers=answers, wanted=wanted, **{**values, **changes})


def test_the_pace_is_that_of_the_last_seconds():
    history = deque((second, second * 10 if second < 20 else 200 + (second - 20) * 50) for second in range(31))
    rate, left = pace(history, 1000)
    assert rate == pytest.approx(50)
    assert left == pytest.approx((1000 - 700) / 50)
    assert history[0][0] == 25


@pytest.mark.parametrize(
    ("history", "wanted", "expected"),
    [
        ([], 10, (0.0, None)),
        ([(1.0, 5)], 10, (0.0, None)),
        ([(1.0, 5), (2.0, 5)], 10, (0.0, None)),
        ([(1.0, 5), (2.0, 9)], 0, (4.0, None)),
        ([(1.0, 10), (2.0, 10)], 10, (0.0, 0.0)),
    ],
)
def test_there_is_no_estimate_where_there_is_nothing_to_estimate_from(history, wanted, expected):
    assert pace(deque(history), wanted) == expected


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.floats(0, 1e4), st.integers(0, 10**6)), max_size=30), st.integers(0, 10**6))
def test_the_pace_is_never_negative(points, wanted):
    rate, left = pace(deque(sorted(points)), wanted)
    assert rate >= 0
    assert left is None or left >= 0


def test_without_a_terminal_the_view_prints_plain_lines(capsys):
    with LiveView(Output(as_json=False), "job birds") as view:
        for second in range(12):
            view.update(snapshot(second, second * 40, lapsed=second // 6))
        view.note(11.5, "an outsider was told [not found]", held=True)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "job birds"
    assert " ".join(lines[1].split()) == "0.0 s items 0/108 answers 0/540 0.0/s leases 3 refused 1"
    assert lines[4].strip() == "11.5 s  ✓ an outsider was told [not found]"
    assert "ETA" in lines[3]
    assert "lapsed 1" in lines[3]
    assert not any("\x1b" in line for line in lines)


def test_the_view_is_silent_with_json(capsys):
    with LiveView(Output(as_json=True), "job birds") as view:
        view.update(snapshot(1, 5))
        view.note(1, "hello")
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "")
