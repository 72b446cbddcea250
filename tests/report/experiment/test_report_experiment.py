"""The page of an experiment: what it says is what was found, whatever is missing and whatever names are."""

import json
import math
import re
import statistics
from collections.abc import Callable
from dataclasses import replace
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from picolm.errors import PicoLMError
from picolm.experiments.findings import Cost, Findings, Judged, Lineage
from picolm.experiments.plan import Plan
from picolm.experiments.ranking import rankings
from picolm.experiments.statistics.curve import Curve
from picolm.experiments.statistics.differences import paired_difference
from picolm.experiments.statistics.interaction import interaction
from picolm.experiments.statistics.verdict import Claim, verdict_of
from picolm.report.experiment import experiment_figures, write_experiment_report
from picolm.report.paper import write_figures
from picolm.report.whisker import whisker

MINUS = "\u2212"


def read(path: Path) -> tuple[str, str]:
    """The page without its scripts and style, and the texts of it."""
    source = path.read_text(encoding="utf-8")
    markup = re.sub(r"<(script|style)[^>]*>.*?</\1>", "", source, flags=re.DOTALL)
    text = unescape(re.sub(r"<[^>]+>", " ", markup)).replace("\u202f", " ")
    return markup, " ".join(text.split())


def drawn(path: Path) -> dict[str, Any]:
    found = re.search(r'<script id="figures"[^>]*>(.*?)</script>', path.read_text(encoding="utf-8"), re.DOTALL)
    assert found is not None
    return {figure["key"]: figure for figure in json.loads(found[1])}


@pytest.fixture
def page(findings: Findings, tmp_path: Path) -> Path:
    return write_experiment_report(findings, tmp_path / "report.html")


def test_claim_status_and_verdicts_come_before_the_plan_and_the_evidence(page: Path) -> None:
    _, text = read(page)
    order = [
        "warm-start",
        "A slower warm-up makes a small model learn faster",
        "19 of 20 runs finished, 1 failed",
        "primary prediction",
        "secondary prediction",
        "Deviations from the plan",
        "Plan arms cold (baseline), warm",
        "Noise floor Number",
        "All effects",
        "Learning curves",
        "Runs Run",
    ]
    places = [text.index(words) for words in order]
    assert places == sorted(places)


def test_a_card_holds_the_numbers_of_its_verdict(page: Path, findings: Findings) -> None:
    markup, _ = read(page)
    cards = re.findall(r"<article.*?</article>", markup, re.DOTALL)
    assert len(cards) == len(findings.judged)
    for card, judged in zip(cards, findings.judged, strict=True):
        words = " ".join(unescape(re.sub(r"<[^>]+>", " ", card)).replace("\u202f", " ").replace(MINUS, "-").split())
        assert ("primary prediction" in words) == judged.prediction.primary
        assert judged.prediction.measure.words in words
        verdict = judged.verdict
        if verdict is None:
            assert "no verdict" in words
            assert judged.missing is not None and judged.missing in words
            continue
        assert verdict.interval is not None
        sign = {"supported": "\u2713", "refuted": "\u2717", "inconclusive": "?"}[verdict.outcome]
        assert f"{sign} {verdict.outcome}" in words
        found = re.search(r"(\S+) (?:difference|at the larger.*?), (\S+) % interval (\S+) to (\S+)", words)
        assert found is not None
        value, level, low, high = map(float, found.groups())
        width = verdict.interval.high - verdict.interval.low
        assert value == pytest.approx(verdict.claim.estimate.value, abs=width / 100)
        assert level == pytest.approx(100 * verdict.interval.confidence, abs=0.051)
        assert low == pytest.approx(verdict.interval.low, abs=width / 100)
        assert high == pytest.approx(verdict.interval.high, abs=width / 100)
        assert f"p to refute {verdict.p_refuted:.3f}" in words


