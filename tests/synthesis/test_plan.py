"""The plan of a recipe: ids, shards, and what becomes of what was written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.synthesis.plan import Plan
from harness.synthesis.recipe import load_recipe

Write = Callable[..., Path]


def plan_of(path: Path, *overrides: str, teacher: str = "weights") -> Plan:
    recipe = load_recipe(str(path), list(overrides))
    return Plan(recipe, recipe.read_seeds(), dict.fromkeys(recipe.config.teachers, teacher))


def ids(plan: Plan, step: str = "text") -> list[str]:
    return [ask.id for shard in range(plan.shards) for ask in plan.asks_of(plan.begin(shard), step)]


def record(text: str, finish: str = "stop") -> dict[str, Any]:
    return {"text": text, "finish": finish, "tokens": [3, 2]}


def one_row(plan: Plan, *steps: tuple[str, dict[str, Any]]) -> Any:
    """The first row of a plan, behind these steps, each answered as given."""
    drafts = plan.begin(0)[:1]
    for step, answer in steps:
        asks = plan.asks_of(drafts, step)
        drafts = plan.after(drafts, step, {(step, ask.id): answer for ask in asks})
    return drafts[0]


def test_rows_are_known_whatever_the_shards(recipe: Write) -> None:
    found = ids(plan_of(recipe()))
    assert len(set(found)) == 16
    assert ids(plan_of(recipe(), "shard_rows=1")) == ids(plan_of(recipe(), "shard_rows=1000")) == found
    assert plan_of(recipe()).shards == 4
    assert plan_of(recipe()).asks == 16


@pytest.mark.parametrize(
    "words",
    [
        ["steps.text.template='{{ prompts.prompt }}!'"],
        ["steps.text.sampling={temperature: 0.5}"],
        ["steps.text.max_new_tokens=9"],
        ["steps.text.stop=['.']"],
        ["seed=1"],
    ],
)
def test_another_text_has_another_id(recipe: Write, words: list[str]) -> None:
    assert not {*ids(plan_of(recipe(), *words))} & {*ids(plan_of(recipe()))}
    assert not {*ids(plan_of(recipe(), teacher="other"))} & {*ids(plan_of(recipe()))}


@pytest.mark.parametrize(
    "words", [["filters.words.min=3"], ["steps.text.parse='\\w+'"], ["dedup.jaccard=0.5"], ["steps.text.sampling={name: temperature}"]]
)
def test_the_same_text_has_the_same_id(recipe: Write, words: list[str]) -> None:
    assert ids(plan_of(recipe(), *words)) == ids(plan_of(recipe()))


def test_a_draw_that_is_taken_away_leaves_the_others_as_they_are(recipe: Write) -> None:
    assert {*ids(plan_of(recipe(), "steps.text.draws=1"))} < {*ids(plan_of(recipe()))}


@pytest.mark.parametrize(
    ("words", "answer", "dropped"),
    [
        ([], record("a text"), None),
        ([], record(" "), ("parse", " ")),
        ([], {"error": "too long"}, ("refused", "too long")),
        (["filters.finish=[stop]"], record("a text", "length"), ("finish", "length")),
        (["steps.text.parse='<(.*)>'"], record("say <it>"), None),
        (["steps.text.parse='<(.*)>'"], record("say it"), ("parse", "say it")),
        (["steps.text.parse=json"], record("Sure: it"), ("parse", "Sure: it")),
    ],
)
def test_what_becomes_of_a_text(recipe: Write, words: list[str], answer: dict[str, Any], dropped: tuple[str, str] | None) -> None:
    draft = one_row(plan_of(recipe(), *words), ("text", answer))
    assert draft.dropped == dropped
    if dropped is None:
        assert draft.row.fields["text"] == ("it" if words else "a text")
        assert (draft.row.prompt, draft.row.tokens.total, draft.row.written) == ("the river", 5, {"text": 2})


def test_scores_of_a_judge_a_verifier_and_a_likelihood(recipe: Write) -> None:
    path = recipe(
        steps__grade={"judge": "Grade: {{ text }}", "sampling": "greedy"},
        steps__right={"verify": "exact", "reference": "prompts.prompt"},
        steps__likely={"nll": "teacher"},
    )
    row = one_row(
        plan_of(path),
        ("text", record("the river")),
        ("grade", record("I would say 7")),
        ("right", {}),
        ("likely", {"score": 1.5, "tokens": [4, 0]}),
    ).row
    assert row.scores == {"grade": 7.0, "right": 1.0, "likely": 1.5}
    assert row.tokens.total == 5 + 5 + 4
    assert one_row(plan_of(path), ("text", record("a")), ("grade", record("no idea"))).dropped == ("parse", "no idea")


def test_a_later_step_goes_on_from_each_draw(recipe: Write) -> None:
    plan = plan_of(recipe(steps__more={"template": "{{ text }} of {{ prompts.prompt }}", "draws": 3}))
    drafts = plan.begin(0)[:1]
    drafts = plan.after(drafts, "text", {("text", ask.id): record(ask.id[:3]) for ask in plan.asks_of(drafts, "text")})
    asks = plan.asks_of(drafts, "more")
    assert [ask.prompt for ask in asks] == [f"{draft.row.fields['text']} of the river" for draft in drafts for _ in range(3)]
    rows = [draft.row for draft in plan.after(drafts, "more", {("more", ask.id): record("end") for ask in asks[:4]})]
    assert [row.group for row in rows] == [drafts[0].row.id] * 3 + [drafts[1].row.id]
    assert [row.draw for row in rows] == [0, 1, 2, 0]


def test_a_template_that_fails_for_a_row_drops_it(recipe: Write) -> None:
    draft = one_row(plan_of(recipe(), "steps.text.template='{{ prompts.prompt + 1 }}'"), ("text", record("never asked")))
    assert draft.dropped[0] == "template"
    assert "TypeError" in draft.dropped[1]


def test_a_text_that_cannot_be_parsed_is_drawn_again(recipe: Write) -> None:
    plan = plan_of(recipe(), "steps.text.parse='<(.*)>'", "steps.text.retries=2")
    drafts = plan.begin(0)[:1]
    first, other = (ask.id for ask in plan.asks_of(drafts, "text"))
    assert [first, other] == ids(plan_of(recipe()))[:2]
    assert plan.asks_of(drafts, "text", {}, 1) == []
    records = {("text", first): record("no"), ("text", other): record("<yes>")}
    [second] = plan.asks_of(drafts, "text", records, 1)
    assert (second.prompt, second.id in (first, other)) == ("the river", False)
    assert [draft.row.id for draft in plan.after(drafts, "text", records)] == [other]  # the new draw is still to come
    records["text", second.id] = record("no again")
    [third] = plan.asks_of(drafts, "text", records, 2)
    records["text", third.id] = record("<at last>")
    assert plan.asks_of(drafts, "text", records, 1) == [second]  # as before: rounds are a function of those before them
    again, at_once = plan.after(drafts, "text", records)
    assert (again.dropped, again.row.fields["text"], again.row.id, again.row.draw) == (None, "at last", first, 0)
    assert (again.row.tokens.total, again.row.written) == (15, {"text": 2})
    assert again.row.provenance == {"text": {"id": third.id, "step": plan.keys["text"], "teacher": "weights"}}
    assert at_once.row.tokens.total == 5
    # No further one; none for a text that was cut or refused.
    records["text", third.id] = record("never")
    assert plan.after(drafts, "text", records)[0].dropped == ("parse", "never")
    for answer in (record("no", "length"), {"error": "refused"}):  # and filters.finish of the recipe keeps what was cut
        assert plan.asks_of(drafts, "text", {("text", first): answer}, 1) == []


def test_a_row_that_went_before_its_answer_shows_what_was_written(recipe: Write) -> None:
    plan = plan_of(recipe(), "steps.more={template: '{{ text }}!'}", "filters.finish=[stop]")
    cut = one_row(plan, ("text", record("half a", "length")), ("more", record("-")))
    assert (cut.dropped, cut.row.answer, cut.row.last_text) == (("finish", "length"), "more", "half a")
    assert one_row(plan, ("text", record("whole")), ("more", record("after"))).row.last_text == "after"
    assert plan.begin(0)[0].row.last_text == ""


def test_a_judge_that_cannot_be_parsed_is_asked_again(recipe: Write) -> None:
    plan = plan_of(recipe(steps__grade={"judge": "Grade: {{ text }}", "parse": "json", "retries": 1}))
    drafts = plan.begin(0)[:1]
    drafts = plan.after(drafts, "text", {("text", ask.id): record("a") for ask in plan.asks_of(drafts, "text")})[:1]
    [first] = plan.asks_of(drafts, "grade")
    records = {("grade", first.id): record("I cannot say")}
    [second] = plan.asks_of(drafts, "grade", records, 1)
    records["grade", second.id] = record('So: {"grade": 7}, of 9')
    [draft] = plan.after(drafts, "grade", records)
    assert (draft.dropped, draft.row.scores, draft.row.tokens.total) == (None, {"grade": 7.0}, 15)
