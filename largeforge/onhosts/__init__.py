"""Stages on the hosts of an inventory: a local process takes the stage's place and brings the artifact home.

task.py         what that process is told: the stage, the hosts that would do, what it needs of them
proxy.py        the process: starts the job or finds it again, follows it, brings the artifact home
starting.py     a turn on a host or on several, files, environment, the job
ends.py         how it ended, and which of several hosts was the cause
remote/         what runs on a host: the queue, the job as a transient unit, what it tells
host.py         one host: that program, brought there and asked over ssh
choice.py       which hosts can do it, and which is first
line.py         in line on several hosts at once, until the first has a turn
inputs.py       what a stage reads, by the digest of its content, and where it is on the host
python.py       the interpreter on the host: built there, or compared with this one
following.py    events and log of a job, over a connection that may break
place.py        which hosts have a stage of a run: what lets another process find it again
"""