def test_whisker_stands_on_one_scale_with_zero_and_the_threshold(page: Path, findings: Findings) -> None:
    markup, _ = read(page)
    drawing = re.findall(r'<svg class="whisker.*?</svg></svg>', markup, re.DOTALL)
    verdict = findings.judged[0].verdict
    assert verdict is not None and verdict.interval is not None
    x = {kind: float(place) for kind, place in re.findall(r'<line class="(zero|threshold)" x1="([\d.]+)%"', drawing[0])}
    ends = [float(place) for place in re.findall(r'class="interval" x1="([\d.]+)%"', drawing[0])]
    mark = float(re.search(r'class="mark" x="([\d.]+)%"', drawing[0])[1])  # type: ignore[index]
    per_unit = (x["zero"] - x["threshold"]) / verdict.claim.smallest_effect

    def place(value: float) -> float:
        return x["zero"] + value * per_unit

    assert mark == pytest.approx(place(verdict.claim.estimate.value), abs=0.05)
    assert min(ends) == pytest.approx(place(verdict.interval.low), abs=0.05)
    assert max(ends) == pytest.approx(place(verdict.interval.high), abs=0.05)
    # What would be as predicted is shaded: from the left end to the threshold.
    region = re.search(r'class="region" x="([\d.]+)%" y="4" width="([\d.]+)%"', drawing[0])
    assert region is not None
    assert (float(region[1]), float(region[2])) == pytest.approx((0.0, x["threshold"]), abs=0.02)


def test_thresholds_that_would_touch_share_a_label() -> None:
    values = {seed: 1.0 + 0.01 * seed for seed in range(3)}
    far = Claim("loss", paired_difference(values, dict.fromkeys(values, 0.0)).estimate, "same", 0.02)
    near = Claim("loss", paired_difference(values, dict.fromkeys(values, 1.0)).estimate, "same", 0.02)
    labels = [re.findall(r"<text[^>]*>([^<]*)<", whisker(claim, None, "refuted")) for claim in (far, near)]
    assert labels == [["\u00b10.02"], ["0", f"{MINUS}0.02", "+0.02"]]


def test_each_outcome_has_a_shape_a_sign_and_a_word_of_its_own(
    make_plan: Callable[..., Plan], findings: Findings, tmp_path: Path
) -> None:
    shapes = {}
    for name, baseline in {"supported": 1.0, "refuted": -1.0, "inconclusive": 0.02}.items():
        values = {seed: 0.02 * seed for seed in range(4)}
        found = paired_difference(
            values, {seed: value + baseline - 0.03 * (seed % 2) for seed, value in values.items()}
        )
        verdict = verdict_of(Claim("loss", found.estimate, "lower", 0.02))
        assert verdict.outcome == name
        judged = Judged(findings.judged[0].prediction, "warm", "cold", verdict, difference=found)
        markup, text = read(write_experiment_report(replace(findings, judged=(judged,)), tmp_path / f"{name}.html"))
        mark = re.search(r'class="mark"[^>]*><(\w+)', markup)
        assert mark is not None
        shapes[name] = mark[1]
        assert ("to settle it" in text) == (name == "inconclusive")
        assert verdict.to_settle is None or str(verdict.to_settle) in text
    assert len(set(shapes.values())) == 3


def test_plan_says_what_differs_what_was_forecast_and_what_changed(page: Path, findings: Findings) -> None:
    _, text = read(page)
    assert "warm.small schedule.warmup_steps 100 400" in text
    assert "held equal tokens" in text
    assert "optimizer.learning_rate in 0.001, 0.003; lowest final validation loss, on seeds 1000" in text
    assert "warm.small optimizer.learning_rate 0.001" in text
    assert findings.versions[-1].digest in text
    assert "Training 1.5e+15 FLOPs 1.6e+15 FLOPs 1.07" in text
    assert "Disk 880 MB 903 MB 1.03" in text
    assert "2026-11-25 11:40:02 UTC 5be1a0f1c4d2 predictions.0.smallest was 0.05 and is 0.02 7 runs had begun" in text


def test_every_run_is_in_the_table_with_what_went_wrong(page: Path, findings: Findings) -> None:
    markup, text = read(page)
    for run in findings.runs:
        assert f"{run.name} {run.arm} {run.size} {run.repetition}" in text
    assert "\u2717 failed 340 of 2,000" in text
    assert "ended with code 1: the loss was not finite at step 340" in text
    assert "> 65.5 M (censored)" in text
    assert 'class="state failed"' in markup


