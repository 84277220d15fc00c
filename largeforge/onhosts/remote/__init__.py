"""The program that runs on hosts of trainings: only the standard library, Python 3.9 or newer, and no import of
LargeForge. Its files lie in one folder there, so that they import each other by their bare names.

job.py       the command line, and what a host is asked first
turns.py     the line of those who wait
places.py    what there is to compute on, and who has it
begin.py     the beginning of a job whose turn it is
prepare.py   what lies in its folder before
unit.py      its unit of systemd
carry.py     what the unit runs
follow.py    what a job tells, as it grows
status.py    how a job stands, and its end from outside
brought.py   inputs that were brought
folders.py   where all that is
facts.py     what the host has
disk.py      files as they are read and written
talk.py      the other end of the connection
"""
