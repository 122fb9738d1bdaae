"""Where a clip comes from, and how a file says so: receipts, marks, content credentials."""