def test_runs_lead_to_their_own_pages_where_these_are(findings: Findings, tmp_path: Path) -> None:
    for folder in (tmp_path / "runs", tmp_path / "else" / "runs"):
        (folder / "cold.tiny.seed0").mkdir(parents=True)
        (folder / "cold.tiny.seed0" / "report.html").write_text("")
    beside = write_experiment_report(findings, tmp_path / "report.html")
    assert re.findall(r'href="([^"]*)"', read(beside)[0]) == ["runs/cold.tiny.seed0/report.html"]
    apart = write_experiment_report(findings, tmp_path / "apart.html", tmp_path / "else" / "runs")
    assert re.findall(r'href="([^"]*)"', read(apart)[0]) == ["else/runs/cold.tiny.seed0/report.html"]


def test_effects_that_nothing_predicts_are_called_exploration(page: Path) -> None:
    _, text = read(page)
    assert re.search(rf"final validation loss warm small {MINUS}0\.0601 .*? 5 predicted", text)
    assert re.search(rf"final validation loss warm tiny {MINUS}0\.0287 .*? 4 exploration", text)


def test_shares_of_variance_between_seeds_and_items_make_a_whole(page: Path) -> None:
    markup, _ = read(page)
    section = markup[markup.index("<h2>Items crossed with seeds") :].split("</section>")[0]
    shares = [float(share) for share in re.findall(r"\(([\d.]+)\u202f%\)", section)]
    assert len(shares) == 3
    assert sum(shares) == pytest.approx(100, abs=0.2)


def test_censored_runs_are_named_where_times_are_compared(page: Path) -> None:
    _, text = read(page)
    section = text[text.index("Getting there Prediction") :]
    assert re.search(r"28\.3 M 32\.7 M 5 0 0 0\.062 \(least 0\.062\) cold\.small\.seed3", section)


def test_curves_show_every_run_the_mean_with_its_band_and_the_difference_beneath(
    page: Path, findings: Findings
) -> None:
    panel, figure = findings.panels[1], drawn(page)["curves-1"]
    traces = figure["traces"]
    thin = [trace for trace in traces if trace.get("line", {}).get("width") == 0.7]
    assert len(thin) == sum(len(runs) for runs in panel.runs.values()) == 10
    mean = next(trace for trace in traces if trace["name"] == "warm" and "fill" not in trace)
    assert mean["y"] == pytest.approx(panel.bands["warm"].mean, rel=1e-5)
    beneath = [trace for trace in traces if trace.get("yaxis") == "y2"]
    band, line = beneath
    assert line["y"] == pytest.approx(panel.differences["warm"].mean, abs=1e-6)
    difference = panel.differences["warm"]
    assert difference.low is not None and difference.high is not None
    assert band["y"] == pytest.approx([*difference.high, *difference.low[::-1]], abs=1e-6)
    assert figure["views"][0]["lower"]["zeroline"] is True


def test_lines_of_pairs_join_the_same_seeds_and_their_mean_is_of_whole_pairs(page: Path, findings: Findings) -> None:
    figure = drawn(page)["pairs"]
    labels = [view["label"] for view in figure["views"]]
    assert labels[0].endswith(", small"), "what was predicted is shown at first"
    view = figure["views"][labels.index("final validation loss, tiny")]
    lines = {trace["name"]: trace["y"] for trace in (figure["traces"][place] for place in view["traces"])}
    found = {(run.arm, run.size, run.repetition): run for run in findings.runs}
    words = "final validation loss"
    for seed in ("seed0", "seed1", "seed2", "seed3"):
        own = [found[arm, "tiny", seed].values[words].value for arm in ("cold", "warm")]
        assert lines[seed] == pytest.approx(own, rel=1e-5)
    # seed4 has no treatment: with it, the means would differ by more than the pairs do.
    effect = next(e for e in findings.effects if (e.words, e.size, e.arm) == (words, "tiny", "warm"))
    assert effect.difference is not None
    assert lines["mean"][1] - lines["mean"][0] == pytest.approx(effect.difference.estimate.value, abs=1e-4)


