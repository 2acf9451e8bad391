"""Writing inspections: records.py commits groups of them, ledger.py knows which files were inspected."""
