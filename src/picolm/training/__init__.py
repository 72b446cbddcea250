"""The loop: batches, optimizer, schedule, validation, record, display."""