def test_page_asks_nothing_of_the_network(page: Path) -> None:
    markup, _ = read(page)
    assert not re.findall(r"""(?:src|href|action|srcset)\s*=\s*["']?(?:https?:)?//""", markup)
    assert "default-src 'none'" in markup


def test_hostile_texts_stay_texts(findings: Findings, tmp_path: Path) -> None:
    hostile = "<script>alert(1)</script><img src=x onerror=alert(2)>"
    runs = [replace(run, name=hostile, repetition=hostile, notes=(hostile,)) for run in findings.runs]
    prediction = findings.judged[0].prediction.model_copy(update={"says": hostile})
    judged = replace(findings.judged[0], prediction=prediction, arm=hostile, missing=hostile)
    changed = replace(
        findings,
        plan=findings.plan.model_copy(update={"claim": hostile}),
        runs=tuple(runs),
        judged=(judged,),
        warnings=(hostile,),
        versions=tuple(replace(version, changes=(hostile,)) for version in findings.versions),
        differs={hostile: {hostile: (hostile, hostile)}},
        effects=tuple(replace(effect, arm=hostile, words=hostile) for effect in findings.effects),
        panels=tuple(replace(panel, words=hostile) for panel in findings.panels),
    )
    page = write_experiment_report(changed, tmp_path / "hostile.html")
    source = page.read_text(encoding="utf-8")
    assert "<script>alert" not in source
    assert "<img" not in read(page)[0]
    assert "&lt;script&gt;alert(1)" in source
    for figure in drawn(page).values():
        for trace in figure["traces"]:
            assert "<img" not in str(trace.get("name", ""))
            assert "<img" not in str(trace.get("customdata", ""))


def test_before_the_first_run_the_page_shows_the_plan(findings: Findings, tmp_path: Path) -> None:
    waiting = [replace(run, state="waiting", steps=0, cost=None, values={}, notes=()) for run in findings.runs]
    judged = [Judged(one.prediction, one.arm, one.against, None, missing="no run has begun") for one in findings.judged]
    empty = replace(
        findings,
        runs=tuple(waiting),
        judged=tuple(judged),
        versions=findings.versions[:1],
        effects=(),
        panels=(),
        choices={},
        warnings=(),
        forecast=None,
        took=Cost(0.0, 0.0, 0),
    )
    markup, text = read(write_experiment_report(empty, tmp_path / "empty.html"))
    assert "0 of 20 runs finished, 20 waiting" in text
    assert text.count("no verdict") == 6, "of each prediction, and on the card of the primary one"
    assert "whisker" not in markup
    assert "not made" in text
    assert "Deviations" not in text


def test_one_seed_has_an_effect_without_an_interval(
    make_plan: Callable[..., Plan], findings: Findings, tmp_path: Path
) -> None:
    found = paired_difference({"seed0": 3.0}, {"seed0": 3.1})
    verdict = verdict_of(Claim("loss", found.estimate, "lower", 0.02))
    judged = Judged(findings.judged[0].prediction, "warm", "cold", verdict, difference=found)
    alone = replace(
        findings,
        plan=make_plan(seeds=1),
        judged=(judged,),
        effects=tuple(
            replace(effect, noise=None, difference=effect.difference and found) for effect in findings.effects
        ),
        panels=(),
    )
    page = write_experiment_report(alone, tmp_path / "one.html")
    markup, text = read(page)
    assert f"{MINUS}0.1000 difference, without an interval" in text
    assert 'class="interval"' not in markup
    assert "one seed does not say how many are needed" in text
    dots = drawn(page)["paired-differences"]["traces"]
    assert [dot["error_x"]["array"] for dot in dots] == [[0.0]] * len(dots)


