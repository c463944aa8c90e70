"""What decides an answer: find it in stored curves, else have it measured, else name the sweep.

No HTTP: routes, pages and tests call it alike. Services belong to one event loop, and call the
store from threads only.
"""
