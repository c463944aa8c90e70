"""The commands of `lhp`, by topic. Each command imports its packages only when it runs."""