def test_a_ratio_is_told_beside_its_logarithm(findings: Findings, tmp_path: Path) -> None:
    logs = {seed: math.log(0.8) + 0.01 * place for place, seed in enumerate(("a", "b", "c"))}
    found = paired_difference(logs, dict.fromkeys(logs, 0.0))
    verdict = verdict_of(Claim("tokens", found.estimate, "lower", 0.05))
    judged = replace(findings.judged[2], verdict=verdict, difference=found, missing=None)
    _, text = read(write_experiment_report(replace(findings, judged=(judged,)), tmp_path / "ratio.html"))
    assert verdict.interval is not None
    low, high = math.exp(verdict.interval.low), math.exp(verdict.interval.high)
    assert f"{math.exp(found.estimate.value):.3g} times as far along the axis, {low:.3g} to {high:.3g}" in text


def test_slope_by_size_goes_through_effects_that_lie_on_a_line(findings: Findings, tmp_path: Path) -> None:
    sizes = (1e6, 1e7, 1e8)
    effects = {size: {seed: -0.02 * place + 0.001 * seed for seed in range(3)} for place, size in enumerate(sizes)}
    found = interaction(effects, same_seeds=True)
    judged = replace(findings.judged[4], verdict=None, interaction=found)
    page = write_experiment_report(replace(findings, judged=(judged,)), tmp_path / "sizes.html")
    points, slope = drawn(page)["trend-0"]["traces"]
    assert points["x"] == list(sizes)
    assert slope["y"] == pytest.approx(points["y"], abs=1e-6)
    assert f"{MINUS}0.0200 per tenfold parameters" in read(page)[1]


def test_forked_experiment_shows_its_lineage_and_the_common_past(findings: Findings, tmp_path: Path) -> None:
    past = Curve.of([0, 100], [8.0, 7.0])
    forked = replace(
        findings,
        lineage=Lineage("runs/parent", 1000, "77aa88bb"),
        panels=(replace(findings.panels[0], past=past),),
        warnings=("forks of one parent are no replicates",),
    )
    page = write_experiment_report(forked, tmp_path / "fork.html")
    _, text = read(page)
    assert "goes on from runs/parent, step 1,000" in text
    assert "77aa88bb" in text
    assert "forks of one parent are no replicates" in text
    first = drawn(page)["curves-0"]["traces"][0]
    assert (first["name"], first["x"], first["y"]) == ("common past", [0.0, 100.0], [8.0, 7.0])


def test_without_a_claim_arms_stand_side_by_side_before_the_plan(
    make_plan: Callable[..., Plan], findings: Findings, tmp_path: Path
) -> None:
    plan = make_plan(claim="", predictions=())
    _, text = read(write_experiment_report(replace(findings, plan=plan, judged=()), tmp_path / "suite.html"))
    assert "It claims nothing" in text and "no verdict" not in text
    places = [text.find(one) for one in ("Side by side Arm Size", "validation loss over steps", "Plan arms cold")]
    assert -1 not in places and places == sorted(places)
    cold = [
        run.values["final validation loss"].value for run in findings.runs if (run.arm, run.size) == ("cold", "small")
    ]
    mean, sd = statistics.fmean(cold), statistics.stdev(cold)
    row = re.search(r"cold small (\S+) \u00b1 (\S+) \(5\)", text)
    assert row is not None
    assert (float(row[1]), float(row[2])) == (pytest.approx(mean, abs=0.01 * sd), pytest.approx(sd, rel=0.01))
    # One of the baseline's runs never got there: a mean of the others would be of those alone that did.
    assert "of 5, 1 not reached" in text


