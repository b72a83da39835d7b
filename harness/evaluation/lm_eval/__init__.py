"""data.lm_eval: tasks of EleutherAI's lm-evaluation-harness, measured with our own engine.

task_files.py      their YAML files, those that ship with lm_eval among them: read without running anything
trusted.py         which of them may be used: a file that runs code needs its user's word
loaded.py          tasks of lm_eval with their documents and requests
requests.py        what they ask of a model, as token ids
lm_eval_set.py     the evaluation set
"""
