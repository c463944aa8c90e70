"""How fast pages of large curves and long lists open, and what open pages cost a warm query.

`python -m benchmarks.pages`. The referee looks through a real Chromium and at the bytes on the
wire, and shares no code with the service.
"""
