"""What a person sees in the terminal: messages and progress, a run while it trains, tables of results."""
