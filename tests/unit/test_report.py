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

from voxpop.broker import ShardState
from voxpop.cli import plots
from voxpop.cli.live import LiveView, Snapshot, pace, snapshot_of
from voxpop.cli.output import Output
from voxpop.cli.report import Happening, JobReport, render_report, write_report
from voxpop.cli.scores import (
    Answers,
    CountedAnswer,
    ItemLabel,
    evaluate,
    fit_methods,
    printable,
    score_labels,
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
    """Five recorded answers to each of the items, times made up; and the items' labels, with gold."""
    crowd = bluebirds()
    made = []
    for item in range(len(crowd.items)):
        for place in range(count):
            worker = crowd.workers[(item * 7 + place * 5) % len(crowd.workers)]
            made.append(
                CountedAnswer(
                    item,
                    (people or {}).get(worker, worker),
                    crowd.answer(worker, item).content["label"],
                    at_seconds=len(made) * 0.04,
                    seconds=0.5 + place,
                )
            )
    result = fitted(made)
    labels = [
        ItemLabel((names or {}).get(item, item), label, confidence, gold=crowd.gold[item])
        for item, label, confidence in zip(crowd.items, result.labels.tolist(), result.confidence.tolist(), strict=True)
    ]
    return made, labels


def columns(answers):
    return Answers.collect(answers, ("0", "1"))


def fitted(answers, method="dawid_skene"):
    return fit_methods(columns(answers).votes())[method]


def without_gold(labels):
    return [dataclasses.replace(label, gold=None) for label in labels]


def report_of(answers, labels, **changes):
    base = JobReport(
        title="Labeling job bluebirds",
        lead="A job.",
        created="2026-01-02 03:04 UTC",
        facts=[("items", "108")],
        evaluation=evaluate(columns(answers), labels, "5 answers an item"),
        wanted=len(answers),
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
    answers, labels = recorded
    said = {}
    for answer in answers:
        said.setdefault(answer.item, []).append(answer.label)
    # Five answers of two classes have no ties.
    right = sum(max(set(votes), key=votes.count) == labels[item].gold for item, votes in said.items())
    assert f"Majority vote 5 answers an item {right / len(said):.1%}" in Page(page).text
    right = sum(label.label == label.gold for label in labels)
    assert f"As published 5 answers an item {right / len(said):.1%}" in Page(page).text


def test_the_doubtful_items_are_those_with_the_lowest_confidence_in_order(recorded, page):
    answers, labels = recorded
    text = Page(page).text
    text = text[text.index("Items with the lowest confidence") :]
    lowest = sorted(labels, key=lambda label: (label.confidence, label.item))
    places = [text.index(f" {label.item} ") for label in lowest[:12]]
    assert places == sorted(places)
    assert f" {lowest[13].item} " not in text[: text.index("Workers, the best")]
    said = [answer.label for answer in answers if answer.item == labels.index(lowest[0])]
    told = ", ".join(f"{said.count(label)} said {label}" for label in sorted(set(said), key=said.count, reverse=True))
    assert f" {lowest[0].item} {lowest[0].label} {lowest[0].confidence:.2f} {told} {lowest[0].gold} " in text


def test_items_that_everybody_agreed_about_need_no_second_look():
    answers = [CountedAnswer(item, worker, "1", 0.0) for item in (0, 1) for worker in ("ann", "bob")]
    labels = [ItemLabel(f"item {item}", "1", 0.6) for item in (0, 1)]
    text = Page(render_report(report_of(answers, labels))).text
    assert "None: everybody agreed about every item." in text
    assert "Items with the lowest confidence" not in text
    answers.append(CountedAnswer(1, "cleo", "0", 0.0))
    text = Page(render_report(report_of(answers, labels))).text
    assert "The 1 disputed of 2 labels with the lowest confidence." in text
    assert "item 1 1 0.60 2 said 1, 1 said 0" in text


def test_items_of_the_same_name_are_different_items():
    """Two lines of an input may hold the same text: their answers are not thrown together."""
    answers = [CountedAnswer(item, worker, str(item), 0.0) for item in (0, 1) for worker in ("ann", "bob")]
    answers += [CountedAnswer(item, "cleo", str(1 - item), 0.0) for item in (0, 1)]
    labels = [ItemLabel("same", str(item), 0.9 + item / 100, gold=str(item)) for item in (0, 1)]
    found = evaluate(columns(answers), labels, "3 answers an item")
    assert [(one.n, one.accuracy) for one in (found.published, *found.scores)] == [(2, 1.0)] * 3
    text = Page(render_report(report_of(answers, labels))).text
    assert "same 0 0.90 2 said 0, 1 said 1 0 yes same 1 0.91 2 said 1, 1 said 0 1 yes" in text


def test_tables_of_a_big_job_are_cut_and_say_so():
    """50 items with the least confidence and the 200 busiest workers, whatever the size of the job."""
    people = [f"p{number:03}" for number in range(260)]
    answers = [CountedAnswer(item, people[item % 250], "1", item / 50, 2.0) for item in range(5_000)]
    answers += [CountedAnswer(item, people[250 + item % 10], "0", item / 50, 2.0) for item in range(10)]
    labels = [ItemLabel(f"item{item:05}", "1", 0.5 + item / 20_000) for item in range(5_000)]
    text = render_report(report_of(answers, labels))
    assert len(text) < 400_000
    shown = Page(text).text
    assert "The 50 disputed of 5,000 labels with the lowest confidence." in shown
    assert re.findall(r"item\d{5}", shown) == [f"item{item:05}" for item in range(50)]
    assert "The 200 of 260 workers who gave the most answers." in shown
    table = shown[shown.index("Workers, the best") :]
    assert len(re.findall(r" p\d{3} 20 ", table)) == 200
    assert not set(re.findall(r"p\d{3}", shown)) & set(people[250:])


def test_a_job_without_gold_has_a_report_that_claims_no_accuracy(recorded):
    text = Page(render_report(report_of(recorded[0], without_gold(recorded[1])))).text
    assert "gold" not in text.lower().replace("without gold (dawid", "")
    assert "How good the labels are" not in text
    assert "Workers, the best estimated quality first" in text


def test_a_job_that_nobody_answered_has_a_report():
    report = report_of([], [ItemLabel("item 7", reason="stopped", gold="1")], happenings=[])
    text = Page(render_report(report)).text
    assert "item 7 none: stopped" in text
    assert "Where the files are" in text


def test_items_that_failed_come_first_with_their_reason(recorded):
    answers, labels = recorded
    declined = dataclasses.replace(labels[-1], label="", confidence=math.nan, reason="declined by everybody")
    text = Page(render_report(report_of(answers, [*labels[:-1], declined]))).text
    assert "The 12 disputed of 107 labels with the lowest confidence, after 1 item without a label." in text
    assert f"right {declined.item} none: declined by everybody" in text


@pytest.mark.parametrize("name", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_names_are_shown_and_never_obeyed(name, tmp_path):
    answers, labels = answers_of(names={"36618": name, "11619": name + "2"}, people={"w1": name, "w2": name + "2"})
    report = report_of(
        answers,
        labels,
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


def test_published_labels_are_scored_where_there_is_one_and_gold():
    labels = [
        ItemLabel("a", "1", 0.9, gold="1"),
        ItemLabel("b", "1", 0.6, gold="0"),
        ItemLabel("c", reason="declined", gold="1"),
        ItemLabel("x", "1", 0.5),
    ]
    found = score_labels(labels, "two answers")
    assert (found.n, found.accuracy) == (2, pytest.approx(1 / 2))
    assert found.ece == pytest.approx((0.1 + 0.6) / 2)
    assert math.isnan(found.log_loss)


def test_methods_are_scored_on_the_items_whose_labels_are(recorded):
    """An item without a label counts for nobody, so that the rows of the table can be compared."""
    answers, labels = recorded
    dropped = [
        dataclasses.replace(label, reason="stopped") if place % 3 else label for place, label in enumerate(labels)
    ]
    found = evaluate(columns(answers), dropped, "5")
    assert [one.n for one in (found.published, *found.scores)] == [36, 36, 36]
    assert found.scores[1].correct.tolist() == found.published.correct.tolist()


def test_a_row_a_worker_counts_what_they_did(recorded):
    answers, labels = recorded
    labels = [dataclasses.replace(label, gold=label.gold if place % 2 else None) for place, label in enumerate(labels)]
    untimed = [one._replace(seconds=None) if place % 3 else one for place, one in enumerate(answers)]
    rows = worker_rows(columns(untimed), fitted(answers), labels)
    assert [row.quality for row in rows] == sorted((row.quality for row in rows), reverse=True)
    assert {row.worker for row in rows} == {answer.worker for answer in answers}
    for row in rows:
        mine = [answer for answer in untimed if answer.worker == row.worker]
        checked = [labels[one.item].gold == one.label for one in mine if labels[one.item].gold]
        assert (row.answers, row.gold_answers) == (len(mine), len(checked))
        assert row.gold_accuracy == pytest.approx(np.mean(checked))
        timed = [one.seconds for one in mine if one.seconds]
        assert row.median_seconds == pytest.approx(np.median(timed) if timed else math.nan, nan_ok=True)


@pytest.mark.parametrize(("suffix", "magic"), [(".png", b"\x89PNG"), (".svg", b"<?xml")])
def test_worker_quality_is_plotted_as_the_suffix_says(recorded, tmp_path, suffix, magic):
    path = tmp_path / "new" / f"workers{suffix}"
    plots.plot_worker_quality(fitted(recorded[0]), path)
    assert path.read_bytes().startswith(magic)
    if suffix == ".svg":
        assert ">w11<" in path.read_text()


def test_many_workers_and_unknown_ones_are_plotted_without_names(recorded, tmp_path):
    result = fitted(recorded[0])
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
        plots.plot_worker_quality(fitted(recorded[0], "majority"), tmp_path / "sub" / "workers.pdf")
    assert list(tmp_path.iterdir()) == []


def test_drawings_are_the_same_in_every_run(recorded):
    answers, labels = recorded
    scores = evaluate(columns(answers), labels, "5").scores
    one, two = (plots.svg_element(plots.calibration_figure(scores, plots.PAGE), "a", "told").attrib for _ in range(2))
    assert one == two
    assert render_report(report_of(answers, labels)) == render_report(report_of(answers, labels))


# -- the live view -----------------------------------------------------------------------------------------------------


def snapshot(at_seconds, answers, wanted=540, **changes):
    values = {
        "items": 108,
        "labeled": answers // 5,
        "failed": 0,
        "unlabeled": 0,
        "leases": 3,
        "lapsed": 0,
        "declined": 0,
        "refused": 1,
    }
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


def test_items_that_a_stop_left_open_are_unlabeled_and_not_failed(capsys):
    """A failure is something to look into; a stopped job has items that nobody got to."""
    counters = dict.fromkeys(ShardState.__struct_fields__, 0)
    state = ShardState(**{**counters, "appended": 9, "settled": 9, "labeled": 4, "failed": 2, "sealed": True})
    now = snapshot_of(state, 1.0, replication=3)
    assert (now.labeled, now.failed, now.unlabeled) == (4, 2, 3)
    with LiveView(Output(as_json=False), "job birds") as view:
        view.update(now)
    assert "items 4/9  answers 0/27  0.0/s  failed 2  unlabeled 3" in capsys.readouterr().err


def test_in_a_terminal_the_items_of_a_stopped_job_are_told_apart(capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "100")
    with LiveView(Output(as_json=False), "job birds") as view:
        view.update(snapshot(1, 5, items=9, labeled=4, failed=2, unlabeled=3))
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", capsys.readouterr().err)
    assert re.search(r"9 / 9 +2 failed, 3 unlabeled", shown), shown
