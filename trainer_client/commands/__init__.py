"""Commands of `lhp-train`, and what several of them share."""
