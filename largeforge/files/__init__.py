"""Data files: which ones a path means, here or on a remote store; never what is in them.

paths.py    what a path says by itself: remote or local, pattern, known suffix
local.py    files that a local path means: one file, a folder, a pattern
remote.py   versions and lists of remote files; needs the network
cached.py   local copies of remote files
content.py  what identifies the data behind a path, for locks and fingerprints
"""
