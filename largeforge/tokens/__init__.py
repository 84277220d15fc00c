"""From prepared rows to token ids with a loss mask: one place for training, `data show` and serving checks.

template.py   chat templates, rendered as transformers renders them, without its cost per call
engine.py     text to token ids, and where in them the answer begins
slow.py       the same through transformers, for tokenizers that are not plain tokenizers of `tokenizers`
rows.py       a prepared row of any kind to the sequences that a trainer takes
parts.py      many rows at once, as columns; what is wrong with some of them
worker.py     a process that makes parts; pool.py spreads a file over such processes
store.py      what was tokenized before, by content
examine.py    what is suspicious about a rendering, in words
probe.py      ids of a conversation, to compare a server with
"""
