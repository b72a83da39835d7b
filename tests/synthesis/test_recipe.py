"""Recipes: what is refused, and what is read of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from harness.config.errors import InputError
from harness.config.locations import synth_names
from harness.synthesis.recipe import load_recipe
from harness.synthesis.template import RowTemplate, RowTemplateError
from tests.synthesis.conftest import write_jsonl

Write = Callable[..., Path]
SHIPPED = [
    ("answers", "prompts", 1),
    ("best_of", "problems", 4),
    ("rephrase", "docs", 1),
    ("self_instruct", "personas", 4),
    ("back_translation", "docs", 1),
    ("continuations", "docs", 1),
    ("pairs", "prompts", 4),
]
JUDGE = {"pairs": ["teachers.judge.model=judge"]}


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["steps.text.template='{{ nothing }}'"], "no field 'nothing' at this step; valid: prompts"),
        (["steps.text.template='{{ prompts }}'"], "prompts is a row of seeds.prompts; valid: a field of it, {{ prompts.FIELD }}"),
        (["steps.text.template='{% if %}'"], "steps.text.template: not a Jinja template"),
        (["steps.text.template=none.jinja"], "steps.text.template=none.jinja: cannot be read: No such file"),
        (["steps.text.template=../none.jinja"], "a template lies beside its recipe"),
        (["steps.text.verify=number"], "template and verify of template, verify, judge, nll; valid: exactly one"),
        (["steps.check.verify=number"], "steps.check.reference: required by verify=number"),
        (["steps.check.verify=number", "steps.check.reference=prompts.x", "steps.check.draws=2"], "steps.check.draws: has no effect"),
        (["steps.check.verify=number", "steps.check.reference=nothing"], "no such field; valid: prompts.FIELD, text"),
        (["steps.check.verify=regex", "steps.check.pattern='('"], "steps.check.pattern"),
        (["steps.check.nll=nobody"], "steps.check.nll=nobody: no such teacher; valid: teacher"),
        (["steps.text.teacher=nobody"], "no such teacher; valid: teacher"),
        (["steps.text.sampling={name: nothing}"], "unknown choice for sampling= 'nothing'"),
        (["steps.text.sampling={temperature: 0}"], "with temperature 0 all would be the same; valid: 1"),
        (["steps.text.sampling={seed: 1}"], "valid: seed=… of the recipe"),
        (["steps.text.parse='('"], "steps.text.parse"),
        (["select.name=best_of"], "select=best_of needs a score"),
        (["select.by=text"], "has no effect with select=all"),
        (["emit.format=preference"], "goes with select=pairs"),
        (["emit.format=messages", "emit.continues=true"], "only text reads it"),
        (["filters.scores.text.min=1"], "no step that gives a score"),
        (["steps.prompts.template=a"], "steps.prompts: a seed has this name"),
        (["bugdet.tokens=3"], "unknown key 'bugdet.tokens'"),
        (["~steps.text"], "steps: none; valid: at least one"),
        (["~nothing"], "~nothing: the recipe has no such key"),
    ],
)
def test_a_wrong_key_is_named(recipe: Write, overrides: list[str], said: str) -> None:
    with pytest.raises(InputError) as error:
        load_recipe(str(recipe()), overrides)
    assert said in str(error.value)


def test_a_field_that_a_row_lacks_is_named(recipe: Write) -> None:
    with pytest.raises(InputError, match=r"line 1: no field 'more', which the recipe reads; fields there: id, prompt"):
        load_recipe(str(recipe()), ["steps.text.template='{{ prompts.more }}'"]).read_seeds()


def test_what_a_field_holds_is_no_template() -> None:
    template = RowTemplate("Say: {{ a.b }}", key="here")
    assert template.names == {"a": frozenset({"b"})}
    assert template.render({"a": {"b": "{{ 7 * 7 }} {% raw %}"}}) == "Say: {{ 7 * 7 }} {% raw %}"


@pytest.mark.parametrize(
    "source",
    ["{{ a.__class__.__mro__ }}", "{{ ''.join(a) }}{{ b.c }}", "{{ 2 ** 99999999 }}", "{% for x in range(99999999) %}{% endfor %}"],
)
def test_a_template_that_fails_or_takes_too_much_says_so(source: str) -> None:
    template = RowTemplate(source, key="here")
    with pytest.raises(RowTemplateError, match="here: "):
        template.render({"a": "x", "b": {}})


def test_the_same_row_becomes_the_same_text() -> None:
    with pytest.raises(InputError, match="random"):
        RowTemplate("{{ [1, 2, 3] | random }}", key="here")
    assert RowTemplate("{{ lipsum }}", key="here").names == {"lipsum": frozenset()}


def test_seeds_are_combined_and_drawn(recipe: Write, tmp_path: Path) -> None:
    write_jsonl(tmp_path / "personas.jsonl", [{"who": "a miller"}, {"who": "a child"}])
    overrides = [f"seeds.personas.path={tmp_path / 'personas.jsonl'}", "steps.text.template='{{ personas.who }} {{ prompts.prompt }}'"]
    whole = load_recipe(str(recipe()), overrides).read_seeds()
    combined = [(whole[index][1]["prompts"]["prompt"], whole[index][1]["personas"]["who"]) for index in range(3)]
    assert len(whole) == 16
    assert combined == [("the river", "a miller"), ("the river", "a child"), ("the mill", "a miller")]
    drawn = load_recipe(str(recipe()), [*overrides, "rows=5"]).read_seeds()
    assert len({drawn[index][0].content for index in range(5)}) == 5
    assert [drawn[index][0] for index in range(5)] == [
        load_recipe(str(recipe()), [*overrides, "rows=5"]).read_seeds()[i][0] for i in range(5)
    ]
    with pytest.raises(InputError, match="there are 16 combinations"):
        load_recipe(str(recipe()), [*overrides, "rows=17"]).read_seeds()


def test_the_same_seed_twice_is_two_rows(recipe: Write, tmp_path: Path) -> None:
    write_jsonl(tmp_path / "twice.jsonl", [{"prompt": "the mill"}, {"prompt": "the mill"}])
    seeds = load_recipe(str(recipe()), [f"seeds.prompts.path={tmp_path / 'twice.jsonl'}"]).read_seeds()
    first, second = seeds[0][0].content, seeds[1][0].content
    assert second == f"{first}#2"


def test_a_strangers_recipe_does_not_say_who_is_asked(recipe: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = recipe(teachers__teacher__endpoint="http://elsewhere/v1", teachers__teacher__overrides=[])
    monkeypatch.chdir("/")
    with pytest.raises(
        InputError, match=r"a recipe for synthetic data that may be a stranger's.*teachers.teacher.endpoint=http://elsewhere/v1"
    ):
        load_recipe(str(path), [])


def test_a_strangers_recipe_does_not_say_what_else_is_done_there(recipe: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = recipe(teachers__teacher__extra_body={"tools": [{"type": "mcp", "server_url": "http://elsewhere"}]})
    monkeypatch.chdir("/")
    with pytest.raises(InputError, match=r"stranger's.*teachers.teacher.extra_body.tools="):
        load_recipe(str(path), ["teachers.teacher.endpoint=http://mine/v1"])


@pytest.mark.parametrize(("name", "seeds", "rows"), SHIPPED)
def test_what_ships_needs_seeds_and_teachers_alone(name: str, seeds: str, rows: int, tmp_path: Path) -> None:
    shipped = load_recipe(name, [f"seeds.{seeds}.path=seeds.jsonl", "teachers.teacher.model=model", *JUDGE.get(name, [])])
    assert shipped.draws == rows
    with pytest.raises(InputError, match=f"seeds.{seeds}.path: required"):
        load_recipe(name, [])


def test_every_recipe_that_ships_is_tried() -> None:
    assert synth_names() == sorted(name for name, _, _ in SHIPPED)


@pytest.mark.parametrize(
    ("text", "beginning"),
    [
        ("Hello world.", "Hello world."),
        ("Hello", "Hello"),
        (f" {'x' * 120} y", "x" * 100),
        (f"{'word ' * 20}end of it", ("word " * 20).strip()),
        (f"{'word ' * 19}longer than that", ("word " * 19).strip()),
    ],
)
def test_a_beginning_to_go_on_from_is_cut_only_where_it_is_long_and_is_never_empty(text: str, beginning: str) -> None:
    recipe = load_recipe("continuations", ["seeds.docs.path=x.jsonl", "teachers.teacher.model=m"])
    assert recipe.templates["text", "template"].render({"docs": {"text": text}}) == beginning
