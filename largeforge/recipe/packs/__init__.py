"""Packs: recipes and choices of others, fetched from git, pinned, and never more than data.

project.py    what the working directory wants: `largeforge.yaml`
lockfile.py   what it gets: commit and content hash, `packs.lock`
address.py    which addresses and revisions git is given
git.py        git, run so that a hostile repository can do nothing
tree.py       which files of a repository are taken, and their hash
cache.py      where they lie
fetch.py      from an entry to a pinned pack in the cache
installed.py  the packs of the working directory, and their choices
loading.py    a pack's file as Hydra gets it: names resolved, sizes counted
policy.py     what a pack may say in a composed recipe
check.py      all of it, before a pack is published or added
"""
