"""Documents to tokens to rows to batches, the same for everybody who asks with the same configuration.

    source_files, read_files    sources.py, formats.py,       paths to texts
                                rows.py
    read_conversations,         chat/                         instruction data to text by a chat template, and to a mask of what is trained
    ChatEncoder
    tokenize                    token_cache.py, encoder.py    texts to tokens, once, on disk
    Tokenization                tokenization.py               the files of a configuration as tokens
    held_out, refuse_leaks      split.py                      what is trained on, what is evaluated on
    pack                        packing.py, best_fit.py       lengths to rows
    DataOrder                   order.py                      positions of the run to rows of sources
    build_training_data         mixture.py, training_data.py  all of that, and the plan in tokens
    build_loader                dataset.py                    rows to tensors; the only file that knows torch

stdlib_corpus.py and byte_bpe.py make text and a tokenizer out of nothing but Python, for examples and tests.
"""
