"""Evaluation sets: what a model is measured on, the same for every trial whatever it trains.

    kinds.py              what each kind logs (names, units, directions) and costs; light, for the command line, search and report
    evaluation_set.py     a set that is ready to be measured, and what it may ask of a model
    build.py              the sets of a configuration
    domain_loss.py        data.validation: loss, bits per byte and forgetting
    scored_texts.py       token sequences whose ends are scored, in batches
    loss_by_position.py   the same, and the loss by position (data.validation.<name>.loss_by_position)
    multiple_choice.py    data.multiple_choice: accuracies (choice_formats.py reads the rows)
    generation_set.py     data.generation: what a model writes, verified (verifiers/) and counted (text_statistics.py)
    lm_eval/              data.lm_eval: tasks of EleutherAI's lm-evaluation-harness

No file here imports torch: a set asks a `LanguageModel` for losses and texts, and `harness.training.evaluation` makes one of a transformers
model.
"""
