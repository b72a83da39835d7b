"""What a run trains and evaluates on."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, get_args, get_type_hints

from annotated_types import Ge, Gt, Lt, MinLen

from harness.config.schema.base import Count, EvaluationSets, Name, NonNegative, Paths, Positive, Section
from harness.config.schema.objective import Conversational, Preferred

DataFormat = Literal["auto", "sharegpt", "alpaca", "messages", "prompt_completion", "preference", "preference_text", "text"]
Rejected = Literal["worst", "random"]
ChoiceFormat = Literal["auto", "plain", "arc", "piqa", "hellaswag"]
VerifierName = Literal["exact", "normalised", "contains", "number", "regex", "json_schema", "tool_call"]
TASK_FILES = (".yaml", ".yml")
"""How an entry of data.lm_eval.<name>.tasks ends that is a file, rather than the name of a task."""


@dataclass(kw_only=True)
class SourceConfig(Section):
    """Documents to train on."""

    path: Paths
    """File, directory or glob of .jsonl, .ndjson, .json, .csv, .txt and .md files (each also with .gz or .zst), .parquet and .arrow; hidden
    files are left out. Or a directory to which Hugging Face datasets saved a Dataset or a DatasetDict (save_to_disk), or a snapshot of the
    hub. Or elsewhere: ORG/NAME or hf://datasets/ORG/NAME[@REVISION] of the hub, s3://…, gs://…, https://…: fetched once into data.cache_dir
    (pip install 'harness[hub]'). Or a list of these, [a.jsonl,b/*.parquet], in whose order they are read; a file that several of them mean
    counts once. Or synth:RECIPE: data that are made by this recipe when they are needed, see `synth`."""
    synth: dict[str, Any] = field(default_factory=dict)
    """Read with path=synth:RECIPE alone (a search may choose between that and files): keys of the recipe, e.g.
    data.sources.<name>.synth.teachers.teacher.model=MODEL or synth.steps.answer.sampling.temperature=0.7. What teachers write is kept in
    data.cache_dir, and shared by all runs whose recipes differ in nothing that it depends on: another filter or selection costs no token of
    theirs."""
    split: Name | None = None
    """Which split of a saved DatasetDict, of a data set of the hub, or of a directory whose files are named so; null: the only one."""
    subset: Name | None = None
    """Which subset (configuration) of a data set of the hub; null: its only or default one."""
    field: Name = "text"
    """Where a row holds its text; plain text files are one document each."""
    weight: NonNegative = 1.0
    """Share in tokens among the sources of its kind (replay or not); weights need not add up to 1. 0: nothing is drawn from it, and it is
    not made."""
    max_epochs: Positive | None = None
    """A run that would go through this source more often is refused before it starts; null: data.max_epochs."""
    replay: bool = False
    """True for text of the model's base domain, drawn by data.replay_share to limit forgetting."""
    format: Annotated[DataFormat, Conversational] = "auto"
    """What the rows hold. sharegpt: conversations of from and value; alpaca: instruction, input, output or response; messages: OpenAI's,
    with tool_calls and role tool; prompt_completion; preference: two answers to one prompt, as prompt (question, instruction), chosen and
    rejected (chosen_response, …), each a text, which is then a turn, or messages; as chosen and rejected conversations whose common
    beginning is the prompt; or as instruction and several completions with scores (objective=sft reads the chosen answer alone);
    with objective.kind=kto also prompt, completion (text or messages) and label, true or false; preference_text: prompt, chosen and
    rejected (or completion and label) as plain text, without a template (objective=sft: the chosen answer alone); text: plain text in
    `field`, every token of which is trained, e.g. for replay; auto: one of the formats of conversations, told from each file's first rows;
    with objective.name=distill also plain text, where the first row of the first file is no conversation."""
    rejected: Annotated[Rejected, Preferred] = "worst"
    """Of several scored completions the best is the chosen answer. worst: the one with the lowest score is the rejected one; random: any of
    those with a lower score than the best, the same one in every run."""
    min_score_gap: Annotated[NonNegative, Preferred] = 0.0
    """Pairs whose scores lie closer together are dropped, as those whose scores are equal always are."""


@dataclass(kw_only=True)
class ValidationConfig(Section):
    """A fixed evaluation set, the same for every trial: from files of its own, or held out of a source by document."""

    path: Paths | None = None
    """Files with the validation documents, see data.sources.<name>.path; or name a source instead."""
    split: Name | None = None
    """Which split of `path`, see data.sources.<name>.split; null: the only one."""
    subset: Name | None = None
    """Which subset (configuration) of a data set of the hub; null: its only or default one."""
    field: Name = "text"
    """Where a row of `path` holds its text."""
    format: Annotated[DataFormat, Conversational] = "auto"
    """What the rows of `path` hold, see data.sources.<name>.format; of conversations only the tokens that data.loss_on names are scored."""
    source: Name | None = None
    """The source from which `share` of the documents is held out (by hash of their text: no document is on both sides)."""
    share: Annotated[float, Gt(0), Lt(1)] | None = None
    """Share of the source's documents that is held out."""
    max_tokens: Count | None = 65_536
    """Evaluate on at most this many tokens (whole documents, in the order of their hashes); null: on all of them."""
    block: Annotated[int, Ge(0)] = 0
    """Which max_tokens of them, 0 being the first: for a look at other documents, which are taken in turn where there are fewer blocks.
    `harness confirm` judges merges, which have no seed to vary, on documents that the search has not seen."""
    loss_by_position: bool = False
    """Log the loss by the number of tokens before the predicted one in its window, too: val/<domain>/loss/tokens_0_63, tokens_64_127,
    tokens_128_255, … up to data.context_length. Weighted by their tokens, they add up to the loss."""


@dataclass(kw_only=True)
class MultipleChoiceConfig(Section):
    """Questions with several answers, of which the model takes the one that it finds most likely."""

    path: Paths
    """Files, see data.sources.<name>.path; plain texts hold no questions."""
    split: Name | None = None
    """Which split of `path`, see data.sources.<name>.split; null: the only one."""
    subset: Name | None = None
    """Which subset (configuration) of a data set of the hub; null: its only or default one."""
    format: ChoiceFormat = "auto"
    """What a row holds. plain: query, question or context; choices; gold, answer or label (an index from 0, a letter, or the text of the
    choice); arc: question, choices of text and label, answerKey; piqa: goal, sol1, sol2, label; hellaswag: ctx, endings, label; auto: told
    from the fields of each file's first row."""
    delimiter: str | None = None
    """What stands between a question, without white space at its end, and a choice; null: a line break and "Answer: ", of hellaswag, whose
    choices go on with the sentence, a space."""
    max_questions: Count | None = 500
    """Ask at most this many (in the order of their hashes); null: all of them."""


@dataclass(kw_only=True)
class GenerationConfig(Section):
    """Prompts after which the model writes, as `sampling` says; its texts are counted, and verified."""

    path: Paths
    """Files, see data.sources.<name>.path; plain texts hold no prompts."""
    split: Name | None = None
    """Which split of `path`, see data.sources.<name>.split; null: the only one."""
    subset: Name | None = None
    """Which subset (configuration) of a data set of the hub; null: its only or default one."""
    prompt: Name | None = None
    """Where a row holds its prompt, a text or messages; or a text with fields of the row in it, "Question: {question}\\nAnswer:" ({{ and
    }} are braces of the text). null: messages or conversations, else the first of prompt, question, query, instruction, text. Of a
    conversation that ends with the assistant all before its last turn is the prompt (verifier=tool_call: before its first turn that calls
    a tool). A row's id names it; without one, a hash of its prompt."""
    chat: bool | None = None
    """Whether a prompt that is text is what a user says, and is rendered by data.chat_template as messages always are; null: with
    objective=sft."""
    instruction: Name | None = None
    """A text put before each prompt as it is (of messages: as the system message). With adapter=steering it is left out, but for
    adapter.control=prompt: it asks for the trait in words."""
    reference: Name | None = None
    """Where a row holds what `verifier` compares with. null: the first of reference, references, answer, answers, target, solution,
    completion, output, response (of regex: pattern, of json_schema: schema), else the turn that follows the prompt in a conversation."""
    verifier: VerifierName | None = None
    """When a text is right. exact: it is the reference, but for white space around it; normalised: it has the same words, in lower case,
    without punctuation and English articles; contains: it holds these words; number: its last number, or the one after #### or in
    \\boxed{}, is the reference's (gsm8k); regex: `pattern` is found in it; json_schema: it is JSON that `schema` holds of; tool_call: it
    makes the reference's calls, as Hermes models write them (<tool_call>), and no others. Of an array of references any may be met (but of
    tool_call all). null: texts are counted alone."""
    pattern: Name | None = None
    """Of verifier=regex, for all rows; null: each row has its own. At most 1,000 characters; a text that takes longer than half a second
    counts as wrong."""
    schema: dict[str, Any] = field(default_factory=dict)
    """Of verifier=json_schema, for all rows; empty: that of schema_path, else each row has its own. It refers to nothing but itself; a text
    for which it takes more than 50,000 keywords counts as wrong."""
    schema_path: Name | None = None
    """A JSON file with the schema of all rows."""
    draws: Count = 1
    """Texts after each prompt; pass_at, all_at and differences between texts of one prompt need several."""
    pass_at: list[Count] = field(default_factory=list)
    """Log for each k of these, at most `draws`, the chance that one of k draws is right (pass_at/k) and that all are (all_at/k)."""
    max_new_tokens: Count = 256
    """A text ends after so many tokens."""
    stop: list[Name] = field(default_factory=list)
    """A text ends before any of these strings, too, as it does with the model's end-of-text token or its chat template's stop token."""
    max_prompts: Count | None = 200
    """Write after at most this many (in the order of their hashes); null: after all of them."""
    skip_prompts: Annotated[int, Ge(0)] = 0
    """Leave out so many first (in the order of their hashes): for a look at other prompts. `harness confirm` has each of its seeds write
    after prompts that the search has not seen."""
    every_evaluations: Count | None = None
    """Write in every so many evaluations of a run (the first is that of step 0), and at its end; null: at step 0 and at its end."""


@dataclass(kw_only=True)
class LmEvalConfig(Section):
    """Tasks of EleutherAI's lm-evaluation-harness: documents that are asked, and metrics of what is answered, as each task defines them."""

    tasks: Annotated[list[Name], MinLen(1)]
    """Names of tasks or groups that ship with lm_eval (gsm8k, mmlu), or .yaml files of the same form. A file that names code (!function,
    metrics of the hub) is used after harness --trust-remote-code FILE alone."""
    limit: Count | None = 200
    """Ask the first so many documents of each task; null: all of them, as published figures do."""
    num_fewshot: Annotated[int, Ge(0)] | None = None
    """Examples before each document; null: as many as the task says."""
    chat: bool | None = None
    """Whether documents, and the examples before them, are rendered as conversations by data.chat_template; null: with objective=sft."""
    max_new_tokens: Count | None = None
    """A text that the model writes ends after so many tokens; null: as the task says, else 256."""
    every_evaluations: Count | None = None
    """Ask in every so many evaluations of a run (the first is that of step 0), and at its end; null: at step 0 and at its end."""


@dataclass(kw_only=True)
class PreferenceConfig(Section):
    """Pairs of answers that no run trains on: how much more likely than under a reference the better one has become, by one yardstick."""

    path: Paths | None = None
    """Files, see data.sources.<name>.path; or name a source instead."""
    split: Name | None = None
    """Which split of `path`, see data.sources.<name>.split; null: the only one."""
    subset: Name | None = None
    """Which subset (configuration) of a data set of the hub; null: its only or default one."""
    format: Literal["auto", "preference", "preference_text"] = "auto"
    """What the rows of `path` hold, see data.sources.<name>.format; auto: preference."""
    source: Name | None = None
    """The source of pairs from which `share` of the prompts is held out, with all their answers, whatever is trained on of it."""
    share: Annotated[float, Gt(0), Lt(1)] | None = None
    """Share of the source's prompts that is held out."""
    rejected: Rejected = "worst"
    """See data.sources.<name>.rejected."""
    min_score_gap: NonNegative = 0.0
    """See data.sources.<name>.min_score_gap."""
    reference: Name | None = None
    """The model that answers are compared under: a local directory or hub name, with the vocabulary of the run's; null: the model that
    training starts from, which is the same for all trials of a study."""
    max_pairs: Count | None = 500
    """Look at at most this many pairs (in the order of their prompts' hashes); null: at all of them."""


@dataclass(kw_only=True)
class ContrastConfig(Section):
    """Prompts with two continuations that differ in a trait: which of them a model finds likelier, and by how much."""

    path: Paths
    """Files, see data.sources.<name>.path, of rows {prompt, positive, negative}. A prompt is a text or messages; after messages a
    continuation is the assistant's turn, rendered by data.chat_template."""
    split: Name | None = None
    """Which split of `path`, see data.sources.<name>.split; null: the only one."""
    subset: Name | None = None
    """Which subset (configuration) of a data set of the hub; null: its only or default one."""
    chat: bool | None = None
    """Whether a prompt that is text is what a user says, and is rendered as messages are; null: with objective=sft."""
    instruction: Name | None = None
    """A text that asks for the trait in words, put before each prompt as it is (of messages: as the system message). With
    adapter=steering it is left out, but for adapter.control=prompt: it is what steering has to beat."""
    max_pairs: Count | None = 500
    """Look at at most this many pairs (in the order of their hashes); null: at all of them."""


@dataclass(kw_only=True)
class DataConfig(Section):
    """What a run trains and evaluates on, and how documents become rows."""

    sources: dict[str, SourceConfig] = field(default_factory=dict)
    """Training text by name: data.sources.<name>.path=… on the command line."""
    replay_share: Annotated[float, Ge(0), Lt(1)] = 0.0
    """Share of the training tokens that is drawn from the sources marked `replay`."""
    replay_share_end: Annotated[float, Ge(0), Lt(1)] | None = None
    """The share moves linearly from replay_share in the first step to this in the last; null: it stays. See also
    schedule.decay_replay_share."""
    max_epochs: Positive | None = None
    """A run that would go through any source more often is refused before it starts, with the length and the share that would be valid;
    null: no limit. `harness data` shows the epochs of each source."""
    validation: Annotated[dict[str, ValidationConfig], EvaluationSets("val")] = field(default_factory=dict)
    """Evaluation sets by domain name; each logs val/<domain>/loss, bits_per_byte (of conversations: per byte of trained text), forgetting
    and, with data.kl, kl."""
    multiple_choice: Annotated[dict[str, MultipleChoiceConfig], EvaluationSets("val")] = field(default_factory=dict)
    """Multiple-choice sets by name; each logs val/<name>/accuracy (the choice with the highest likelihood is the right one),
    accuracy_per_byte (likelihood per UTF-8 byte of the choice; elsewhere called acc_norm) and answer_bits_per_byte (of the right answers,
    which moves where an accuracy does not yet)."""
    generation: Annotated[dict[str, GenerationConfig], EvaluationSets("generation")] = field(default_factory=dict)
    """Prompts by name; of what is written after them, each logs generation/<name>/accuracy, pass_at/k and all_at/k (with a verifier),
    stopped, length, repetition, zlib_ratio, distinct_1 to distinct_4, ead and self_bleu."""
    lm_eval: Annotated[dict[str, LmEvalConfig], EvaluationSets("lm_eval")] = field(default_factory=dict)
    """Tasks of lm_eval by name (pip install 'harness[lm_eval]'); each logs lm_eval/<name>/<task>/<metric>, and of a task with filters
    lm_eval/<name>/<task>/<metric>/<filter>. Tokens are chosen as the task says (greedy, where it says nothing), not as `sampling` does."""
    preference: Annotated[dict[str, PreferenceConfig], EvaluationSets("preference")] = field(default_factory=dict)
    """Pairs of answers by name; each logs preference/<name>/loss (dpo's with beta 0.1, whatever the run is trained by), accuracy (how often
    the chosen answer has gained more over the reference than the rejected one; a tie counts half), accuracy_chosen_longer and
    accuracy_rejected_longer (of pairs whose chosen answer has more tokens, and fewer), margin_per_token, chosen_shift and rejected_shift
    (gains in nats per token)."""
    contrast: Annotated[dict[str, ContrastConfig], EvaluationSets("contrast")] = field(default_factory=dict)
    """Contrast pairs by name; each logs contrast/<name>/margin (log-probability per token of the positive continuation minus that of the
    negative one, in nats, averaged over pairs) and contrast/<name>/share (of pairs whose margin is above 0; a tie counts half)."""
    max_evaluation_tokens: Count | None = None
    """No evaluation set has more tokens than this (of prompts and of all that may be written after them), whatever its own max_tokens,
    max_questions, max_prompts, max_pairs or limit says: bounds the time for evaluation."""
    report_share: Annotated[float, Ge(0), Lt(1)] = 0.0
    """Share of the documents (questions, prompts) of every evaluation set that is kept for the report. What a study chooses by is measured
    on the others; on these are logged val/<name>/report/loss and so on, by which nothing can be chosen: a winner's value there is not
    flattered by the choice."""
    mean_loss: bool = False
    """Log val/mean/loss, too: the mean of the losses of all validation sets, each of which counts the same."""
    kl: bool = False
    """Log val/<domain>/kl, too: how far the model's distribution of the next token is from the base's, KL(base || model) in nats per token,
    over all scored tokens of the domain: what a change costs where the loss does not tell yet. The base is the model without its adapter;
    of a merge model.merge.base; else the model that training starts from. val/<domain>/forgetting is then the rise above the base's loss,
    also in a run that trains nothing. Reads what the losses are of a second time; a budget of tokens counts that in runs that train
    nothing."""
    malformed: Literal["refuse", "skip"] = "refuse"
    """What happens at a row of sources and validation sets that cannot be used: no JSON, without text, a conversation that is none or that
    the chat template cannot render. refuse: the first one is named; skip: such rows are left out, counted, and the first few named."""
    max_malformed_share: Annotated[float, Ge(0), Lt(1)] = 0.01
    """With malformed=skip: refused when a larger share of a source's rows would be left out."""
    context_length: Annotated[int, Ge(2)] = 512
    """Tokens in a row."""
    packing: Literal["best_fit", "concat", "padded"] = "best_fit"
    """best_fit: whole documents, best-fit decreasing; concat: concatenate and chunk; padded: one document (piece) a row.
    Documents of one row never attend to each other."""
    isolation: Literal["auto", "position_ids", "mask"] = "auto"
    """How the documents of a row are kept apart. position_ids: they begin anew with each document, and transformers sees that; mask: an
    explicit attention mask (rows x context_length x context_length numbers of each micro-batch), for families that do not look; auto:
    position_ids where a probe of the very model finds that they are enough, else mask, saying so. Where the probe fails, the run is
    refused."""
    overflow: Literal["split", "truncate", "drop"] = "split"
    """What happens to a document longer than a row (best_fit and padded; concat always splits)."""
    share_prompt: Annotated[bool, Preferred] = False
    """Whether a pair's prompt is read once: in the chosen answer's document, whose prompt the rejected answer sees, too. The losses stay
    the same, and rows hold more pairs, the more the longer prompts are; a budget counts each prompt once. Attention is by an explicit
    mask, see isolation, or by model.attention=varlen; a model that computes something else that way is refused."""
    append_eos: bool = True
    """End every document with the tokenizer's end-of-text token, where it has one. (Turns of conversations end as the template says.)"""
    split_special_tokens: bool = True
    """Control tokens of the tokenizer that stand in plain text (</s>, <|im_end|>) become plain tokens, as what a document quotes. false:
    they stay control tokens, for text that was prepared with them; `harness data` says how many documents have any. In conversations typed
    ones are always plain."""
    chat_template: Name | None = None
    """How conversations become text, those that are trained and those that are prompts: chatml, llama3, alpaca, hermes_tools (ChatML with
    tools), tokenizer (its own), or the path of a .jinja file; null: the tokenizer's own if it has one, else chatml. What the assistant
    generates stands inside {% generation %}, its stop token included; for templates without such blocks it is found by rendering prefixes.
    Control tokens typed in a message become plain text."""
    chat_template_kwargs: dict[str, Any] = field(default_factory=dict)
    """Further variables of the chat template by name, such as enable_thinking; a row's own chat_template_kwargs come before them. They are
    defaults of the template that is exported."""
    loss_on: Annotated[Literal["all", "assistant", "last_assistant", "flagged", "spans"], Conversational] = "assistant"
    """Which tokens of a conversation are trained. all; assistant: every turn of the assistant with its reasoning, tool calls and stop
    token, whatever its flag; last_assistant: the last such turn; flagged: those with train (or weight) true or 1 in the data, no others;
    spans: the characters in train_spans, [[start, end], …] of a message's content, and no others."""
    cache_dir: Name | None = None
    """Where tokenized text is kept; null: $HARNESS_CACHE, else ~/.cache/harness."""


def evaluation_sections(data: type[DataConfig] = DataConfig) -> dict[str, str]:
    """The mappings of data.* that hold evaluation sets, in order, and what each logs its metrics under. data: a subclass, with others."""
    hints = get_type_hints(data, include_extras=True)
    marked = {name: [part for part in get_args(hint)[1:] if isinstance(part, EvaluationSets)] for name, hint in hints.items()}
    return {name: marks[0].prefix for name, marks in marked.items() if marks}
