"""Documents to tokens to rows to batches, the same for everybody who asks with the same configuration.

    local_path                  remote.py                     addresses and hub names to paths
    find_source, read_files     sources.py, text_files.py     paths to files, and files to texts
    read_rows                   rows.py, text_rows.py,        files to rows, and what becomes of those that cannot be used
                                arrow_rows.py, row.py
    read_conversations,         chat/                         instruction data to text by a chat template, and to a mask of what is trained
    ChatEncoder
    tokenize                    token_cache.py,              texts to tokens, once, on disk
    Tokenization                tokenization.py               the files of a configuration as tokens
    held_out, refuse_leaks      split.py                      what is trained on, what is evaluated on
    pack                        packing.py, best_fit.py       lengths to rows
    DataOrder                   order.py                      positions of the run to rows of sources
    build_training_data         mixture.py, training_data.py  all of that, and the plan in tokens
    build_loader                dataset.py                    rows to tensors; the only file that knows torch

stdlib_corpus.py and byte_bpe.py make text and a tokenizer out of nothing but Python, for examples and tests.
"""
