"""Find, trust and reuse the hyperparameters of continued pretraining and fine-tuning of language models.

Read the folders from the bottom up; imports only go down these floors:

    cli                                              verbs, and the one place where the pieces are put together
    search | launch | tracking | training | report   siblings that do not import each other
    data | models | optim
    schedule | config | runs                         no torch here
"""

__version__ = "0.1.0"
