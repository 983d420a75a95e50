"""Measure the files of a model on this machine: what ``mnist-edge bench`` calls.

`running` starts the processes and collects what they report, `child` is what runs in them, `by_onnxruntime` and `by_c`
open the files there, `records` holds the figures, and `choice` draws the conclusion. A process measures one file once,
with nothing in memory that another file left there; round by round every file has its turn, in rotating order, so that
a machine that becomes slower or faster meanwhile does so for all of them.
"""