def test_sweep_has_no_verdicts_and_its_best_point_on_top(
    make_plan: Callable[..., Plan], findings: Findings, tmp_path: Path
) -> None:
    names = {"cold": "p001", "warm": "p002"}
    points = [{"schedule.warmup_steps": 100}, {"schedule.warmup_steps": 400}]
    plan = Plan.model_validate(
        {
            "experiment": 1,
            "name": "warmth",
            "base": "demo",
            "sizes": {"tiny": {}, "small": {}},
            "sweep": {"list": points},
            "seeds": findings.plan.seeds.model_dump(mode="json", exclude_none=True),
        }
    )
    runs = tuple(
        replace(run, arm=names[run.arm], name=f"{names[run.arm]}.{run.size}.{run.repetition}") for run in findings.runs
    )
    differs = {f"p002.{size}": {"schedule.warmup_steps": (100, 400)} for size in ("tiny", "small")}
    sweep = replace(
        findings, plan=plan, runs=runs, differs=differs, judged=(), effects=(), panels=(), warnings=(), choices={}
    )
    page = write_experiment_report(sweep, tmp_path / "sweep.html")
    markup, text = read(page)
    assert "Verdicts" not in text
    tables = markup[markup.index("<h2>Sweep") :].split("</table>")[:2]
    for ranking, table in zip(rankings(plan, runs), tables, strict=True):
        rows = re.findall(r'<th scope="row">([^<]*)</th><td>(\d+)</td><td[^>]*>([^<]*)</td>', table)
        steps = {"p001": "100", "p002": "400"}
        assert rows == [
            (one.arm, steps[one.arm], "" if one.mean is None else f"{one.mean:.4f}") for one in ranking.points
        ]
    figure = drawn(page)["sweep-0"]
    assert figure["views"][0]["yaxis"]["ticktext"] == ["100", "400"]
    dots = figure["traces"][0]
    assert len(dots["x"]) == len([run for run in runs if "final validation loss" in run.values])
    assert {name.split(".")[0]: height for name, height in zip(dots["customdata"], dots["y"], strict=True)} == {
        "p001": 0,
        "p002": 1,
    }


def test_page_of_somebody_else_is_not_replaced(findings: Findings, tmp_path: Path) -> None:
    (tmp_path / "notes.html").write_text("mine")
    with pytest.raises(PicoLMError, match=r"notes\.html is there, and is no page that PicoLM wrote"):
        write_experiment_report(findings, tmp_path / "notes.html")


def test_figures_are_drawn_for_papers_with_both_panels(findings: Findings, tmp_path: Path) -> None:
    figures = [figure for figure in experiment_figures(findings) if figure.key in ("curves-1", "paired-differences")]
    files = write_figures(figures, tmp_path / "figures")
    names = {file.name for file in files}
    assert "validation-loss-over-steps-size-small-second-half.svg" in names
    drawing = (tmp_path / "figures" / "validation-loss-over-steps-size-small-linear.svg").read_text()
    assert all(f">{words}<" in drawing for words in ("validation loss", "difference", "steps", "cold", "warm"))
    assert "seed0" not in drawing, "thin lines are not in the legend"


def test_browser_draws_the_page_without_complaint(page: Path, browser: Callable[..., Any]) -> None:
    script = """
      inside.querySelectorAll("#figure-curves-1 .switch button")[2].click(); await settle();
      const curves = inside.querySelector("#figure-curves-1 .plot");
      const card = inside.querySelector("article"), picture = card.querySelector("svg.whisker");
      const {left, right} = picture.getBoundingClientRect();
      const texts = [...picture.querySelectorAll("text")].map((text) => text.getBoundingClientRect());
      return {
        drawn: plots().map((plot) => plot.data.length > 0), verdicts: inside.querySelectorAll("article").length,
        wide: inside.documentElement.scrollWidth <= window.innerWidth,
        clipped: texts.some((text) => text.left < left - 1 || text.right > right + 1),
        overlap: texts.some((one, n) => texts.some((other, m) =>
          n < m && one.left < other.right && other.left < one.right)),
        range: curves.layout.xaxis.range, panels: [curves.layout.yaxis.domain, curves.layout.yaxis2.domain],
        fill: curves.data[0].fillcolor,
      };
    """
    for width in (1200, 400):
        shown = browser(page, script, width=width)
        assert all(shown["drawn"]) and shown["drawn"]
        assert shown["verdicts"] == 5
        assert shown["wide"], "the page does not scroll sideways"
        assert (shown["clipped"], shown["overlap"]) == (False, False)
        assert shown["range"] == [1000, 2000]
        upper, lower = shown["panels"]
        assert lower[1] < upper[0]
        assert re.fullmatch(r"rgba\(.*, 0\.18\)", shown["fill"])
