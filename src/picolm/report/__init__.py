"""One self-contained HTML page of a run: no request to anywhere, nothing of the run's text taken for markup."""
