"""Who may do what: tokens, their scopes, who calls, and the trail of what was done. No HTTP."""
