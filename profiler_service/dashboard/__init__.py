"""Pages for people: rendered here, from what `answering` gives, with figures of `plots`.

Every page works without JavaScript; with it, pages renew parts of themselves, and figures are
drawn. Pages name each other by relative addresses: a proxy may offer the service below a path.
"""
