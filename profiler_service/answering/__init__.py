"""Answers questions: finds the answer in stored curves, or has it measured, or names the sweep.

Knows no HTTP: routes, pages and tests call it in the same way. Services belong to one event loop,
and call the store only from threads.
"""
