"""The paper's four steps, (a) to (d), as functions of a run."""
