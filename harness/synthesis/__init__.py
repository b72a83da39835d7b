"""Synthetic data: from a recipe to a data set. No torch; what needs a model is in `harness.work`.

recipe.py, template.py, seeds.py   what a recipe says, and the rows that it begins with
plan.py, row.py                    which rows there are, and what is asked for them
directory.py, status.py            what is on disk meanwhile, and what it has cost
endpoint.py, endpoint_messages.py  teachers that are asked by HTTP
stages.py                          what becomes of written rows, in this order:
  filters.py, text_measures.py       by what is in them
  deduplicate.py, near_duplicates.py near duplicates, by MinHash and then exactly
  decontaminate.py, evaluation_texts.py  what models are evaluated on
  select.py, emit.py                 which of a prompt's draws, and as what
card.py, card_figures.py           the data card
"""
